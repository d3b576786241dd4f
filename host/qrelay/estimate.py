"""Gains, error rates and their standard errors."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sifting import Choices, Matched

__all__ = ["PairCounts", "PairEstimate", "Ratio", "binary_entropy", "estimate_pairs"]

IntegerArray = NDArray[np.int64]


@dataclass(frozen=True)
class Ratio:
    """A measured ratio with one standard error; NaN where there was nothing to count."""

    value: float
    std: float

    @classmethod
    def of(cls, part: int, whole: float) -> "Ratio":
        """``part / whole`` with the binomial standard error.

        At part = 0 or part = whole the error is that of half a count more or less, so that it is never zero. Where a
        whole that is only expected is smaller than the part, the error is Poissonian.
        """
        if whole <= 0:
            return cls(math.nan, math.nan)
        value = part / whole
        if part > whole:
            return cls(value, math.sqrt(part) / whole)
        half = min(0.5 / whole, 0.5)
        kept = min(max(value, half), 1 - half)
        return cls(value, math.sqrt(kept * (1 - kept) / whole))


@dataclass(frozen=True)
class PairEstimate:
    """Measured quantities of one pair of settings (Alice's, Bob's)."""

    setting_a: int
    setting_b: int
    slots: float
    """Live slots in which this pair was drawn: live slots times both probabilities, see `estimate_pairs`."""
    successes: int
    matched: int
    """Of these, with equal slices."""
    errors: int
    gain: Ratio
    """Successes per live slot of this pair."""
    qber: Ratio


def binary_entropy(probability: float) -> float:
    """Shannon entropy of one bit; 0 at 0 and 1."""
    if not 0 < probability < 1:
        return 0.0
    return -probability * math.log2(probability) - (1 - probability) * math.log2(1 - probability)


@dataclass
class PairCounts:
    """Counts [setting_a, setting_b] that add up part by part."""

    successes: IntegerArray
    matched: IntegerArray
    errors: IntegerArray

    @classmethod
    def zero(cls, settings: int) -> "PairCounts":
        """Nothing counted yet."""
        return cls(*(np.zeros((settings, settings), np.int64) for _ in range(3)))

    def add(self, choices: Choices, matched: Matched) -> None:
        """Count successes with these choices, of which `matched` have equal slices."""
        settings = len(self.successes)
        pair = choices.setting_a.astype(np.int64) * settings + choices.setting_b
        in_matched = pair[matched.index]
        wrong = in_matched[matched.bits_a != matched.bits_b]
        for counts, pairs in ((self.successes, pair), (self.matched, in_matched), (self.errors, wrong)):
            counts += np.bincount(pairs, minlength=settings**2).reshape(counts.shape)


def estimate_pairs(counts: PairCounts, live_slots: float, probabilities: tuple[float, ...]) -> list[PairEstimate]:
    """Gain and QBER of every pair of settings that is drawn.

    Which pair is drawn does not depend on whether a slot is live, because dead time comes from earlier slots: the live
    slots of a pair are the live slots times its probability. That the pair was really drawn a few slots more or less
    often adds to the standard error of the gain.

    Where only a fraction of the successes is recorded, `live_slots` are to be given times that fraction. Then it is the
    share of each pair that is measured and the total is known better: the standard errors are a little too large.
    """
    estimates = []
    for a, probability_a in enumerate(probabilities):
        for b, probability_b in enumerate(probabilities):
            drawn = probability_a * probability_b
            if drawn == 0:
                continue
            slots = live_slots * drawn
            successes = int(counts.successes[a, b])
            counted = Ratio.of(successes, slots)
            spread = counted.value * math.sqrt((1 - drawn) / slots) if slots else math.nan
            gain = Ratio(counted.value, math.hypot(counted.std, spread))
            matches, errors = int(counts.matched[a, b]), int(counts.errors[a, b])
            estimates.append(PairEstimate(a, b, slots, successes, matches, errors, gain, Ratio.of(errors, matches)))
    return estimates
