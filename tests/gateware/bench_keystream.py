"""cocotb: the exported keystream against the model of its contract."""

import cocotb
from amaranth.lib import data
from clocked import reset
from cocotb.triggers import FallingEdge
from keystream_cases import CASES, random_case, words_of

from benches import pack
from qrelay_gateware.layouts import config_layout

CONFIG = data.Layout.cast(config_layout("keystream"))


async def run(dut, commands):
    settings = {"nonce": 0, "stream": 0, "enable": 0}
    for name in ("go", "halt", "start_slot", "config", "key__enable", "key__address", "key__value"):
        getattr(dut, name).value = 0
    await reset(dut)
    present = {}

    def drive(name, value):
        if present.get(name, 0) != value:
            present[name] = value
            getattr(dut, name).value = value

    words_valid = 0
    for word, (inputs, expected) in enumerate(words_of(commands)):
        settings |= {name: value for name, value in inputs.items() if name in settings}
        drive("config", pack(CONFIG, settings | {"load": inputs.get("load", 0)}))
        drive("go", inputs.get("go", 0))
        drive("halt", inputs.get("halt", 0))
        drive("start_slot", inputs.get("start_slot", 0))
        drive("key__enable", int("key" in inputs))
        if "key" in inputs:
            drive("key__address", inputs["key"][0])
            drive("key__value", inputs["key"][1])
        seen = tuple(int(getattr(dut, name).value) for name in ("valid", "draws", "ready", "fresh"))
        assert seen == expected, f"word {word}"
        words_valid += seen[0]
        await FallingEdge(dut.clk)
    return words_valid


@cocotb.test()
@cocotb.parametrize(case=list(CASES))
async def case(dut, case):
    assert await run(dut, CASES[case])


@cocotb.test()
@cocotb.parametrize(seed=list(range(20, 40)))
async def random_commands(dut, seed):
    await run(dut, random_case(seed))
