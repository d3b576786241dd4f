"""States of the drifting processes at the borders of the cells, and their paths inside."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .slow_paths import blinking_path, delay_path, integrated_covariance, phase_path

__all__ = ["SlowKnots", "SlowPath", "SlowSettings", "SlowState", "slow_path"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SlowSettings:
    """Drift of a bench; an rms or an off time of 0 switches a process off. All times in slots.

    `phase_rms` is that of the slope, in rad per correlation time; `delay_rms` is in units of the pulse's decay time,
    over which a delay error reduces the overlap to 1/e (physics.md section 8.3).
    """

    phase_offset_rad: float = 0.0
    phase_rms: float = 0.0
    phase_correlation: float = 1.0
    delay_rms: float = 0.0
    delay_correlation: float = 1.0
    on_time: float = 1.0
    off_time: float = 0.0

    @property
    def on_probability(self) -> float:
        """Part of the time that the source shines."""
        return self.on_time / (self.on_time + self.off_time)

    @property
    def switching_rate(self) -> float:
        """Rate at which the blinking state is drawn anew, see `slow_paths.blinking_path`."""
        return 1 / self.on_time + 1 / self.off_time if self.off_time else 0.0


class SlowState(NamedTuple):
    """State of all processes at one slot."""

    slope: float
    phase: float
    delay_1: float
    delay_2: float
    on: int


class SlowPath(NamedTuple):
    """Values at the slots asked for; one value for all of them where a process is off."""

    source_on: NDArray[np.uint8]
    phase: Floats
    factor_1: Floats
    factor_2: Floats

    def before(self, count: int) -> "SlowPath":
        """Values at the first `count` slots."""
        on = self.source_on if len(self.source_on) == 1 else self.source_on[:count]
        phase, one, two = (values if len(values) == 1 else values[:count] for values in self[1:])
        return SlowPath(on, phase, one, two)


class SlowKnots:
    """Draws the states at rising slots, each process from its own stream, in order.

    Parameters
    ----------
    settings : SlowSettings
    seeds : of phase, delay and blinking.
    first : slot of the first state: phase 0, everything else stationary.
    """

    def __init__(self, settings: SlowSettings, seeds: tuple[np.random.SeedSequence, ...], first: int) -> None:
        self._settings = settings
        self._phase, self._delay, self._blink = (np.random.default_rng(seed) for seed in seeds)
        self._at = first
        self.state = SlowState(
            settings.phase_rms * float(self._phase.standard_normal()),
            0.0,
            settings.delay_rms * float(self._delay.standard_normal()),
            settings.delay_rms * float(self._delay.standard_normal()),
            int(self._blink.random() < settings.on_probability),
        )

    def advance(self, slot: int) -> SlowState:
        """State at `slot`, not before that of the last call."""
        settings, old, slots = self._settings, self.state, slot - self._at
        slope, phase, on = old.slope, old.phase, old.on
        delays = [old.delay_1, old.delay_2]
        if settings.phase_rms and slots:
            u = slots / settings.phase_correlation
            xx, xy, yy = integrated_covariance(u)
            one, two = self._phase.standard_normal(2)
            rms, root = settings.phase_rms, math.sqrt(xx)
            phase += -math.expm1(-u) * slope + rms * (xy / root * one + math.sqrt(max(yy - xy * xy / xx, 0.0)) * two)
            slope = math.exp(-u) * slope + rms * root * one
        if settings.delay_rms:
            u = slots / settings.delay_correlation
            kick = settings.delay_rms * math.sqrt(-math.expm1(-2 * u))
            delays = [math.exp(-u) * delay + kick * float(self._delay.standard_normal()) for delay in delays]
        if settings.off_time:
            again, state = self._blink.random(2)
            if again < -math.expm1(-settings.switching_rate * slots):
                on = int(state < settings.on_probability)
        self._at = slot
        self.state = SlowState(float(slope), float(phase), delays[0], delays[1], on)
        return self.state


def slow_path(
    settings: SlowSettings,
    seeds: tuple[np.random.SeedSequence, ...],
    slots: Integers,
    begin: int,
    end: int,
    left: SlowState,
    right: SlowState,
) -> SlowPath:
    """Values at ascending slots of the cell from `begin` to `end`, given its states at both.

    `seeds` are those of the cell for phase, the two delays and blinking.
    """
    on = np.ones(1, np.uint8)
    phase = np.full(1, settings.phase_offset_rad)
    factors = [np.ones(1), np.ones(1)]
    if settings.phase_rms:
        rng = np.random.default_rng(seeds[0])
        ends = left[:2], right[:2]
        phase = phase + phase_path(rng, slots, begin, end, *ends, settings.phase_rms, settings.phase_correlation)
    if settings.delay_rms:
        for k, (before, after) in enumerate(((left.delay_1, right.delay_1), (left.delay_2, right.delay_2))):
            rng = np.random.default_rng(seeds[1 + k])
            values = delay_path(rng, slots, begin, end, before, after, settings.delay_rms, settings.delay_correlation)
            factors[k] = np.exp(-np.abs(values))
    if settings.off_time:
        rng = np.random.default_rng(seeds[3])
        on = blinking_path(rng, slots, begin, end, left.on, right.on, settings.switching_rate, settings.on_probability)
    return SlowPath(on, phase, factors[0], factors[1])
