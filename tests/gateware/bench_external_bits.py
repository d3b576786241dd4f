"""cocotb: key bits from outside on the exported Verilog, against the golden model."""

import cocotb
from clocked import reset, write_table
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from external_cases import OUTPUTS, cases

from qrelay_gateware.layouts import config_layout

CONFIG = config_layout("external")


def config(**values):
    return CONFIG.const({"enable": 1} | values).as_value().value


@cocotb.test()
@cocotb.parametrize(index=range(6))
async def as_the_golden_model(dut, index):
    case = cases()[index]
    columns = case.columns
    for name in (*columns, "arm", "address", "offsets__enable"):
        getattr(dut, name).value = 0
    dut.config.value = config()
    await reset(dut)
    await FallingEdge(dut.clk)
    seen = {name: [] for name in OUTPUTS}
    for word in range(len(case.ticks)):
        for name, column in columns.items():
            getattr(dut, name).value = int(column[word])
        await ReadOnly()
        for name in OUTPUTS:
            seen[name].append(int(getattr(dut, name).value))
        await RisingEdge(dut.clk)
        await FallingEdge(dut.clk)
    case.check(seen)
    dut.tick.value = 0
    await write_table(dut, "offsets", (case.slots - case.base).tolist())
    dut.config.value = config(base=case.base, ask=len(case.slots))
    await FallingEdge(dut.clk)
    dut.config.value = config(base=case.base)
    for _ in range(8 * len(case.slots)):
        await FallingEdge(dut.clk)
    answers = []
    for address in range(len(case.slots)):
        dut.address.value = address
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        answers.append(int(dut.value.value))
    assert answers == case.answers
