"""cocotb: the cases of a test module (named by the environment) on the exported Verilog."""

import importlib
import os

import cocotb
from clocked import clocked_words

CASES = importlib.import_module(os.environ["QRELAY_CASES"]).CASES


@cocotb.test()
@cocotb.parametrize(index=range(len(CASES)))
async def case(dut, index):
    case = CASES[index]
    dut._log.info("case %s", case)
    inputs = {name.replace(".", "__"): column for name, column in case.inputs.items()}
    ports = {name.replace(".", "__"): name for name in case.outputs}
    seen = await clocked_words(dut, inputs, list(ports))
    case.check({ports[port]: column for port, column in seen.items()})
