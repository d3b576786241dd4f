"""Step a block word by word in Amaranth's simulator: input columns in, output columns out."""

from functools import lru_cache

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

    `component` is a block, or a class of blocks: one simulator of it then serves all cases, each from the state after
    configuration, as to make one of a large block takes longer than to step it through a few hundred words.

    `inputs` maps port names to a column of integers (all of one length), `outputs` names ports. `config` is set once;
    `tables` maps table ports to lists of entries, written before the first word. Outputs are taken in the word of the
    inputs, so what depends on them without a register shows at once.
    """
    stepper = _shared(component) if isinstance(component, type) else _Stepper(component)
    return stepper.step(inputs, outputs, config=config, tables=tables)


@lru_cache(maxsize=2)
def _shared(kind):
    return _Stepper(kind())


class _Stepper:
    """A block and its simulator."""

    def __init__(self, component):
        self.component = component
        self.simulator = None
        self.case = None

    def step(self, inputs, outputs, *, config, tables):
        columns = {name: [int(value) for value in column] for name, column in inputs.items()}
        words = len(next(iter(columns.values())))
        assert all(len(column) == words for column in columns.values())
        results = {name: [] for name in outputs}
        self.case = columns, words, results, config, tables or {}
        if self.simulator is None:
            self.simulator = Simulator(self.component)
            self.simulator.add_clock(1e-6)
            self.simulator.add_testbench(self._bench)
        else:
            self.simulator.reset()
        self.simulator.run()
        return results

    async def _bench(self, ctx):
        columns, words, results, config, tables = self.case
        ports = {name: resolve(self.component, name) for name in [*columns, *results]}
        if config is not None:
            ctx.set(self.component.config, config)
        for name, entries in tables.items():
            port = getattr(self.component, name)
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
            for name, column in results.items():
                column.append(ctx.get(ports[name]))
            await ctx.tick()
