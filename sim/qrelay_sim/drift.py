"""Drift of the phase difference between the two users."""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["PhaseDrift"]


class PhaseDrift:
    """Phase whose slope is an Ornstein-Uhlenbeck process (physics.md section 8.5: Gaussian slope, rms and correlation).

    The slope is drawn exactly at every `STEP_SLOTS` slots and held in between, the phase is its integral, starting
    at 0. Nothing depends on the order or the size of the requests.

    Parameters
    ----------
    slope_rms_rad_per_ms : float
        Standard deviation of the slope, which starts in its stationary state.
    correlation_time_ms : float
        Time after which the slope's correlation has fallen to 1/e; at least ten steps (0.034 ms).
    slot_rate_hz : float
        Slots per second.
    rng : numpy.random.Generator
        Used by nobody else.
    """

    STEP_SLOTS = 1024
    _KEPT_STEPS = 1 << 20

    def __init__(
        self, slope_rms_rad_per_ms: float, correlation_time_ms: float, slot_rate_hz: float, rng: np.random.Generator
    ) -> None:
        step_ms = self.STEP_SLOTS / slot_rate_hz * 1e3
        if not correlation_time_ms >= 10 * step_ms:
            raise ValueError(
                f"correlation_time_ms {correlation_time_ms} is shorter than ten drift steps; "
                f"give {10 * step_ms:.3g} or more"
            )
        if not slope_rms_rad_per_ms >= 0:
            raise ValueError(f"slope_rms_rad_per_ms {slope_rms_rad_per_ms} is negative; give 0 or more")
        self._rng = rng
        self._memory = math.exp(-step_ms / correlation_time_ms)
        rms = slope_rms_rad_per_ms * step_ms / self.STEP_SLOTS
        self._kick = rms * math.sqrt(1 - self._memory**2)
        self._slopes = np.array([rms * rng.standard_normal()])
        self._phases = np.zeros(1)
        self._first_step = 0

    def at(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Phase [rad] at absolute slots; the last 1e9 slots can be asked again."""
        if slots.size == 0:
            return np.zeros(slots.shape)
        step = slots // self.STEP_SLOTS
        self._extend(int(step.max()))
        step -= self._first_step
        if step.min() < 0:
            raise ValueError(
                f"phase of slot {int(slots.min())} is forgotten; ask for slots from "
                f"{self._first_step * self.STEP_SLOTS} on"
            )
        phases: NDArray[np.float64] = self._phases[step] + self._slopes[step] * (slots % self.STEP_SLOTS)
        return phases

    def _extend(self, step: int) -> None:
        missing = step - self._first_step - len(self._slopes) + 1
        if missing <= 0:
            return
        slope = float(self._slopes[-1])
        slopes = np.empty(missing)
        for k, kick in enumerate(self._rng.standard_normal(missing) * self._kick):
            slope = slope * self._memory + kick
            slopes[k] = slope
        held = np.concatenate((self._slopes[-1:], slopes[:-1]))
        # Adding one step after the other keeps the rounding the same for any split into requests.
        phases = np.cumsum(np.concatenate((self._phases[-1:], held * self.STEP_SLOTS)))[1:]
        self._slopes = np.concatenate((self._slopes, slopes))
        self._phases = np.concatenate((self._phases, phases))
        surplus = len(self._slopes) - self._KEPT_STEPS
        if surplus > 0:
            self._slopes, self._phases = self._slopes[surplus:], self._phases[surplus:]
            self._first_step += surplus
