"""Probabilities of the 16 click patterns of a slot, in closed form (physics.md section 3).

A pattern is a number 0..15 whose bit i is detector i: 0 is 1+, 1 is 1-, 2 is 2+, 3 is 2-. With ``delta`` the phase
difference of the users, ``(phi_A - theta_L) - (phi_B - theta_R)``, every pattern has the probability a + b cos(delta)
exactly. Two facts the sampler rests on, both tested: b of the empty pattern is zero, and only the four success patterns
have a non-zero b.

Float64 inclusion-exclusion leaves an absolute error of a few 1e-16 in each probability.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay_sim.parameters import RelayParameters

__all__ = ["DETECTORS", "OPPOSITE_SIGN", "PATTERNS", "SAME_SIGN", "SUCCESS_PATTERNS", "ClickModel", "phase_contrast"]

DETECTORS: Final = ("1+", "1-", "2+", "2-")
PATTERNS: Final = 16
SAME_SIGN: Final = (0b0101, 0b1010)
"""(1+,2+) and (1-,2-): Bob keeps his bit."""
OPPOSITE_SIGN: Final = (0b1001, 0b0110)
"""(1+,2-) and (1-,2+): Bob flips his bit."""
SUCCESS_PATTERNS: Final = SAME_SIGN + OPPOSITE_SIGN

FloatArray = NDArray[np.float64]

_BITS = (np.arange(PATTERNS)[:, None] >> np.arange(4)) & 1
"""Detector i of set c, as [c, i]."""


def _inclusion_exclusion() -> FloatArray:
    """Matrix [pattern, silent set]: the sign with which a no-click probability enters the pattern's probability.

    Exactly the detectors of a pattern click: the others are silent, and each clicking one contributes 1 - (silent).
    """
    matrix = np.zeros((PATTERNS, PATTERNS))
    for pattern in range(PATTERNS):
        for silent in range(PATTERNS):
            if (silent | pattern) == PATTERNS - 1:
                matrix[pattern, silent] = (-1) ** (silent & pattern).bit_count()
    return matrix


_SIGNS = _inclusion_exclusion()


def phase_contrast(phase_residual_rms: float = 0.0, slices: int | None = None) -> float:
    """Factor of the phase-carrying term: mean of cos over a Gaussian residual and over a slice of width 2 pi / D.

    ``slices=None`` means that the phases are exact (on the grid, no drift), as in a twin without drift.
    """
    averaged = 1.0 if slices is None else math.sin(math.pi / slices) / (math.pi / slices)
    return averaged * math.exp(-(phase_residual_rms**2) / 2)


class ClickModel:
    """Closed-form click statistics of one relay.

    Mean photon numbers are those leaving the users; scalars or arrays that broadcast. Results gain one last axis of
    16 patterns or 4 detectors.

    Parameters
    ----------
    parameters : RelayParameters
        The relay.
    source_on : bool
        False: shutter of S closed, the users' light only.
    dark_counts : bool
        False: patterns of light alone, for a sampler that adds the dark clicks itself.
    """

    def __init__(self, parameters: RelayParameters, *, source_on: bool = True, dark_counts: bool = True) -> None:
        self.parameters = parameters
        self._eta_a, self._s_left, self._s_right, self._eta_b = parameters.arm_transmittances
        self._p = (parameters.p0, parameters.p1, parameters.p2) if source_on else (1.0, 0.0, 0.0)
        self._silence = 1 - parameters.dark_count_per_gate if dark_counts else 1.0

    def pattern_coefficients(self, mu_a: ArrayLike, mu_b: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return (a, b), each [..., 16], with P(pattern) = a + b cos(delta)."""
        light_a = np.asarray(mu_a, dtype=np.float64) * self._eta_a
        light_b = np.asarray(mu_b, dtype=np.float64) * self._eta_b
        for key, light in (("mu_a", light_a), ("mu_b", light_b)):
            if not np.all(light >= 0):
                raise ValueError(f"{key} must not be negative; give mean photon numbers >= 0")
        return self._coefficients(light_a, light_b, np.sqrt(light_a * light_b))

    def no_click_probability(self, mu_a: ArrayLike, mu_b: ArrayLike) -> FloatArray:
        """Probability that all four detectors stay silent; it does not depend on the phases."""
        a, _ = self.pattern_coefficients(mu_a, mu_b)
        return a[..., 0]

    def single_clicks(self, mu_a: ArrayLike, mu_b: ArrayLike) -> FloatArray:
        """Probability that each detector clicks, whatever the others do, as [..., 4]; phases do not enter."""
        a, _ = self.pattern_coefficients(mu_a, mu_b)
        return a @ _BITS

    def success_by_phase(self, mu_a: ArrayLike, mu_b: ArrayLike, delta: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the fringe: probabilities of a same-sign and of an opposite-sign success at phase difference delta."""
        a, b = self.pattern_coefficients(mu_a, mu_b)
        cosine = np.cos(np.asarray(delta, dtype=np.float64))
        same, opposite = (
            a[..., pair].sum(axis=-1) + b[..., pair].sum(axis=-1) * cosine for pair in (SAME_SIGN, OPPOSITE_SIGN)
        )
        return same, opposite

    def gain_and_qber(
        self,
        mu_a: ArrayLike,
        mu_b: ArrayLike,
        *,
        phase_residual_rms: float = 0.0,
        slices: int | None = None,
        phase_offset: float = 0.0,
    ) -> tuple[FloatArray, FloatArray]:
        """Return gain Q (successes per live slot) and QBER E of matched phases.

        The gain does not depend on any phase. ``phase_residual_rms`` [rad] and ``slices`` reduce the fringe, see
        `phase_contrast`; ``phase_offset`` [rad] is what the frame offset leaves uncorrected.
        """
        a, b = self.pattern_coefficients(mu_a, mu_b)
        gain = a[..., SUCCESS_PATTERNS].sum(axis=-1)
        contrast = phase_contrast(phase_residual_rms, slices) * math.cos(phase_offset)
        wrong = a[..., OPPOSITE_SIGN].sum(axis=-1) + b[..., OPPOSITE_SIGN].sum(axis=-1) * contrast
        return gain, np.divide(wrong, gain, out=np.full_like(gain, 0.5), where=gain > 0)

    def parity_successes(
        self, mu_a: ArrayLike, mu_b: ArrayLike, *, contrast: float = 1.0, sign: int = 1
    ) -> tuple[FloatArray, FloatArray]:
        """Return (right, wrong) probabilities S and Df at delta = 0; ``sign=-1`` continues them to -x_t (section 3.1).

        The continuation sends A, B and sqrt(AB) to their negatives; its values are not probabilities.
        """
        light_a = np.asarray(mu_a, dtype=np.float64) * self._eta_a
        light_b = np.asarray(mu_b, dtype=np.float64) * self._eta_b
        a, b = self._coefficients(sign * light_a, sign * light_b, sign * np.sqrt(light_a * light_b))
        right, wrong = (
            a[..., pair].sum(axis=-1) + contrast * b[..., pair].sum(axis=-1) for pair in (SAME_SIGN, OPPOSITE_SIGN)
        )
        return right, wrong

    def _coefficients(
        self, light_a: FloatArray, light_b: FloatArray, cross: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Section 3, from A, B and sqrt(AB) at the detectors."""
        light_a, light_b, cross = (np.asarray(value)[..., None] for value in (light_a, light_b, cross))
        m1, m2, m12 = self.parameters.overlaps
        p0, p1, p2 = self._p
        at_m1, at_m2 = _BITS[:, 0] + _BITS[:, 1], _BITS[:, 2] + _BITS[:, 3]
        d1, d2 = _BITS[:, 0] - _BITS[:, 1], _BITS[:, 2] - _BITS[:, 3]
        # x: a photon of S misses every detector of the silent set; w: what interference adds to that.
        x = 1 - (self._s_left * at_m1 + self._s_right * at_m2) / 4
        w = (self._s_left * m1 * light_a * d1**2 + self._s_right * m2 * light_b * d2**2) / 8
        w_cos = math.sqrt(self._s_left * self._s_right) * m12 * cross * (d1 * d2) / 4
        # Dark counts: each silent detector is silent on its own account too.
        silent = np.exp(-(light_a * at_m1 + light_b * at_m2) / 2) * self._silence ** (at_m1 + at_m2)
        photon = p1 + p2 * x
        constant = silent * (p0 + photon * (x + w))
        cosine = silent * photon * w_cos
        return constant @ _SIGNS.T, cosine @ _SIGNS.T
