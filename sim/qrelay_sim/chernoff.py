"""Chernoff bounds between counts and their expectations, and how a failure probability is shared (physics.md 4.3).

Independent events, as in standard decoy work. ``beta = ln(1/eps_i)`` of the single bound.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Epsilon",
    "expectation_lower",
    "expectation_upper",
    "observation_lower",
    "observation_upper",
    "sum_lower",
    "sum_upper",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Epsilon:
    """Failure probabilities: eps_total = eps_cor + 2 sqrt(sum of eps_i) + eps_PA.

    A phase-error bound that fails with probability P costs about sqrt(P) in secrecy, hence the root.
    ``parameter_estimation`` is the sum of the eps_i, shared equally by the bounds of a protocol.
    """

    correctness: float = 2.5e-11
    privacy: float = 2.5e-11
    parameter_estimation: float = 6.25e-22

    def __post_init__(self) -> None:
        for key in ("correctness", "privacy", "parameter_estimation"):
            if not 0 < getattr(self, key) < 1:
                raise ValueError(f"{key} {getattr(self, key)} is out of range; give a probability between 0 and 1")

    @classmethod
    def of_total(cls, total: float) -> "Epsilon":
        """A quarter each for correctness and privacy, half for parameter estimation."""
        if not 1e-60 <= total < 1:
            raise ValueError(f"epsilon {total} is out of range; give 1e-60 to 1, 1e-10 is usual")
        return cls(total / 4, total / 4, (total / 4) ** 2)

    @property
    def total(self) -> float:
        """Composed failure probability."""
        return self.correctness + 2 * math.sqrt(self.parameter_estimation) + self.privacy

    def beta(self, bounds: int = 4) -> float:
        """ln(1/eps_i) if `bounds` bounds share the failure probability of parameter estimation."""
        return math.log(bounds / self.parameter_estimation)

    @property
    def hashing_bits(self) -> float:
        """Bits that verification and privacy amplification cost: log2(2/eps_cor) + 2 log2(1/(2 eps_PA))."""
        return math.log2(2 / self.correctness) + 2 * math.log2(1 / (2 * self.privacy))


def expectation_upper(count: ArrayLike, beta: float) -> FloatArray:
    """Upper bound of the expected count, given the observed one."""
    c = np.asarray(count, dtype=np.float64)
    return c + beta + np.sqrt(2 * beta * c + beta**2)


def expectation_lower(count: ArrayLike, beta: float) -> FloatArray:
    """Lower bound of the expected count, given the observed one.

    The exact inverse of `observation_upper`: it exceeds an expectation exactly when the count exceeds the upper bound
    for it, hence with no greater probability, and is 0 for counts up to ``beta``. physics.md 4.3 has ``c - beta/2 -
    sqrt(...)`` as published, which is safe too and up to ``beta`` (50 counts for 1e-10) lower than necessary.
    """
    c = np.asarray(count, dtype=np.float64)
    return np.maximum(0.0, c + beta / 2 - np.sqrt(2 * beta * c + beta**2 / 4))


def observation_upper(expectation: ArrayLike, beta: float) -> FloatArray:
    """Upper bound of the observed count, given its expectation."""
    e = np.asarray(expectation, dtype=np.float64)
    return e + beta / 2 + np.sqrt(2 * beta * e + beta**2 / 4)


def observation_lower(expectation: ArrayLike, beta: float) -> FloatArray:
    """Lower bound of the observed count, given its expectation."""
    e = np.maximum(0.0, np.asarray(expectation, dtype=np.float64))
    lower: FloatArray = np.maximum(0.0, e - np.sqrt(2 * beta * e))
    return lower


def sum_lower(beta: float, *terms: tuple[ArrayLike, ArrayLike]) -> FloatArray:
    """Lower bound of the expectation of ``sum w_i c_i`` for (weight, count) terms with weights of 0 and more.

    One bound for the whole sum is tighter than a sum of bounds: divided by the largest weight it is a sum of
    independent variables between 0 and 1, for which the bounds hold as well.
    """
    largest, scaled = _scaled(terms)
    return largest * expectation_lower(scaled, beta)


def sum_upper(beta: float, *terms: tuple[ArrayLike, ArrayLike]) -> FloatArray:
    """Upper bound of the expectation of ``sum w_i c_i``; see `sum_lower`."""
    largest, scaled = _scaled(terms)
    return largest * expectation_upper(scaled, beta)


def _scaled(terms: tuple[tuple[ArrayLike, ArrayLike], ...]) -> tuple[FloatArray, FloatArray]:
    weights = [np.asarray(weight, dtype=np.float64) for weight, _ in terms]
    largest: FloatArray = np.maximum.reduce(np.broadcast_arrays(*weights))
    total = sum(w * np.asarray(count, dtype=np.float64) for w, (_, count) in zip(weights, terms, strict=True))
    return largest, total / largest
