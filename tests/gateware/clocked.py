"""Step exported Verilog word by word under cocotb: input columns in, output columns out."""

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge


async def reset(dut):
    """Start the clock and reset the block; returns after a falling edge with reset gone."""
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    await FallingEdge(dut.clk)
    dut.rst.value = 0


async def write_table(dut, name, entries):
    """Write entries of a table from address 0 on."""
    getattr(dut, f"{name}__enable").value = 1
    for address, entry in enumerate(entries):
        getattr(dut, f"{name}__address").value = address
        getattr(dut, f"{name}__value").value = int(entry)
        await FallingEdge(dut.clk)
    getattr(dut, f"{name}__enable").value = 0


async def clocked_words(dut, inputs, outputs, *, config=None, tables=None):
    """Outputs per word for the inputs per word, from reset on (tables are written before the first word)."""
    columns = {name: [int(value) for value in column] for name, column in inputs.items()}
    words = len(next(iter(columns.values())))
    for name in columns:
        getattr(dut, name).value = 0
    if config is not None:
        dut.config.value = config
    await reset(dut)
    for name, entries in (tables or {}).items():
        await write_table(dut, name, entries)
    if tables:
        for _ in range(4):
            await FallingEdge(dut.clk)
    inputs_by_name = {name: getattr(dut, name) for name in columns}
    outputs_by_name = {name: getattr(dut, name) for name in outputs}
    results = {name: [] for name in outputs}
    present = dict.fromkeys(columns)
    for word in range(words):
        for name, column in columns.items():
            if column[word] != present[name]:
                present[name] = column[word]
                inputs_by_name[name].value = column[word]
        await ReadOnly()
        for name, output in outputs_by_name.items():
            results[name].append(int(output.value))
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
    return results
