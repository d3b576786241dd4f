"""Cutoffs of the health tests of a noise source, after NIST SP 800-90B (January 2018)."""

import math
from dataclasses import dataclass

from .errors import ConfigError
from .protocol.entropy import PROPORTION_WINDOW

__all__ = [
    "HealthCutoffs",
    "alarms_per_year",
    "health_cutoffs",
    "proportion_cutoff",
    "proportion_failure",
    "repetition_cutoff",
    "repetition_failure",
]

_YEAR_S = 365.25 * 86400.0


def _check(min_entropy: float, false_alarm: float) -> None:
    if not 0.0 < min_entropy <= 1.0:
        raise ConfigError(f"min_entropy {min_entropy:g} bit per sample of one bit; give more than 0, at most 1")
    if not 2.0**-64 <= false_alarm <= 2.0**-10:
        raise ConfigError(
            f"false_alarm {false_alarm:g} per test; give 2^-64 to 2^-10 (SP 800-90B 4.4 advises 2^-40 to 2^-20)"
        )


def repetition_cutoff(min_entropy: float, false_alarm: float) -> int:
    """Equal samples in a row that fail the source: C = 1 + ceil(-log2(alpha) / H) (SP 800-90B 4.4.1).

    Parameters
    ----------
    min_entropy : stated min-entropy H in bit per sample.
    false_alarm : probability alpha that a sample of a source with exactly that entropy raises an alarm.
    """
    _check(min_entropy, false_alarm)
    return 1 + math.ceil(-math.log2(false_alarm) / min_entropy)


def proportion_cutoff(min_entropy: float, false_alarm: float, window: int = PROPORTION_WINDOW) -> int:
    """Samples of a window equal to its first that fail the source: C = 1 + critbinom(W, 2^-H, 1 - alpha).

    SP 800-90B 4.4.2 with its footnote 10. Parameters as for `repetition_cutoff`, alpha being per window. At most
    `window`: beyond that the test could never fail.
    """
    from scipy.stats import binom  # half a second to import, needed here only

    _check(min_entropy, false_alarm)
    return min(window, 1 + int(binom.isf(false_alarm, window, 2.0**-min_entropy)))


@dataclass(frozen=True)
class HealthCutoffs:
    """What the registers ``entropy.repetition_cutoff`` and ``entropy.proportion_cutoff`` take."""

    repetition: int
    proportion: int


def health_cutoffs(min_entropy: float, false_alarm: float) -> HealthCutoffs:
    """Both cutoffs for a stated min-entropy (bit per sample) and false-alarm probability."""
    return HealthCutoffs(repetition_cutoff(min_entropy, false_alarm), proportion_cutoff(min_entropy, false_alarm))


def repetition_failure(ones: float, cutoff: int) -> float:
    """Probability, per sample, that a run of equal samples reaches `cutoff` there.

    For independent samples that are 1 with probability `ones`. A run of ones of at least C begins with a zero before
    it and C ones: its C-th sample is at a given place with probability (1 - p) p^C.
    """
    zeros = 1.0 - ones
    return zeros * ones**cutoff + ones * zeros**cutoff


def proportion_failure(ones: float, cutoff: int, window: int = PROPORTION_WINDOW) -> float:
    """Probability that a window of independent samples, 1 with probability `ones`, reaches `cutoff`.

    The first sample counts itself; the other W - 1 are binomial.
    """
    from scipy.stats import binom

    zeros = 1.0 - ones
    return float(ones * binom.sf(cutoff - 2, window - 1, ones) + zeros * binom.sf(cutoff - 2, window - 1, zeros))


def alarms_per_year(cutoffs: HealthCutoffs, ones: float, samples_per_second: float) -> float:
    """False alarms per year of a source of independent samples, 1 with probability `ones`."""
    per_sample = repetition_failure(ones, cutoffs.repetition)
    per_sample += proportion_failure(ones, cutoffs.proportion) / PROPORTION_WINDOW
    return per_sample * samples_per_second * _YEAR_S
