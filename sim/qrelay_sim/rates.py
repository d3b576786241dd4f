"""Key rates of phase matching (P1) and the bounds they are drawn against (physics.md sections 3.1, 4.2, 4.3, 5.1).

All rates are in bits per slot; multiply by the slot rate and by the fraction of quantum slots for bit/s. Level pairs
are given as mean photon numbers leaving the users; ``x``, ``v`` are the sums over both users.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay_sim.click_model import ClickModel, phase_contrast
from qrelay_sim.parameters import RelayParameters

__all__ = [
    "PhaseMatchingRate",
    "binary_entropy",
    "odd_fraction",
    "optimal_intensity",
    "phase_matching_rate",
    "plob_bound",
    "rate_from_measurement",
    "repeater_bound",
]

FloatArray = NDArray[np.float64]


def binary_entropy(probability: ArrayLike) -> FloatArray:
    """h(p) in bits; 0 at and beyond 0 and 1, so that a probability rounded past an end is harmless."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 0.0, 1.0)
    inside = (p > 0) & (p < 1)
    safe = np.where(inside, p, 0.5)
    return np.where(inside, -safe * np.log2(safe) - (1 - safe) * np.log2(1 - safe), 0.0)


def _phase_cost(even_fraction: ArrayLike) -> FloatArray:
    """Fraction of bits to give up for a phase-error bound of q_even: all of them from 1/2 on (section 4.3)."""
    q = np.asarray(even_fraction, dtype=np.float64)
    return np.where(q >= 0.5, 1.0, binary_entropy(q))


def repeater_bound(transmittance: float, repeaters: int = 0) -> float:
    """Secret-key capacity per slot with equally spaced ideal repeaters; 0 repeaters is the PLOB bound (5.1).

    State with a plot whether `transmittance` contains the detector efficiency.
    """
    if not 0 <= transmittance < 1:
        raise ValueError(f"transmittance {transmittance} is out of range; give 0 <= transmittance < 1")
    if repeaters < 0:
        raise ValueError(f"repeaters {repeaters} is negative; give 0 or more")
    span = transmittance ** (1 / (repeaters + 1))
    return -math.log1p(-span) / math.log(2)


def plob_bound(transmittance: float) -> float:
    """-log2(1 - eta), the best rate without a middle node."""
    return repeater_bound(transmittance)


@dataclass(frozen=True)
class PhaseMatchingRate:
    """What the model says about P1 at one pair of intensities; arrays if the intensities were arrays.

    ``even_fraction`` is q_even; ``even_given_right`` and ``even_given_wrong`` are q_c and q_e. ``rate`` is P1,
    ``rate_conditional`` P1c: hashing right and wrong positions apart, an option until reviewed. Rates may be
    negative here; no key is then possible.
    """

    gain: FloatArray
    qber: FloatArray
    even_fraction: FloatArray
    even_given_right: FloatArray
    even_given_wrong: FloatArray
    rate: FloatArray
    rate_conditional: FloatArray


def phase_matching_rate(parameters: RelayParameters, mu_a: ArrayLike, mu_b: ArrayLike) -> PhaseMatchingRate:
    """Asymptotic P1 and P1c with the exact parity content of the model (sections 3.1 and 4.2).

    The fringe is reduced by the slice width and the phase residual of `parameters`.
    """
    model = ClickModel(parameters)
    contrast = phase_contrast(parameters.phase_residual_rms_rad, parameters.phase_slices)
    total = np.asarray(mu_a, dtype=np.float64) + np.asarray(mu_b, dtype=np.float64)
    right, wrong = model.parity_successes(mu_a, mu_b, contrast=contrast)
    right_minus, wrong_minus = model.parity_successes(mu_a, mu_b, contrast=contrast, sign=-1)
    gain = right + wrong
    qber = _ratio(wrong, gain)
    damping = np.exp(-2 * total)

    def even(minus: FloatArray, plus: FloatArray) -> FloatArray:
        return np.clip((1 + damping * _ratio(minus, plus)) / 2, 0.0, 1.0)

    q = even(right_minus + wrong_minus, gain)
    q_right, q_wrong = even(right_minus, right), even(wrong_minus, wrong)
    return PhaseMatchingRate(
        gain=gain,
        qber=qber,
        even_fraction=q,
        even_given_right=q_right,
        even_given_wrong=q_wrong,
        rate=rate_from_measurement(parameters, gain, qber, q),
        rate_conditional=_sifting(parameters)
        * gain
        * (
            1
            - (1 - qber) * binary_entropy(q_right)
            - qber * binary_entropy(q_wrong)
            - parameters.error_correction_efficiency * binary_entropy(qber)
        ),
    )


def rate_from_measurement(
    parameters: RelayParameters, gain: ArrayLike, qber: ArrayLike, even_fraction: ArrayLike
) -> FloatArray:
    """P1 rate (4.2) from a gain and a QBER, measured or not, and an (upper bound of the) even-parity fraction."""
    correction = parameters.error_correction_efficiency * binary_entropy(qber)
    return _sifting(parameters) * np.asarray(gain, dtype=np.float64) * (1 - _phase_cost(even_fraction) - correction)


def odd_fraction(parameters: RelayParameters, mu_a: float, mu_b: float) -> float:
    """1 - q_even of the model, to hold a decoy estimate against."""
    return 1 - float(phase_matching_rate(parameters, mu_a, mu_b).even_fraction)


def optimal_intensity(
    parameters: RelayParameters,
    rate: Callable[[PhaseMatchingRate], FloatArray] = lambda result: result.rate,
    lowest: float = 1e-4,
    highest: float = 0.5,
) -> tuple[float, float]:
    """Return (mu, rate) that maximise a rate over equal intensities of both users; rate 0 if there is no key.

    A logarithmic grid, refined around its best point until its step is below 1e-5: the rate may be negative on most
    of the range, where methods that follow a slope get lost.
    """
    points: Final = 65
    low, high = math.log(lowest), math.log(highest)
    while True:
        grid = np.linspace(low, high, points)
        mu = np.exp(grid)
        values = rate(phase_matching_rate(parameters, mu, mu))
        best = int(np.argmax(values))
        step = (high - low) / (points - 1)
        if step < 1e-5:
            return float(mu[best]), max(float(values[best]), 0.0)
        low, high = max(grid[best] - 2 * step, math.log(lowest)), min(grid[best] + 2 * step, math.log(highest))


def _sifting(parameters: RelayParameters) -> float:
    """Fraction of slots with matched phases, 2/D."""
    return 2 / parameters.phase_slices


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient, 1/2 where there are no successes to speak of."""
    quotient = np.full(np.shape(denominator), 0.5)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
