"""Time filtering: what a gate does to brightness, overlap and dark counts together (physics.md sections 3 and 8.3).

A detector that accepts a photon arriving at t with probability g(t) maps onto the click model exactly: with the user's
amplitude psi(t) and the dot's photon rho(t, t'),

    users' light is multiplied by   U = int g |psi|^2
    the dot's light by              S = int g(t) rho(t, t)
    the overlap is                  M = int int g(t) g(t') psi*(t) rho(t, t') psi(t') / (U S)

and a dark count rate c gives p_d = 1 - exp(-c x gate width). g is the gate smeared by the detector's jitter.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Filtered", "Timing"]

_NODES: Final = 8
_PARTS: Final = 60
"""Gauss-Legendre nodes per part and about how many parts: integrals to 1e-6."""


@dataclass(frozen=True)
class Filtered:
    """What passes the gate: fractions of the users' and of the dot's light, temporal overlap, dark counts per gate."""

    user_fraction: float
    source_fraction: float
    overlap: float
    dark_count_per_gate: float


@dataclass(frozen=True)
class Timing:
    """Shapes in time at one detector. Times in ps from the earliest arrival of the dot's photon.

    Parameters
    ----------
    lifetime_ps : float
        T1 of the dot: intensity exp(-t/T1).
    dephasing_per_ns : float
        Pure dephasing rate: rho(t, t') carries exp(-rate |t - t'|). Two photons of the dot then have the
        indistinguishability 1 / (1 + 2 T1 rate); a matched user's pulse the overlap 1 / (1 + T1 rate).
    pulse : "exponential" or "gaussian"
        Users' pulses: carved to match the dot, or a Gaussian.
    pulse_fwhm_ps : float
        Full width at half maximum of the Gaussian's intensity.
    pulse_delay_ps : float
        Users' pulse late by this much: its start (exponential) or its centre (Gaussian).
    jitter_ps : float
        rms timing jitter of a detector.
    gate_start_ps, gate_width_ps : float
        The gate.
    dark_counts_per_s : float
        Dark count rate of a detector.
    """

    lifetime_ps: float = 80.0
    dephasing_per_ns: float = 0.0
    pulse: Literal["exponential", "gaussian"] = "exponential"
    pulse_fwhm_ps: float = 127.0
    pulse_delay_ps: float = 0.0
    jitter_ps: float = 40.0
    gate_start_ps: float = -100.0
    gate_width_ps: float = 500.0
    dark_counts_per_s: float = 20.0

    def __post_init__(self) -> None:
        for key in ("lifetime_ps", "pulse_fwhm_ps", "gate_width_ps"):
            if not 0 < getattr(self, key) < math.inf:
                raise ValueError(f"timing.{key} {getattr(self, key)} is out of range; give more than 0")
        for key in ("dephasing_per_ns", "jitter_ps", "dark_counts_per_s"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ValueError(f"timing.{key} {getattr(self, key)} is out of range; give 0 or more")
        for key in ("pulse_delay_ps", "gate_start_ps"):
            if not math.isfinite(getattr(self, key)):
                raise ValueError(f"timing.{key} {getattr(self, key)} is no time; give a number of ps")
        if self.pulse not in ("exponential", "gaussian"):
            raise ValueError(f"timing.pulse {self.pulse!r} does not exist; give 'exponential' or 'gaussian'")

    def filtered(self) -> Filtered:
        """Pass the light through the gate."""
        time, weight = self._quadrature()
        gate = self._acceptance(time)
        dot = np.where(time > 0, np.exp(-np.clip(time, 0, None) / (2 * self.lifetime_ps)), 0.0)
        pulse = self._pulse_amplitude(time)
        dot_intensity, pulse_intensity = weight * dot**2, weight * pulse**2
        dot_intensity /= dot_intensity.sum()
        pulse_intensity /= pulse_intensity.sum()
        user, source = float(gate @ pulse_intensity), float(gate @ dot_intensity)
        dark = -math.expm1(-self.dark_counts_per_s * self.gate_width_ps * 1e-12)
        if user < 1e-12 or source < 1e-12:
            return Filtered(user, source, 0.0, dark)
        coherence = np.exp(-np.abs(time[:, None] - time) * self.dephasing_per_ns * 1e-3)
        amplitude = gate * np.sqrt(pulse_intensity * dot_intensity)
        return Filtered(user, source, float(amplitude @ coherence @ amplitude) / (user * source), dark)

    def _quadrature(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Nodes and weights over all of both shapes, split where a shape or the gate has an edge."""
        tail = 16 * self.lifetime_ps
        edges = {0.0, tail, self.pulse_delay_ps, self.gate_start_ps, self.gate_start_ps + self.gate_width_ps}
        reach = tail if self.pulse == "exponential" else 3 * self.pulse_fwhm_ps
        first = min(0.0, self.pulse_delay_ps - (reach if self.pulse == "gaussian" else 0.0))
        last = max(tail, self.pulse_delay_ps + reach)
        edges |= {first, last}
        inside = sorted(edge for edge in edges if first <= edge <= last)
        node, node_weight = np.polynomial.legendre.leggauss(_NODES)
        times, weights = [], []
        longest = min(self.lifetime_ps, self.pulse_fwhm_ps if self.pulse == "gaussian" else math.inf)
        longest = max(min(longest, max(self.jitter_ps, 1.0) * 2), (last - first) / _PARTS)
        for low, high in itertools.pairwise(inside):
            borders = np.linspace(low, high, 1 + math.ceil((high - low) / longest))
            half = np.diff(borders)[:, None] / 2
            times.append((borders[:-1, None] + half * (1 + node)).ravel())
            weights.append((half * node_weight).ravel())
        return np.concatenate(times), np.concatenate(weights)

    def _pulse_amplitude(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        since = time - self.pulse_delay_ps
        if self.pulse == "gaussian":
            return np.exp(-2 * math.log(2) * (since / self.pulse_fwhm_ps) ** 2)
        return np.where(since > 0, np.exp(-np.clip(since, 0, None) / (2 * self.lifetime_ps)), 0.0)

    def _acceptance(self, time: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that a photon arriving at `time` is registered inside the gate."""
        from_start, from_end = time - self.gate_start_ps, time - self.gate_start_ps - self.gate_width_ps
        if self.jitter_ps == 0:
            return ((from_start > 0) & (from_end < 0)).astype(np.float64)
        scale = 1 / (math.sqrt(2) * self.jitter_ps)
        return np.array(
            [(math.erf(a * scale) - math.erf(b * scale)) / 2 for a, b in zip(from_start, from_end, strict=True)]
        )
