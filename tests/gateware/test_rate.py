"""Rate meter and test pulser: both live without a run."""

import numpy as np
import pytest
from receiver_cases import Case, assert_columns, split_bits
from stepping import step_words
from test_clicks import detector_bits

from benches import run_bench
from qrelay_gateware.pulser import TestPulser
from qrelay_gateware.rate import RateMeter
from qrelay_sim.golden.pulser import pulses
from qrelay_sim.golden.rate import rates


def rate_case(name, interval, hits):
    words = hits.shape[1] // 4
    inputs = {"hits": detector_bits(hits, 1), "words": [interval] * words}

    def check(seen):
        shown = split_bits(seen["rates"], 32, 4)
        for d in range(4):
            # The meter adds a word's hits one clock later, and shows an interval from the clock after its end.
            model = rates(hits[d].reshape(-1, 4).sum(axis=1), interval, RateMeter.latency - 1)
            by_word = np.repeat(np.concatenate(([0], model)), max(interval, 2))[:words]
            np.testing.assert_array_equal(shown[: len(by_word), d], by_word)

    return Case(name, inputs, ("rates",), check)


def rate_cases():
    random = np.random.default_rng(9)
    for interval in (0, 1, 2, 3, 10, 100):
        for density in (0.03, 1.0):
            yield rate_case(f"random_{interval}_{density}", interval, random.random((4, 4 * 500)) < density)


def pulser_case(period):
    def check(seen):
        assert_columns(seen["fire"], pulses(300, period).astype(int), 0, "fire")

    return Case(f"period_{period}", {"period": [period] * 300}, ("fire",), check)


CASES = list(rate_cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rate_equals_the_model(case):
    case.check(step_words(RateMeter, case.inputs, case.outputs))


@pytest.mark.parametrize("case", [pulser_case(period) for period in (0, 1, 2, 3, 64)], ids=str)
def test_pulser_equals_the_model(case):
    case.check(step_words(TestPulser, case.inputs, case.outputs))


def test_shorter_interval_acts_at_once():
    words = [1000] * 50 + [10] * 50
    seen = step_words(RateMeter, {"words": words, "hits": [1] * 100}, ("rates",))["rates"]
    assert [rate & 0xFFFFFFFF for rate in (seen[51], seen[52], seen[99])] == [0, 51, 10]


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(RateMeter(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_rate"})
