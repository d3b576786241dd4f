"""cocotb: the exported probe against its model."""

import cocotb
import numpy as np
from amaranth.lib import data
from clocked import clocked_words
from test_probe import LATENCY, ProbeCase

from benches import pack
from qrelay.protocol.registers import PROBES
from qrelay_gateware.layouts import config_layout

CONFIG = data.Layout.cast(config_layout("modulator"))


@cocotb.test()
@cocotb.parametrize(content=PROBES)
async def content_against_the_model(dut, content):
    case = ProbeCase(9, words=800)
    config = {"probe": PROBES.index(content), "probe_detector": 2, "probe_period": 17}
    seen = await clocked_words(dut, case.columns(), ["out"], config=pack(CONFIG, config))
    np.testing.assert_array_equal(seen["out"][LATENCY:], case.model(content, 2, 17)[:-LATENCY])
