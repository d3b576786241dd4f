"""Probabilities of the 16 click patterns of a slot, in closed form (physics.md section 3).

A pattern is a number 0..15 whose bit i is detector i: 0 is 1+, 1 is 1-, 2 is 2+, 3 is 2-. With ``delta`` the phase
difference of the users, ``(phi_A - theta_L) - (phi_B - theta_R)``, every pattern has the probability a + b cos(delta)
exactly. Two facts the sampler rests on, both tested: b of the empty pattern is zero, and only the four success patterns
have a non-zero b.

Inclusion-exclusion is done in closed form at each node, so that every probability keeps a relative accuracy near
float64, also where successes are as rare as 1e-20.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay_sim.entropy import ratio
from qrelay_sim.parameters import RelayParameters
from qrelay_sim.success_table import FLIP, KEEP, relay_table

__all__ = ["DETECTORS", "OPPOSITE_SIGN", "PATTERNS", "SAME_SIGN", "SUCCESS_PATTERNS", "ClickModel", "phase_contrast"]

DETECTORS: Final = ("1+", "1-", "2+", "2-")
PATTERNS: Final = 16
SAME_SIGN: Final = (0b0101, 0b1010)
"""(1+,2+) and (1-,2-): Bob keeps his bit."""
OPPOSITE_SIGN: Final = (0b1001, 0b0110)
"""(1+,2-) and (1-,2+): Bob flips his bit."""
SUCCESS_PATTERNS: Final = SAME_SIGN + OPPOSITE_SIGN

FloatArray = NDArray[np.float64]

Light = NDArray[Any]
"""Real for photon numbers, complex where a function is differentiated by a complex step."""

_BITS = (np.arange(PATTERNS)[:, None] >> np.arange(4)) & 1
"""Detector i of set c, as [c, i]."""


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
        self._table = relay_table(parameters.double_clicks)
        self._silence = 1 - parameters.dark_probability if dark_counts else 1.0

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
        a, b = (part @ self._table for part in self.pattern_coefficients(mu_a, mu_b))
        fringe = a + b * np.cos(np.asarray(delta, dtype=np.float64))[..., None]
        return fringe[..., KEEP], fringe[..., FLIP]

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
        contrast = phase_contrast(phase_residual_rms, slices) * math.cos(phase_offset)
        right, wrong = self.announced(mu_a, mu_b, contrast=contrast)
        gain = right + wrong
        return gain, ratio(wrong, gain)

    def announced(
        self, mu_a: ArrayLike, mu_b: ArrayLike, *, contrast: float = 1.0, scale: complex = 1.0
    ) -> tuple[Light, Light]:
        """Return (right, wrong) success probabilities of matched phases, S and Df of section 3.

        ``contrast`` multiplies the phase-carrying term. ``scale`` multiplies both intensities: the closed form is an
        entire function of it, which gives the parity at -1 (section 3.1) and, on a circle, the number-state yields;
        its values are probabilities only for real scales of 0 and more.
        """
        light_a = np.asarray(mu_a, dtype=np.float64) * self._eta_a
        light_b = np.asarray(mu_b, dtype=np.float64) * self._eta_b
        cross = np.sqrt(light_a * light_b)
        a, b = self._coefficients(scale * light_a, scale * light_b, scale * cross)
        fringe = (a + contrast * b) @ self._table
        return fringe[..., KEEP], fringe[..., FLIP]

    def gain_of_mixed_phases(self, mu_a: ArrayLike, mu_b: ArrayLike) -> Light:
        """Gain without any phase relation; complex photon numbers give number-state yields (`number_states`)."""
        light_a, light_b = np.asarray(mu_a) * self._eta_a, np.asarray(mu_b) * self._eta_b
        a, _ = self._coefficients(light_a, light_b, np.zeros_like(light_a * light_b))
        gain: Light = (a @ self._table).sum(axis=-1)
        return gain

    def _coefficients(self, light_a: Light, light_b: Light, cross: Light) -> tuple[Light, Light]:
        """Section 3, from A, B and sqrt(AB) at the detectors; exact for complex numbers too."""
        m1, m2, m12 = self.parameters.overlaps
        _, p1, p2 = self._p
        node1 = _Node(light_a, self._s_left, m1, self._silence)
        node2 = _Node(light_b, self._s_right, m2, self._silence)
        # G is a sum of products of one factor per node; see `_Node` for the factors.
        lost1, lost2 = ((p1 + p2) * node.bent + p2 * (node.seen - node.both) for node in (node1, node2))
        constant = _product(node1.silent - lost1, node2.silent) - _product(node1.silent, lost2)
        constant += p2 * (_product(node1.seen, node2.bent) + _product(node1.bent, node2.seen))
        photon = (p1 + p2) * _product(node1.sign, node2.sign)
        photon -= p2 * (_product(node1.sign_seen, node2.sign) + _product(node1.sign, node2.sign_seen))
        scale = math.sqrt(self._s_left * self._s_right) * m12 / 4
        return constant, scale * np.asarray(cross)[..., None] * photon


class _Node:
    """One node's factors of the generating function, turned from silent sets into the four local patterns.

    A local pattern is 0: none, 1: plus, 2: minus, 3: both. With n of the two detectors silent and d = +-1 if one is,
    the silent factor is S = exp(-n A/2) Y^n, and the arrays [..., 4] hold the inclusion-exclusion of: ``silent`` S;
    ``seen`` u S, u = s n/4 (the photon of S reaches a silent detector); ``bent`` t S, t = u - s M A d^2/8 (the same,
    less what interference adds); ``both`` u t S; ``sign`` d S; ``sign_seen`` u d S. Written out, no large numbers
    cancel: patterns keep their relative accuracy however weak the light is.
    """

    def __init__(self, light: Light, s: float, overlap: float, silence: float) -> None:
        log_silence = math.log(silence) if silence > 0 else -math.inf
        quiet = np.exp(-light / 2) * silence
        click = -np.expm1(-light / 2 + log_silence) if silence > 0 else 1 - quiet
        zero = np.zeros_like(quiet)
        interference = s * overlap * light / 8

        def local(one: Light, two: Light, both: Light) -> Light:
            return np.stack([two, one, one, both], axis=-1)

        u1, u2 = s / 4, s / 2
        t1, t2 = u1 - interference, u2
        self.silent = local(quiet * click, quiet**2, click**2)
        # One silent detector leaves q f(1), two leave q^2 f(2): plus alone is q f(1) - q^2 f(2).
        self.seen = local(quiet * (u1 - quiet * u2), quiet**2 * u2, -quiet * click * u2)
        self.bent = local(quiet * (t1 - quiet * t2), quiet**2 * t2, quiet * (2 * interference - click * t2))
        self.both = local(
            quiet * (u1 * t1 - quiet * u2 * t2), quiet**2 * u2 * t2, quiet * (quiet * u2 * t2 - 2 * u1 * t1)
        )
        self.sign = np.stack([zero, -quiet, quiet, zero], axis=-1)
        self.sign_seen = u1 * self.sign


def _product(first: Light, second: Light) -> Light:
    """[..., 16] from [..., 4] of M1 (low bits of the pattern) and [..., 4] of M2 (high bits)."""
    joint = second[..., :, None] * first[..., None, :]
    flat: Light = joint.reshape(*joint.shape[:-2], PATTERNS)
    return flat
