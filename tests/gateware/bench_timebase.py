"""cocotb: the exported time base against its golden model."""

import cocotb
import numpy as np
from amaranth.lib import data
from clocked import clocked_words
from cocotb.triggers import FallingEdge

from benches import pack, unpack
from qrelay_gateware.layouts import config_layout, status_layout
from qrelay_sim.golden.timebase import TimeBaseSettings, time_base

START_LATENCY = 7
CONFIG = data.Layout.cast(config_layout("timebase"))
STATUS = data.Layout.cast(status_layout("timebase"))
PORTS = ["go", "running", "slot_word", "armed", "finished", "refused", "sync_slip", "start_out"]


@cocotb.test()
@cocotb.parametrize(length=[0, 4000])
async def a_run_without_length_has_no_end(dut, length):
    """The word countdown takes 10 days to end by itself, so the bench brings it to its end."""
    strobes = {"arm": [1, 0, 0], "start": [0, 0, 1], "disarm": [0] * 3, "start_bins": [0] * 3}
    config = pack(CONFIG, {"length": length})
    await clocked_words(dut, {name: [*column, *[0] * 20] for name, column in strobes.items()}, [], config=config)
    assert dut.running.value == 1
    dut.words_left.value = 0
    for _ in range(3):
        await FallingEdge(dut.clk)
    assert dut.running.value == (length == 0)


@cocotb.test()
@cocotb.parametrize(source=[0, 1], start_slot=[0, (1 << 48) - 80], length=[0, 160], sync_period=[0, 6])
async def random_strobes_and_edges(dut, source, start_slot, length, sync_period):
    random = np.random.default_rng(source + 2 * length + sync_period)
    words = 1500
    settings = TimeBaseSettings(START_LATENCY, source, start_slot, length, sync_period)
    columns = {
        "arm": random.random(words) < 0.1,
        "disarm": random.random(words) < 0.01,
        "start": random.random(words) < 0.1,
        "start_bins": np.where(np.arange(words) % 3, 0, random.choice([1, 2, 4, 0x80, 0x14, 0xFF, 0xFC], words)),
    }
    config = {"start_source": source, "start_slot": start_slot, "length": length, "sync_period": sync_period}
    seen = await clocked_words(dut, columns, [*PORTS, "status"], config=pack(CONFIG, config))
    model = time_base(**columns, settings=settings)
    for name in PORTS:
        np.testing.assert_array_equal(np.array(seen[name], np.uint64), model[name], name)
    status = [unpack(STATUS, bits) for bits in seen["status"]]
    for name in ("start_place", "sync_edges", "sync_slips"):
        np.testing.assert_array_equal([getattr(word, name) for word in status], model[name], name)
    assert model["go"].sum() > 3
