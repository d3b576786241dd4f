"""Tables of the time-to-digital converter against their models."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from stepping import step_words
from tdc_cases import density_case, table_case

from benches import run_bench
from qrelay_gateware.tdc_calibration import CodeDensity, TdcCalibration
from qrelay_sim.golden.tdc import calibrated, histogram


def test_times_against_the_model():
    table, codes, valid, hits = table_case(1)
    timed = step_words(TdcCalibration, {"hit": hits}, ["timed"], tables={"table": table})["timed"]
    check_times(timed, table, codes, valid)


def check_times(timed, table, codes, valid):
    timed = np.array(timed[TdcCalibration.latency :])
    length = len(timed)
    np.testing.assert_array_equal(timed & 1, valid[:length])
    times = calibrated(codes[:length], table)
    np.testing.assert_array_equal((timed >> 1 & 511)[valid[:length]], times[valid[:length]])
    np.testing.assert_array_equal(timed >> 10, codes[:length] % 32)


class Histogram:
    """The block in a simulator: hits, then a reading of all bins."""

    def __init__(self):
        self.block = CodeDensity()

    def run(self, *steps):
        """Each step: a function of (ctx, block); returns their results."""
        results = []

        async def bench(ctx):
            for step in steps:
                results.append(await step(ctx, self.block))

        simulator = Simulator(self.block)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        simulator.run()
        return results


def counting(hits):
    async def step(ctx, block):
        ctx.set(block.run, 1)
        for hit in hits:
            ctx.set(block.hit.as_value(), int(hit))
            await ctx.tick()
        ctx.set(block.run, 0)
        ctx.set(block.hit.as_value(), 0)
        await ctx.tick().repeat(block.latency)

    return step


async def reading(ctx, block):
    counts = []
    for address in range(512):
        ctx.set(block.address, address)
        await ctx.tick().repeat(block.read_latency)
        counts.append(ctx.get(block.count))
    return np.array(counts)


async def clearing(ctx, block):
    ctx.set(block.clear, 1)
    await ctx.tick()
    ctx.set(block.clear, 0)
    assert ctx.get(block.busy)
    clocks = 0
    while ctx.get(block.busy):
        await ctx.tick()
        clocks += 1
    assert clocks == 512


@pytest.mark.parametrize("kinds", [1, 2, 3, 40, 288])
def test_every_hit_is_counted(kinds):
    """Few kinds of codes: the same code again while its sum is on the way."""
    codes, valid, hits = density_case(kinds)
    _, counts, _, empty, _, again = Histogram().run(
        counting(hits), reading, clearing, reading, counting(hits[:50]), reading
    )
    np.testing.assert_array_equal(counts, histogram(valid, codes))
    assert not empty.any()
    np.testing.assert_array_equal(again, histogram(valid[:50], codes[:50]))


def test_hits_count_while_running_only():
    hits = density_case(40)[2]

    async def stopped(ctx, block):
        for hit in hits:
            ctx.set(block.hit.as_value(), int(hit))
            await ctx.tick()
        ctx.set(block.hit.as_value(), 0)

    _, counts = Histogram().run(stopped, reading)
    assert not counts.any()


@pytest.mark.cocotb
def test_exported_table(tmp_path):
    run_bench(TdcCalibration(), "bench_tdc_calibration", tmp_path)
