"""Sampling of the noise source: when, what, and nothing without a source."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from stepping import resolve, step_words

from qrelay.protocol.registers import GROUPS
from qrelay_gateware.health import HealthTests
from qrelay_gateware.layouts import config_layout, status_layout
from qrelay_gateware.noise import NoiseSampler
from qrelay_sim.golden.health import health

RESETS = {r.name: r.reset for g in GROUPS if g.name == "entropy" for r in g.registers if r.access == "rw"}
OUTPUTS = ("tick", "valid", "sample", "healthy", "failed", "status")


def stepped(noise, **settings):
    assert set(settings) <= set(config_layout("entropy").members)
    return step_words(NoiseSampler(present=True), {"noise": noise}, OUTPUTS, config=RESETS | settings)


@pytest.mark.parametrize("sample_words", [1, 2, 3, 64])
def test_samples_are_the_level_every_so_many_words(sample_words):
    noise = np.random.default_rng(1).integers(0, 2, 1000)
    seen = stepped(noise, sample_words=sample_words)
    ticks = np.flatnonzero(seen["tick"])
    assert set(np.diff(ticks).tolist()) == {max(sample_words, 2)}
    valid = np.flatnonzero(seen["valid"])
    np.testing.assert_array_equal(valid, ticks[: len(valid)] + 1)
    np.testing.assert_array_equal(np.array(seen["sample"])[valid], noise[valid - 1])


def test_failure_is_told_once_and_the_status_follows_the_samples():
    random = np.random.default_rng(2)
    noise = np.concatenate([random.integers(0, 2, 2 * 1500), np.ones(2 * 300, int)])
    seen = stepped(noise, sample_words=2, repetition_cutoff=41)
    samples = np.array(seen["sample"])[np.flatnonzero(seen["valid"])].astype(np.uint8)
    trace = health(samples, 41, RESETS["proportion_cutoff"])
    assert sum(seen["failed"]) == 1
    (failed,) = np.flatnonzero(seen["failed"])
    assert failed == np.flatnonzero(seen["valid"])[trace.failed_at[-1] - 1] + HealthTests.latency + 1
    assert failed <= np.flatnonzero(seen["tick"])[trace.failed_at[-1] - 1] + NoiseSampler.rest_words
    status = status_layout("entropy").from_bits(seen["status"][-1])
    settled = np.count_nonzero(seen["valid"][: -HealthTests.latency]) - 1
    assert status.health == 0b0101
    assert status.failed_at == trace.failed_at[-1]
    assert status.longest_run == trace.longest_run[settled]
    assert status.largest_count == trace.largest_count[settled]
    assert seen["healthy"][2 * 1400] == 1
    assert seen["healthy"][-1] == 0


def test_without_a_source_nothing_happens():
    sampler = NoiseSampler(present=False)

    async def bench(ctx):
        ctx.set(sampler.noise, 1)
        for output in OUTPUTS:
            assert ctx.get(resolve(sampler, output)) == 0

    simulator = Simulator(sampler)  # which has no clock
    simulator.add_testbench(bench)
    simulator.run()
