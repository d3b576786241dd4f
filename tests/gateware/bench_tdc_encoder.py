"""cocotb: the exported encoder against its model."""

import cocotb
from amaranth.lib import data
from clocked import clocked_words
from tdc_cases import EncoderCase, integers

from benches import pack
from qrelay_gateware.tdc_encoder import TdcConfig, TdcEncoder


@cocotb.test()
@cocotb.parametrize(kind=["long", "short", "noise"], seed=[1, 2])
async def captures_against_the_model(dut, kind, seed):
    case = EncoderCase(kind, seed, captures=2000)
    config = pack(data.Layout.cast(TdcConfig), case.config)
    seen = await clocked_words(dut, {"taps": integers(case.taps)}, ["hit"], config=config)
    case.check(seen["hit"], TdcEncoder().latency)
