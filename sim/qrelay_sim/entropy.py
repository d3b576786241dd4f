"""Entropy of a bit and the cost of a phase error."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["binary_entropy", "largest_entropy", "phase_cost", "ratio"]

FloatArray = NDArray[np.float64]


def binary_entropy(probability: ArrayLike) -> FloatArray:
    """h(p) in bits; 0 at and beyond 0 and 1, so that a probability rounded past an end is harmless."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 0.0, 1.0)
    inside = (p > 0) & (p < 1)
    safe = np.where(inside, p, 0.5)
    return np.where(inside, -safe * np.log2(safe) - (1 - safe) * np.log2(1 - safe), 0.0)


def phase_cost(upper_bound: ArrayLike) -> FloatArray:
    """Fraction of bits to give up for an upper bound of a phase-error rate: all of them from 1/2 on (section 4.3)."""
    q = np.asarray(upper_bound, dtype=np.float64)
    return np.where(q >= 0.5, 1.0, binary_entropy(q))


def largest_entropy(low: ArrayLike, high: ArrayLike) -> FloatArray:
    """Maximum of h over an interval; 1 if it holds 1/2."""
    first, last = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return np.where((first <= 0.5) & (last >= 0.5), 1.0, np.maximum(binary_entropy(first), binary_entropy(last)))


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """Quotient, 1/2 where there is nothing to divide by."""
    above, below = np.broadcast_arrays(np.asarray(numerator, np.float64), np.asarray(denominator, np.float64))
    quotient = np.full(below.shape, 0.5)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient
