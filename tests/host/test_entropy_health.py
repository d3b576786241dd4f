"""Cutoffs of the health tests: published values, exact arithmetic, limits."""

from fractions import Fraction
from math import comb

import pytest

from qrelay.entropy_health import (
    HealthCutoffs,
    alarms_per_year,
    health_cutoffs,
    proportion_cutoff,
    proportion_failure,
    repetition_cutoff,
    repetition_failure,
)
from qrelay.errors import ConfigError
from qrelay.protocol.entropy import FALSE_ALARM_LOG2, MIN_ENTROPY, PROPORTION_CUTOFF, REPETITION_CUTOFF


def test_cutoffs_of_the_register_map_follow_from_what_is_stated():
    assert health_cutoffs(MIN_ENTROPY, 2.0**FALSE_ALARM_LOG2) == HealthCutoffs(REPETITION_CUTOFF, PROPORTION_CUTOFF)


@pytest.mark.parametrize(("min_entropy", "cutoff"), [(0.2, 941), (0.4, 840), (0.6, 748), (0.8, 664), (1.0, 589)])
def test_proportion_cutoff_is_that_of_the_table_in_the_standard(min_entropy, cutoff):
    """SP 800-90B, table 2, binary source, alpha = 2^-20."""
    assert proportion_cutoff(min_entropy, 2.0**-20) == cutoff


@pytest.mark.parametrize(("min_entropy", "cutoff"), [(1.0, 21), (0.5, 41), (0.3, 68)])
def test_repetition_cutoff(min_entropy, cutoff):
    """1 + ceil(20 / H) for alpha = 2^-20: a run of C has probability 2^(-H (C - 1)) <= alpha, a shorter one more."""
    assert repetition_cutoff(min_entropy, 2.0**-20) == cutoff
    assert 2.0 ** (-min_entropy * (cutoff - 1)) <= 2.0**-20 < 2.0 ** (-min_entropy * (cutoff - 2))


@pytest.mark.parametrize("cutoff", [600, 625, 824])
def test_proportion_failure_is_exact(cutoff):
    """Against whole numbers, for a fair coin: 1 + Binomial(1023, 1/2) reaches the cutoff."""
    exact = Fraction(sum(comb(1023, k) for k in range(cutoff - 1, 1024)), 2**1023)
    assert proportion_failure(0.5, cutoff) == pytest.approx(float(exact), rel=1e-9)


def test_repetition_failure_is_exact():
    """Against all sequences of 7 samples whose last completes a run of exactly 4 in a stream."""
    ones, cutoff = 0.7, 4
    total = 0.0
    for bits in range(1 << 7):
        sequence = [bits >> k & 1 for k in range(7)]
        run = sequence[-cutoff:]
        if len(set(run)) == 1 and sequence[-cutoff - 1] != run[0]:
            weight = 1.0
            for bit in sequence:
                weight *= ones if bit else 1 - ones
            total += weight
    assert repetition_failure(ones, cutoff) == pytest.approx(total, rel=1e-12)


def test_a_fair_source_gives_no_alarm_in_a_lifetime():
    assert alarms_per_year(health_cutoffs(0.5, 2.0**-40), 0.5, 76.13e6 / 4096) < 1e-9
    # At the stated entropy itself: one alarm per 2^40 samples and one per 2^40 windows, but for the rounding up.
    worst = alarms_per_year(health_cutoffs(0.5, 2.0**-40), 2.0**-0.5, 76.13e6 / 4096)
    assert 0.05 < worst < 0.54


@pytest.mark.parametrize(
    ("min_entropy", "false_alarm", "message"),
    [
        (0.0, 2.0**-30, "min_entropy 0 bit per sample of one bit; give more than 0, at most 1"),
        (1.5, 2.0**-30, "min_entropy 1.5 bit per sample"),
        (0.5, 0.1, "false_alarm 0.1 per test; give 2\\^-64 to 2\\^-10"),
        (0.5, 0.0, "false_alarm 0 per test"),
    ],
)
def test_limits(min_entropy, false_alarm, message):
    with pytest.raises(ConfigError, match=message):
        health_cutoffs(min_entropy, false_alarm)


def test_a_cutoff_never_exceeds_the_window():
    assert proportion_cutoff(0.001, 2.0**-40) == 1024
