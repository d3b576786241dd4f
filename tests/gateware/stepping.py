"""Step a block word by word in Amaranth's simulator: input columns in, output columns out."""

from amaranth.hdl import Value
from amaranth.sim import Simulator


def resolve(component, name):
    """Port by dotted name, as bits."""
    port = component
    for part in name.split("."):
        port = getattr(port, part)
    return Value.cast(port)


def step_words(component, inputs, outputs, *, config=None, tables=None):
    """Outputs per word for the inputs per word.

    `inputs` maps port names to a column of integers (all of one length), `outputs` names ports. `config` is set once;
    `tables` maps table ports to lists of entries, written before the first word. Outputs are taken in the word of the
    inputs, so what depends on them without a register shows at once.
    """
    columns = {name: [int(value) for value in column] for name, column in inputs.items()}
    words = len(next(iter(columns.values())))
    assert all(len(column) == words for column in columns.values())
    ports = {name: resolve(component, name) for name in columns}
    results = {name: [] for name in outputs}

    async def bench(ctx):
        if config is not None:
            ctx.set(component.config, config)
        for name, entries in (tables or {}).items():
            port = getattr(component, name)
            ctx.set(port.enable, 1)
            for address, value in enumerate(entries):
                ctx.set(port.address, address)
                ctx.set(port.value, int(value))
                await ctx.tick()
            ctx.set(port.enable, 0)
            await ctx.tick().repeat(4)
        present = dict.fromkeys(columns)
        for word in range(words):
            for name, column in columns.items():
                if column[word] != present[name]:
                    present[name] = column[word]
                    ctx.set(ports[name], column[word])
            for name in outputs:
                results[name].append(ctx.get(resolve(component, name)))
            await ctx.tick()

    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return results
