"""One measurement node between the users, as the twin-field baselines have it (physics.md section 5.4)."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay_sim.click_model import Light
from qrelay_sim.parameters import RelayParameters
from qrelay_sim.success_table import FLIP, KEEP, single_node_table

__all__ = ["SingleNode"]

FloatArray = NDArray[np.float64]


class SingleNode:
    """Click statistics of two coherent pulses at one 50:50 splitter with two detectors.

    A detector sees the intensity (a + b)/2 +- V sqrt(a b) cos(delta), with V = 1 - 2 e_d of the baseline's optics. The
    node stands where S does. Same interface as `ClickModel`: a success is exactly one click.
    """

    def __init__(self, parameters: RelayParameters) -> None:
        self.parameters = parameters
        self.eta_a, self.eta_b = parameters.user_transmittances
        self.visibility = 1 - 2 * parameters.baseline_misalignment
        self._silence = 1 - parameters.dark_probability
        self._table = single_node_table(parameters.double_clicks)

    def announced(
        self, mu_a: ArrayLike, mu_b: ArrayLike, *, contrast: float = 1.0, scale: complex = 1.0
    ) -> tuple[Light, Light]:
        """Return (right, wrong) success probabilities of matched phases; see `ClickModel.announced`."""
        a = np.asarray(mu_a, dtype=np.float64) * self.eta_a
        b = np.asarray(mu_b, dtype=np.float64) * self.eta_b
        mean, fringe = (a + b) / 2, self.visibility * contrast * np.sqrt(a * b)
        outcomes = self._patterns(scale * (mean + fringe), scale * (mean - fringe)) @ self._table
        return outcomes[..., KEEP], outcomes[..., FLIP]

    def gain_of_mixed_phases(self, mu_a: ArrayLike, mu_b: ArrayLike) -> Light:
        """Gain averaged over all phase differences; complex photon numbers give number-state yields."""
        a, b = np.asarray(mu_a) * self.eta_a, np.asarray(mu_b) * self.eta_b
        # exp(+-z cos) averages to I0(z), an entire function of z^2: the excess over 1 as a series.
        quarter = self.visibility**2 * (a * b) / 4
        excess, term = np.zeros_like(quarter), np.ones_like(quarter)
        for k in range(1, 40):
            term = term * quarter / k**2
            excess = excess + term
        half = (a + b) / 2
        silent = self._silence * np.exp(-half)
        log_silence = math.log(self._silence) if self._silence > 0 else -math.inf
        one = silent * (excess - np.expm1(log_silence - half))
        both = 1 - 2 * silent * (1 + excess) + silent**2
        gain: Light = 2 * one * self._table[1].sum() + both * self._table[3].sum()
        return gain

    def single_clicks(self, mu_a: ArrayLike, mu_b: ArrayLike) -> FloatArray:
        """Probability that each detector clicks, averaged over the phases (leading order in the light), [..., 2]."""
        a = np.asarray(mu_a, dtype=np.float64) * self.eta_a
        b = np.asarray(mu_b, dtype=np.float64) * self.eta_b
        click = 1 - self._silence * np.exp(-(a + b) / 2)
        return np.stack([click, click], axis=-1)

    def _patterns(self, plus: Light, minus: Light) -> Light:
        """Probabilities of no click, plus alone, minus alone, both; from the intensities at the detectors."""
        silent_plus, silent_minus = self._silence * np.exp(-plus), self._silence * np.exp(-minus)
        log_silence = math.log(self._silence) if self._silence > 0 else -math.inf
        click_plus, click_minus = -np.expm1(log_silence - plus), -np.expm1(log_silence - minus)
        return np.stack(
            [
                silent_plus * silent_minus,
                click_plus * silent_minus,
                silent_plus * click_minus,
                click_plus * click_minus,
            ],
            axis=-1,
        )
