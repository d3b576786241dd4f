"""The closed form beside a measurement: what the click model of physics.md section 3 says about a run's settings.

The model lives in `qrelay_sim`, which is loaded only when a comparison is wanted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .config import RunConfig
from .protocol.choice import PHASES

__all__ = ["RunModel", "TwoSided"]


@dataclass(frozen=True)
class TwoSided:
    """Model values of one pair of settings."""

    gain: float
    qber: float


class RunModel:
    """Expected gains, error rates and fringe of a run, from its [twin] table and its settings.

    The twin's settings are the true parameters of a simulated bench; for boards they are the user's own description.
    `phase_offset` is the one that bits are sifted with, in 1/16 turn; None stands for the one of the run file or, where
    that is to be found, for the one that the [twin] table leads to. `injected_phase_rad` holds the phases of Alice
    minus Bob that were really added, over which the fringe is averaged; None or none means the constant one of the
    [twin] table. `source` is what a blinking or drifting twin did on average, as in the manifest's ``injected_source``.
    """

    def __init__(
        self,
        config: RunConfig,
        phase_offset: int | None = None,
        injected_phase_rad: Sequence[float] | None = None,
        source: Mapping[str, float] | None = None,
    ) -> None:
        from qrelay_sim.click_model import ClickModel

        settings = config.twin_settings()
        levels = settings.level_photon_numbers()
        self._photons = [levels[setting.level_code] for setting in config.settings]
        self._parameters = settings.relay_parameters()
        self._on = 1.0
        if source is not None:
            self._on = source["on_fraction"]
            m1, m2, m12 = self._parameters.node_overlaps or (self._parameters.overlap,) * 3
            factors = (source[f"overlap_factor_{node}"] for node in ("m1", "m2", "m12"))
            one, two, both = (m * factor for m, factor in zip((m1, m2, m12), factors, strict=True))
            self._parameters = replace(self._parameters, node_overlaps=(one, two, both))
        # Where the source blinks, probabilities are averages over both its states.
        self._states = [(self._on, self._parameters)]
        if self._on < 1:
            self._states.append((1 - self._on, replace(self._parameters, source_mean_photons=0.0)))
        self._models = [(weight, ClickModel(parameters)) for weight, parameters in self._states]
        offset = phase_offset if phase_offset is not None else _offset_to_come(config, settings.phase_offset_rad)
        # An offset is a whole number of steps: it leaves a residual.
        added = injected_phase_rad or [settings.phase_offset_rad]
        residual = np.asarray(added, np.float64) - 2 * np.pi * offset / PHASES
        self._cosine, self._sine = float(np.mean(np.cos(residual))), float(np.mean(np.sin(residual)))
        self._inverted = config.sifting.invert

    @classmethod
    def of_run(cls, config: RunConfig, manifest: Mapping[str, Any], phase_offset: int) -> Self:
        """Model of a run whose bits were sifted with `phase_offset`, from what its twin really did."""
        # The phase between real users is not known: an offset that was found only says that it was corrected.
        offset = phase_offset if config.simulated else None
        return cls(config, offset, manifest.get("injected_phase_rad"), manifest.get("injected_source"))

    def pair(self, setting_a: int, setting_b: int) -> TwoSided:
        """Gain and QBER of matched phases of a pair of settings."""
        same, opposite = self.fringe(setting_a, setting_b, np.zeros(1))
        right, wrong = (opposite, same) if self._inverted else (same, opposite)
        gain = float(right[0] + wrong[0])
        return TwoSided(gain, float(wrong[0]) / gain if gain > 0 else 0.5)

    def fringe(
        self, setting_a: int, setting_b: int, delta: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities of same-sign and opposite-sign success at phase differences `delta`, residuals averaged."""
        a, b = self._photons[setting_a], self._photons[setting_b]
        quarter = np.array([0.0, np.pi / 2])
        found = np.array([model.success_by_phase(a, b, quarter) for _, model in self._models])
        (same, same_quarter), (opposite, opposite_quarter) = np.tensordot([w for w, _ in self._models], found, axes=1)
        # Every pattern probability is c + k cos(delta): cos(delta + residual) is averaged over the residuals.
        averaged = np.cos(delta) * self._cosine - np.sin(delta) * self._sine
        return (
            same_quarter + (same - same_quarter) * averaged,
            opposite_quarter + (opposite - opposite_quarter) * averaged,
        )

    def even_fraction(self, setting_a: int, setting_b: int) -> float:
        """q_even of a pair of settings (physics.md section 3.1, exact)."""
        from qrelay_sim.click_model import ClickModel
        from qrelay_sim.protocols.phase_matching import parity

        a, b = self._photons[setting_a], self._photons[setting_b]
        found = [(weight, parity(ClickModel(parameters), a, b, 1.0)) for weight, parameters in self._states]
        gain = sum(weight * float(result.gain) for weight, result in found)
        even = sum(weight * float(result.gain) * float(result.even) for weight, result in found)
        return even / gain if gain else float(found[0][1].even)


def _offset_to_come(config: RunConfig, phase_rad: float) -> int:
    """Phase offset of a run with this phase of Alice minus Bob, see `qrelay.fringes.Fringes.offset`."""
    if isinstance(config.sifting.phase_offset, int):
        return config.sifting.phase_offset
    return round(phase_rad * PHASES / (2 * np.pi)) + (PHASES // 2 if config.sifting.invert else 0)
