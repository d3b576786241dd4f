"""Health tests of the noise source: golden model, corner cases, the same on exported Verilog."""

import numpy as np
import pytest
from receiver_cases import Case
from stepping import step_words

from benches import run_bench
from qrelay_gateware.health import HealthTests
from qrelay_sim.coin import BiasedCoin
from qrelay_sim.golden.health import health

SEEN = (
    "healthy",
    "repetition_failed",
    "proportion_failed",
    "samples",
    "failed_at",
    "longest_run",
    "largest_count",
)
SETTLE = 6
"""Words without samples around a restart."""


def health_case(name, parts, *, cutoffs=(81, 824), pause=0, seed=1):
    """Parts are sequences of samples with a restart before each but the first; `pause` words lie between samples."""
    random = np.random.default_rng(seed)
    valid, sample, restart, expected = [], [], [], []
    for number, samples in enumerate(parts):
        trace = health(np.asarray(samples, np.uint8), *cutoffs)
        for column, what in ((valid, 0), (sample, 0), (restart, int(number > 0))):
            column += [0] * SETTLE + [what] + [0] * SETTLE
        expected += [None] * (2 * SETTLE) + [(0,) * len(SEEN)]
        for place, value in enumerate(samples):
            valid += [1] + [0] * pause
            sample += [int(value), *random.integers(0, 2, pause).tolist()]
            restart += [0] * (1 + pause)
            state = tuple(place + 1 if what == "samples" else int(getattr(trace, what)[place]) for what in SEEN)
            expected += [state] * (1 + pause)
    inputs = {
        "valid": valid + [0] * SETTLE,
        "sample": sample + [0] * SETTLE,
        "restart": restart + [0] * SETTLE,
        "repetition_cutoff": [cutoffs[0]] * (len(valid) + SETTLE),
        "proportion_cutoff": [cutoffs[1]] * (len(valid) + SETTLE),
    }

    def check(seen):
        for place, output in enumerate(SEEN):
            # The number of samples is that of the words before; the rest follows two words later.
            late = 1 if output == "samples" else HealthTests.latency
            for word, state in enumerate(expected):
                if state is not None and word + late < len(seen[output]):
                    assert seen[output][word + late] == state[place], (name, output, word)

    return Case(name, inputs, SEEN, check)


def cases():
    random = np.random.default_rng(20)
    fair = BiasedCoin()
    yield health_case("fair", [fair.samples(3000, random)])
    yield health_case("fair_with_pauses", [fair.samples(1100, random)], pause=3)
    yield health_case("restarted", [fair.samples(1500, random), fair.samples(1023, random), fair.samples(1024, random)])
    yield health_case("biased", [BiasedCoin(0.85).samples(2500, random)])
    yield health_case("zeros_preferred", [BiasedCoin(0.2).samples(1500, random)])
    yield health_case("repeats", [BiasedCoin(0.5, 0.9).samples(3000, random)], cutoffs=(41, 600))
    yield health_case("stuck_from_the_start", [[1] * 1200, fair.samples(1100, random)])
    dying = np.concatenate([fair.samples(1500, random), np.zeros(600, np.uint8)])
    yield health_case("dies", [dying])
    yield health_case("run_of_cutoff_less_one", [alternating([1, 80, 1, 80, 1] * 9)])
    yield health_case("run_of_cutoff", [alternating([1, 80, 1, 81, 1, 1, 1] * 9)])
    yield health_case("run_longer_than_counted", [[0] * 1030 + [1, 0]], cutoffs=(1023, 1024))
    yield health_case("window_of_cutoff_less_one", [window(824 - 1)])
    yield health_case("window_of_cutoff", [window(824)])
    yield health_case("least_cutoffs", [[0, 1, 1]], cutoffs=(1, 1024))
    yield health_case("least_proportion", [[0, 1, 1]], cutoffs=(81, 1))


def alternating(lengths):
    """Runs of these lengths, beginning with zeros."""
    return np.concatenate([np.full(length, place % 2, np.uint8) for place, length in enumerate(lengths)])


def window(equal):
    """A fair window, then one in which `equal` samples, spread evenly, equal the first."""
    rest = np.floor(np.arange(1, 1024) * (equal - 1) / 1023 + 1e-9)
    second = np.concatenate([[1], np.diff(np.concatenate([[0], rest]))]).astype(np.uint8)
    assert second.sum() == equal
    return np.concatenate([np.arange(1024) % 2, second, [0] * 5]).astype(np.uint8)


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_health_equals_the_model(case):
    case.check(step_words(HealthTests, case.inputs, case.outputs))


def test_what_is_near_a_restart_is_lost_not_mixed():
    """Samples in the words around a restart: whatever is dropped, no verdict of before comes through."""
    words = 40
    inputs = {
        "valid": [1] * words,
        "sample": [1] * words,
        "restart": [int(word == 20) for word in range(words)],
        "repetition_cutoff": [20] * words,
        "proportion_cutoff": [1024] * words,
    }
    seen = step_words(HealthTests, inputs, SEEN)
    assert seen["repetition_failed"][20 + 1 :] == [0] * (words - 21)
    assert 0 < seen["longest_run"][-1] < 20
    assert seen["samples"][21] == 0


@pytest.mark.parametrize("wrong", [0, 3, 2048])
def test_window_must_be_a_power_of_two(wrong):
    with pytest.raises(ValueError, match=f"window {wrong}; give a power of two, 2 to 1024"):
        HealthTests.__init__(object.__new__(HealthTests), wrong)


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(HealthTests(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_health"})
