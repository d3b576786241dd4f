"""Noise models: their statistics, and that the health tests catch them as often as they should.

Each count below is compared with its exact expectation at a false-alarm rate of 1e-6 per test; seeds are fixed.
"""

import numpy as np
import pytest
from scipy.stats import binomtest, poisson

from qrelay.entropy_health import health_cutoffs, proportion_failure, repetition_failure
from qrelay.protocol.entropy import PROPORTION_WINDOW
from qrelay_sim.coin import BiasedCoin
from qrelay_sim.golden.health import equal_to_first, health, run_lengths

FALSE_ALARM = 1e-6


def assert_rate(seen, trials, probability, what):
    assert binomtest(seen, trials, probability).pvalue > FALSE_ALARM, f"{what}: {seen} of {trials}, p {probability:g}"


@pytest.mark.parametrize(("ones", "repeat"), [(0.5, 0.0), (0.8, 0.0), (0.3, 0.4), (0.5, 0.95)])
def test_statistics_of_the_coin(ones, repeat):
    samples = BiasedCoin(ones, repeat).samples(400_000, np.random.default_rng(1)).astype(int)
    # Samples in which the coin was thrown are independent; those that repeat add nothing: count changes of the sample.
    after_zero = samples[1:][samples[:-1] == 0]
    after_one = samples[1:][samples[:-1] == 1]
    assert_rate(int(after_zero.sum()), len(after_zero), (1 - repeat) * ones, "ones after zeros")
    assert_rate(int(after_one.sum()), len(after_one), repeat + (1 - repeat) * ones, "ones after ones")


def test_min_entropy():
    assert BiasedCoin().min_entropy == 1.0
    assert BiasedCoin(2.0**-0.5).min_entropy == pytest.approx(0.5)
    assert BiasedCoin(1 - 2.0**-0.5).min_entropy == pytest.approx(0.5)
    assert BiasedCoin(0.5, 0.5).min_entropy == pytest.approx(-np.log2(0.75))
    assert BiasedCoin(0.5, 1.0).min_entropy == 0.0


@pytest.mark.parametrize(("ones", "name"), [(1.5, "ones"), (-0.1, "ones")])
def test_no_probability(ones, name):
    with pytest.raises(ValueError, match=f"{name} {ones:g} is no probability; give 0 to 1"):
        BiasedCoin(ones)


@pytest.mark.parametrize("false_alarm_log2", [-10, -12])
@pytest.mark.parametrize("min_entropy", [0.5, 1.0])
def test_false_alarms_are_as_rare_as_stated(min_entropy, false_alarm_log2):
    """A source of exactly the stated min-entropy raises no more alarms per sample and per window than alpha."""
    alpha = 2.0**false_alarm_log2
    cutoffs = health_cutoffs(min_entropy, alpha)
    ones = 2.0**-min_entropy
    count = 4_000_000 // PROPORTION_WINDOW * PROPORTION_WINDOW
    samples = BiasedCoin(ones).samples(count, np.random.default_rng(2))
    runs = int((run_lengths(samples) == cutoffs.repetition).sum())
    windows = equal_to_first(samples).reshape(-1, PROPORTION_WINDOW)[:, -1]
    failed = int((windows >= cutoffs.proportion).sum())
    assert_rate(runs, count, repetition_failure(ones, cutoffs.repetition), "repetition count test")
    assert_rate(failed, len(windows), proportion_failure(ones, cutoffs.proportion), "adaptive proportion test")
    assert repetition_failure(ones, cutoffs.repetition) <= alpha
    # critbinom counts W trials, of which the first is certain: alpha is kept to the last digit but not beyond.
    assert proportion_failure(ones, cutoffs.proportion) < 1.1 * alpha


@pytest.mark.parametrize("ones", [0.78, 0.79, 0.80, 0.81, 0.82])
def test_biased_coins_are_caught_at_the_expected_rate(ones):
    """The cutoffs of the register map, window after window, on sources worse than stated (H = 0.36 to 0.29)."""
    cutoffs = health_cutoffs(0.5, 2.0**-40)
    windows = 2000
    samples = BiasedCoin(ones).samples(windows * PROPORTION_WINDOW, np.random.default_rng(3))
    counts = equal_to_first(samples).reshape(windows, PROPORTION_WINDOW)[:, -1]
    caught = int((counts >= cutoffs.proportion).sum())
    expected = proportion_failure(ones, cutoffs.proportion)
    assert_rate(caught, windows, expected, "adaptive proportion test")
    assert (expected > 0.1) == (ones > 0.78)


def test_sticking_source_is_caught_by_its_runs():
    """Repeating with probability r makes runs of geometric length: reached cutoffs follow a Poisson law nearly."""
    repeat, count = 0.85, 3_000_000
    cutoffs = health_cutoffs(0.5, 2.0**-40)
    same = repeat + (1 - repeat) / 2
    samples = BiasedCoin(0.5, repeat).samples(count, np.random.default_rng(4))
    seen = int((run_lengths(samples) == cutoffs.repetition).sum())
    expected = count * (1 - same) * same ** (cutoffs.repetition - 1)
    assert expected > 100
    assert poisson.ppf(FALSE_ALARM / 2, expected) <= seen <= poisson.isf(FALSE_ALARM / 2, expected)


def test_source_that_dies_is_caught_within_the_cutoff():
    alive = BiasedCoin().samples(5000, np.random.default_rng(5))
    trace = health(np.concatenate([alive, np.full(200, 1 - alive[-1], np.uint8)]), 81, 824)
    assert trace.healthy[4999]
    assert trace.failed_at[-1] == 5000 + 81
