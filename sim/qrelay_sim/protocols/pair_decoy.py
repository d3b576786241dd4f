"""Two-sided decoy bounds of MDI-QKD: yield and error of single-photon pairs (physics.md section 5.3).

Decoy levels o (nothing) < x < y. A `Gain` is known through its count; the weights of the Chernoff bounds are applied to
sums of counts, and the vacuum-related part H that yield and error share is scanned, not bounded twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.chernoff import sum_lower, sum_upper
from qrelay_sim.entropy import ratio
from qrelay_sim.protocols.base import Tally

__all__ = ["DECOY_BOUNDS", "PairDecoy", "vacuum_part_lower", "vacuum_part_upper"]

FloatArray = NDArray[np.float64]
_Term = tuple[FloatArray, FloatArray]
"""Weight and count."""

DECOY_BOUNDS: Final = 7
"""Positive sum, negative sum, errors; and each end of H with a bound of its sum and one of the gain taken off."""


def _poisson(mean: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    return np.exp(-mean), mean * np.exp(-mean), mean**2 / 2 * np.exp(-mean)


@dataclass(frozen=True)
class PairDecoy:
    """Mean photon numbers of the levels x and y of Alice and Bob, in the same ratio."""

    x_a: FloatArray
    x_b: FloatArray
    y_a: FloatArray
    y_b: FloatArray

    def yield_without_vacuum_part(self, counts: Mapping[str, Tally], beta: float) -> tuple[FloatArray, FloatArray]:
        """Return (s, k): the yield of single-photon pairs is at least s - k H.

        Counts: "xx", "oy", "yo", "yy", "oo" by (Alice's level, Bob's level). ``beta = 0``: exact gains.
        """
        _, a1, _ = _poisson(self.x_a)
        _, b1, b2 = _poisson(self.x_b)
        a0y, a1y, _ = _poisson(self.y_a)
        b0y, b1y, b2y = _poisson(self.y_b)
        low = sum_lower(
            beta,
            _term(a1y * b2y, counts["xx"]),
            _term(a1 * b2 * a0y, counts["oy"]),
            _term(a1 * b2 * b0y, counts["yo"]),
        )
        high = sum_upper(beta, _term(a1 * b2, counts["yy"]), _term(a1 * b2 * a0y * b0y, counts["oo"]))
        scale = a1 * a1y * (b1 * b2y - b1y * b2)
        return (low - high) / scale, a1y * b2y / scale

    def error(self, wrong: FloatArray, part: FloatArray, s11: FloatArray) -> FloatArray:
        """Error rate of single-photon pairs from the gain of errors at xx and the vacuum part H."""
        _, a1, _ = _poisson(self.x_a)
        _, b1, _ = _poisson(self.x_b)
        return np.clip(ratio(wrong - part / 2, a1 * b1 * s11), 0.0, 1.0)


def vacuum_part_lower(x_a: FloatArray, x_b: FloatArray, counts: Mapping[str, Tally], beta: float) -> FloatArray:
    """Lower bound of H = a0 S_ox + b0 S_xo - a0 b0 S_oo, what xx gets from slots in which a user sent no photon."""
    plus, minus = _vacuum_terms(x_a, x_b, counts)
    low: FloatArray = np.maximum(sum_lower(beta, *plus) - sum_upper(beta, minus), 0.0)
    return low


def vacuum_part_upper(x_a: FloatArray, x_b: FloatArray, counts: Mapping[str, Tally], beta: float) -> FloatArray:
    """Upper bound of H; see `vacuum_part_lower`."""
    plus, minus = _vacuum_terms(x_a, x_b, counts)
    high: FloatArray = np.maximum(sum_upper(beta, *plus) - sum_lower(beta, minus), 0.0)
    return high


def _vacuum_terms(x_a: FloatArray, x_b: FloatArray, counts: Mapping[str, Tally]) -> tuple[tuple[_Term, _Term], _Term]:
    a0, b0 = np.exp(-x_a), np.exp(-x_b)
    return (_term(a0, counts["ox"]), _term(b0, counts["xo"])), _term(a0 * b0, counts["oo"])


def _term(weight: FloatArray, tally: Tally) -> _Term:
    return weight / tally.slots, tally.successes
