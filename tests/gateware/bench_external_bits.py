"""cocotb: key bits from outside on the exported Verilog, against the golden model; with `CHIP` in an SDRAM."""

import os

import cocotb
from clocked import reset, write_table
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge
from external_cases import OUTPUTS, cases
from sdram_chip import ChipModel

from qrelay_gateware.layouts import config_layout

CONFIG = config_layout("external")
CHIP = "CHIP" in os.environ
ANSWER_WORDS = 54 if CHIP else 8
READY_WORDS = 10_000


def config(**values):
    return CONFIG.const({"enable": 1} | values).as_value().value


async def step_chip(dut):
    chip = ChipModel(power_up_ns=2000)
    while True:
        await FallingEdge(dut.clk)
        pins = (getattr(dut, f"sdram__{name}") for name in ("command", "bank", "address", "data", "drive", "mask"))
        word = chip.clock(*(int(pin.value) for pin in pins))
        await RisingEdge(dut.clk)
        # With the registers: what the chip gives comes from a register in the pad.
        dut.sdram__read_data.value = word


@cocotb.test()
@cocotb.parametrize(index=range(6))
async def as_the_golden_model(dut, index):
    case = cases(CHIP)[index]
    columns = case.columns
    for name in (*columns, "arm", "address", "offsets__enable"):
        getattr(dut, name).value = 0
    dut.config.value = config()
    dut.clock_locked.value = 1
    if CHIP:
        cocotb.start_soon(step_chip(dut))
    await reset(dut)
    await FallingEdge(dut.clk)
    if CHIP:
        # `status` is answered, lookback, failed.
        for _ in range(READY_WORDS):
            await FallingEdge(dut.clk)
        dut.arm.value = 1
        await FallingEdge(dut.clk)
        dut.arm.value = 0
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
    for _ in range(ANSWER_WORDS * len(case.slots)):
        await FallingEdge(dut.clk)
    answers = []
    for address in range(len(case.slots)):
        dut.address.value = address
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        answers.append(int(dut.value.value))
    assert answers == case.answers
