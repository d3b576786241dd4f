"""Vacuum and weak decoy estimate of P1: single-photon yield and odd-parity fraction from counts (physics.md 4.3).

Three levels, common to both users: mu (key), nu (weak), vacuum. ``x = mu_A + mu_B`` and ``v = nu_A + nu_B``; the ratio
of the users' intensities must be the same in both, otherwise the yields of the two pairs differ. Counts are of
phase-matched, level-matched slots; the vacuum may use all its level-matched slots.
"""

import math
from dataclasses import dataclass

from qrelay_sim.rates import binary_entropy

__all__ = [
    "Counts",
    "DecoyEstimate",
    "FiniteKey",
    "FiniteSettings",
    "asymptotic_estimate",
    "expectation_lower",
    "expectation_upper",
    "finite_key",
    "observation_lower",
    "observation_upper",
]


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

    ``even_fraction`` is the upper bound q_U of q_even in the limit of many slots.
    """

    single_photon_yield: float
    single_photon_yield_std: float
    even_fraction: float
    even_fraction_std: float


@dataclass(frozen=True)
class FiniteSettings:
    """Failure probabilities: eps_total = eps_cor + 2 sqrt(sum of eps_i) + eps_PA.

    ``parameter_estimation`` is the sum of the four eps_i (three gains, one odd count), shared equally.
    """

    correctness: float = 1e-11
    privacy: float = 1e-11
    parameter_estimation: float = 6e-22

    @property
    def total(self) -> float:
        """Composed failure probability."""
        return self.correctness + 2 * math.sqrt(self.parameter_estimation) + self.privacy

    @property
    def beta(self) -> float:
        """ln(1/eps_i)."""
        return math.log(4 / self.parameter_estimation)


@dataclass(frozen=True)
class FiniteKey:
    """Length of the key in bits (0 if none) and what led to it."""

    length: float
    single_photon_yield: float
    even_fraction: float
    leak: float


def expectation_upper(count: float, beta: float) -> float:
    """Upper bound of the expected count, given the observed one (Chernoff)."""
    return count + beta + math.sqrt(2 * beta * count + beta**2)


def expectation_lower(count: float, beta: float) -> float:
    """Lower bound of the expected count, given the observed one (Chernoff)."""
    return max(0.0, count - beta / 2 - math.sqrt(2 * beta * count + beta**2 / 4))


def observation_upper(expectation: float, beta: float) -> float:
    """Upper bound of the observed count, given its expectation (Chernoff)."""
    return expectation + beta / 2 + math.sqrt(2 * beta * expectation + beta**2 / 4)


def observation_lower(expectation: float, beta: float) -> float:
    """Lower bound of the observed count, given its expectation (Chernoff)."""
    return max(0.0, expectation - math.sqrt(2 * beta * expectation))


def _yield_weights(x: float, v: float) -> tuple[float, float, float]:
    """Weights of Q_nu, Q_mu and Q_0 in the lower bound of Y_1."""
    if not 0 < v < x:
        raise ValueError(f"v = {v} and x = {x}: the weak pair needs 0 < v < x, lower nu or raise mu")
    scale = x / (x * v - v**2)
    return scale * math.exp(v), -scale * math.exp(x) * v**2 / x**2, -scale * (x**2 - v**2) / x**2


def asymptotic_estimate(x: float, v: float, mu: Counts, nu: Counts, vacuum: Counts) -> DecoyEstimate:
    """Y_1 and q_even from measured gains as if they were exact, with standard errors from Poisson counts.

    q_even <= 1 - (fraction of successes with exactly one photon); more odd numbers only help.
    """
    weights = _yield_weights(x, v)
    levels = (nu, mu, vacuum)
    y1 = sum(weight * level.gain for weight, level in zip(weights, levels, strict=True))
    variances = [level.successes / level.slots**2 for level in levels]
    y1_std = math.sqrt(sum(weight**2 * variance for weight, variance in zip(weights, variances, strict=True)))
    if mu.successes == 0:
        return DecoyEstimate(y1, y1_std, 1.0, 0.0)
    single = x * math.exp(-x)
    # Q_mu stands in Y_1 and in the denominator of the fraction: one derivative for both.
    slopes = [single * weight / mu.gain for weight in weights]
    slopes[1] -= single * y1 / mu.gain**2
    q_std = math.sqrt(sum(slope**2 * variance for slope, variance in zip(slopes, variances, strict=True)))
    return DecoyEstimate(y1, y1_std, 1 - single * y1 / mu.gain, q_std)


def finite_key(
    x: float,
    v: float,
    mu: Counts,
    nu: Counts,
    vacuum: Counts,
    qber: float,
    error_correction_efficiency: float,
    settings: FiniteSettings | None = None,
) -> FiniteKey:
    """Secure length from the mu-mu successes under independent events, Chernoff bounds on every count (4.3)."""
    settings = settings or FiniteSettings()
    beta = settings.beta
    weight_nu, weight_mu, weight_0 = _yield_weights(x, v)
    y1 = (
        weight_nu * expectation_lower(nu.successes, beta) / nu.slots
        + weight_mu * expectation_upper(mu.successes, beta) / mu.slots
        + weight_0 * expectation_upper(vacuum.successes, beta) / vacuum.slots
    )
    y1 = max(0.0, y1)
    odd = observation_lower(mu.slots * x * math.exp(-x) * y1, beta)
    even_fraction = 1 - min(1.0, odd / mu.successes) if mu.successes else 1.0
    leak = error_correction_efficiency * mu.successes * float(binary_entropy(qber))
    if even_fraction >= 0.5:
        return FiniteKey(0.0, y1, even_fraction, leak)
    length = (
        mu.successes * (1 - float(binary_entropy(even_fraction)))
        - leak
        - math.log2(2 / settings.correctness)
        - 2 * math.log2(1 / (2 * settings.privacy))
    )
    return FiniteKey(max(0.0, length), y1, even_fraction, leak)
