"""Vacuum and weak decoy estimate of P1: single-photon yield and odd-parity fraction (physics.md 4.3).

From measured counts, without allowance for fluctuations; the finite key is `PhaseMatching.estimate`.

Three levels, common to both users: mu (key), nu (weak), vacuum. ``x = mu_A + mu_B`` and ``v = nu_A + nu_B``; the ratio
of the users' intensities must be the same in both, otherwise the yields of the two pairs differ. Counts are of
phase-matched, level-matched slots; the vacuum may use all its level-matched slots.
"""

import math
from dataclasses import dataclass

from qrelay_sim.protocols.phase_matching import single_photon_weights

__all__ = ["Counts", "DecoyEstimate", "asymptotic_estimate"]


@dataclass(frozen=True)
class Counts:
    """Successes and live slots of one level pair."""

    successes: float
    slots: float

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.slots or self.slots <= 0:
            raise ValueError(
                f"successes {self.successes} of slots {self.slots}: give slots > 0 and 0 <= successes <= slots"
            )

    @property
    def gain(self) -> float:
        """Successes per slot."""
        return self.successes / self.slots


@dataclass(frozen=True)
class DecoyEstimate:
    """Estimate without allowance for fluctuations, with the standard errors that counting gives it.

    ``even_fraction`` is the upper bound q_U of q_even in the limit of many slots, within [0, 1]; where its standard
    error is of order 1 there were not enough counts for it.
    """

    single_photon_yield: float
    single_photon_yield_std: float
    even_fraction: float
    even_fraction_std: float


def asymptotic_estimate(x: float, v: float, mu: Counts, nu: Counts, vacuum: Counts) -> DecoyEstimate:
    """Y_1 and q_even from measured gains as if they were exact, with standard errors from Poisson counts.

    q_even <= 1 - (fraction of successes with exactly one photon); more odd numbers only help.
    """
    weights = [float(weight) for weight in single_photon_weights(x, v)]
    levels = (nu, mu, vacuum)
    y1 = sum(weight * level.gain for weight, level in zip(weights, levels, strict=True))
    # No successes have an error too: that of one count.
    variances = [max(level.successes, 1) / level.slots**2 for level in levels]
    y1_std = math.sqrt(sum(weight**2 * variance for weight, variance in zip(weights, variances, strict=True)))
    if mu.successes == 0:
        return DecoyEstimate(y1, y1_std, 1.0, 1.0)
    single = x * math.exp(-x)
    # Q_mu stands in Y_1 and in the denominator of the fraction: one derivative for both.
    slopes = [single * weight / mu.gain for weight in weights]
    slopes[1] -= single * y1 / mu.gain**2
    q_std = math.sqrt(sum(slope**2 * variance for slope, variance in zip(slopes, variances, strict=True)))
    return DecoyEstimate(y1, y1_std, min(max(1 - single * y1 / mu.gain, 0.0), 1.0), q_std)
