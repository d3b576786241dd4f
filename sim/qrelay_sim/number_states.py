"""Yields of photon-number states from the closed forms of coherent light.

A gain is an entire function of the intensities, exp(-a) sum_n a^n/n! Y_n: the yields are its Taylor coefficients, taken
here from values on a circle (Cauchy's integral), where `POINTS` points leave an error of radius^POINTS / POINTS!.
"""

import math
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay_sim.click_model import Light
from qrelay_sim.entropy import ratio

__all__ = ["Interference", "SinglePhoton", "pair_yields", "single_photon"]

POINTS: Final = 12
RADIUS: Final = 0.3

FloatArray = NDArray[np.float64]


class Interference(Protocol):
    """What the protocols need to know of an interferometer: `ClickModel` and `SingleNode`."""

    def announced(
        self, mu_a: ArrayLike, mu_b: ArrayLike, *, contrast: float = 1.0, scale: complex = 1.0
    ) -> tuple[Light, Light]:
        """(right, wrong) of matched phases, at intensities times `scale`."""
        ...

    def gain_of_mixed_phases(self, mu_a: ArrayLike, mu_b: ArrayLike) -> Light:
        """Gain of pulses whose phases are random to each other."""
        ...

    def single_clicks(self, mu_a: ArrayLike, mu_b: ArrayLike) -> FloatArray:
        """Click probability of each detector, [..., detectors]."""
        ...


@dataclass(frozen=True)
class SinglePhoton:
    """Yield of one photon shared by the users in the ratio of their intensities, and its wrong-bit fraction."""

    gain: FloatArray
    wrong_fraction: FloatArray


def single_photon(interference: Interference, share_a: ArrayLike, contrast: float) -> SinglePhoton:
    """Y_1 and e_1 of matched phases; ``share_a`` is mu_A / (mu_A + mu_B), its shape that of the result."""
    share = np.asarray(share_a, dtype=np.float64)
    right, wrong = np.zeros(share.shape), np.zeros(share.shape)
    for z in RADIUS * np.exp(2j * np.pi * np.arange(POINTS) / POINTS):
        values = interference.announced(share, 1 - share, contrast=contrast, scale=complex(z))
        factor = np.exp(z) / z / POINTS
        right, wrong = right + (values[0] * factor).real, wrong + (values[1] * factor).real
    return SinglePhoton(right + wrong, ratio(wrong, right + wrong))


def pair_yields(interference: Interference, largest: int = 1) -> FloatArray:
    """Y_nm for n photons from Alice and m from Bob, n, m <= `largest` (at most 3), phases random."""
    circle = RADIUS * np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    a, b = circle[:, None], circle[None, :]
    values = interference.gain_of_mixed_phases(a, b) * np.exp(a + b)
    coefficients = np.fft.fft2(values).real / POINTS**2
    n = np.arange(largest + 1)
    scale = np.array([math.factorial(int(k)) / RADIUS**k for k in n])
    found: FloatArray = coefficients[: largest + 1, : largest + 1] * scale[:, None] * scale
    return found
