"""Everything the fast twin derives from a run file before the first slot."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.choice_keys import ChoiceKey
from qrelay.config import RunConfig
from qrelay.configure import sender_steps
from qrelay.frame import FrameLayout
from qrelay.protocol.choice import SETTINGS
from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import SLOTS_PER_BLOCK
from qrelay.success_rules import success_rule
from qrelay_sim.click_model import PATTERNS
from qrelay_sim.optics import OpticsSettings

from .frame_map import FrameMap
from .light_tables import PAIRS, Selection, bin_probabilities, light_patterns, pattern_channel, shift_leak
from .receiver_sweep import ReceiverSettings
from .slow_knots import SlowSettings

__all__ = ["EVENTS_PER_CELL", "Plan"]

EVENTS_PER_CELL = 1 << 16
"""Events expected in a cell, the part of a run with random streams of its own."""
_LARGEST_CELL = 1 << 40
_NEGLIGIBLE = 1e-9
"""An edge that leaves its slot less often than this is taken to stay."""
_MEMORIES = 64
"""A cell is at least that many dead times long: what a detector did before the cell before does not matter."""


@dataclass(frozen=True)
class Plan:
    """A run file as the fast twin takes it.

    `origin` is the slot index at which the frames begin, `first` and `end` the run's first slot and the one after its
    last, both relative to it; `end` is None for a run without end.
    """

    config: RunConfig
    keys: Mapping[str, ChoiceKey]
    origin: int
    first: int
    end: int | None
    optics: OpticsSettings
    slow: SlowSettings
    layout: FrameLayout
    quantum: FrameMap
    reference: FrameMap
    step_codes: NDArray[np.uint8]
    """Setting and phase of both senders in each step of a reference segment, ``setting << 4 | phase``."""
    receiver: ReceiverSettings
    light: Selection
    """Any click of light in quantum segments, by its light pattern."""
    reference_light: Selection
    """The same in reference segments, where the source is closed."""
    success: Selection
    """Successes by their recorded pattern, gates and dark counts included; used where `direct`."""
    recorded: NDArray[np.float64]
    """Terms of all recorded patterns, as `success` selects from."""
    passes_light: tuple[float, ...]
    passes_dark: tuple[float, ...]
    """Probability of a recorded click from an edge of light, and of a recorded dark click in a slot; by detector."""
    coupled: bool
    """What a detector does depends on slots before."""
    backward: bool
    """Edges may fall into earlier slots."""
    direct: bool
    """Successes can be drawn without all the other clicks."""
    click_cell: int
    success_cell: int
    """Length of a cell in slots, where all clicks are drawn and where successes are."""

    @classmethod
    def of(
        cls, config: RunConfig, keys: Mapping[str, ChoiceKey], origin: int, first_slot: int, end_slot: int | None
    ) -> "Plan":
        """Plan of a run; slots are indices. Raises ConfigError for what the fast twin cannot do."""
        twin = config.twin_settings()
        levels = twin.level_photon_numbers()
        photons = [levels[setting.level_code] for setting in config.settings]
        photons += [levels[0]] * (SETTINGS - len(photons))
        rate = twin.relay_parameters().slot_rate_hz
        optics = OpticsSettings(
            parameters=twin.relay_parameters(),
            levels_a=levels,
            dead_slots=twin.detector_dead_slots,
            afterpulse_probability=twin.afterpulse_probability,
            pulse_fine=twin.arrival_fines,
            jitter_ps=twin.jitter_ps,
        )
        slow = SlowSettings(
            phase_offset_rad=twin.phase_offset_rad,
            phase_rms=twin.phase_drift_rad_per_ms * twin.phase_drift_correlation_ms,
            phase_correlation=twin.phase_drift_correlation_ms * 1e-3 * rate,
            delay_rms=twin.delay_drift_ps / optics.tail_ps,
            delay_correlation=twin.delay_drift_correlation_s * rate,
            on_time=twin.blink_on_us * 1e-6 * rate,
            off_time=twin.blink_off_us * 1e-6 * rate,
        )
        layout = FrameLayout.of(config.frame)
        quantum = FrameMap.of(layout, "quantum")
        terms = light_patterns(optics.parameters, photons)
        probabilities = config.drawn_probabilities()
        weights = np.zeros((SETTINGS, SETTINGS))
        weights[: len(probabilities), : len(probabilities)] = np.outer(probabilities, probabilities)
        drawn = np.flatnonzero(weights.ravel())
        rows = np.concatenate((drawn, PAIRS + drawn)) if slow.off_time else PAIRS + drawn
        drifting = bool(slow.delay_rms)
        light = Selection.of(terms, range(1, PATTERNS), rows, delays_drift=drifting)
        steps = sender_steps(config)
        step_rows = np.array([setting << 3 | setting for setting, _ in steps])
        receiver = _receiver(config)
        bins = bin_probabilities(optics)
        passes_light, passes_dark = _passes(receiver, optics, bins)
        channel = pattern_channel(passes_light, passes_dark)
        recorded = terms @ channel.T
        outcomes = [p for p in range(1, PATTERNS) if receiver.table[p]]
        success = Selection.of(recorded, outcomes, rows, delays_drift=drifting)
        earlier, later = shift_leak(optics)
        dead = max(int(receiver.dead_slots.max()), optics.dead_slots)
        trims = int(receiver.delay_fines.max())
        leaks = earlier > _NEGLIGIBLE or later > _NEGLIGIBLE
        # The last bin of a slot is where a trim first reaches the next one.
        leaks |= trims + 256 - 128 // optics.fine_bins > 255
        coupled = bool(dead or optics.afterpulse_probability or leaks)
        wanted = config.events
        direct = not coupled and not receiver.windows and wanted.clicks != "all" and wanted.frames != "all"
        mean = weights.ravel() / weights.sum() @ _sum_of(terms, slow)
        clicks = float(mean[1:].sum()) * quantum.per_frame / layout.slots + 4 * optics.dark_count_per_slot
        successes = float((weights.ravel() @ _sum_of(recorded, slow))[outcomes].sum())
        memory = dead + trims // 256 + (40 * int(optics.afterpulse_decay_slots) if optics.afterpulse_probability else 0)
        step = math.lcm(SLOTS_PER_BLOCK, layout.slots)
        return cls(
            config,
            keys,
            origin,
            first_slot - origin,
            None if end_slot is None else end_slot - origin,
            optics,
            slow,
            layout,
            quantum,
            FrameMap.of(layout, "reference"),
            np.array([setting << 4 | phase for setting, phase in steps], np.uint8),
            receiver,
            light,
            Selection.of(terms, range(1, PATTERNS), step_rows, delays_drift=False),
            success,
            recorded,
            passes_light,
            passes_dark,
            coupled,
            earlier > _NEGLIGIBLE,
            direct,
            _cell(clicks, step, _MEMORIES * memory),
            _cell(successes * quantum.per_frame / layout.slots, step, 0),
        )

    @property
    def sample_end(self) -> int:
        """Slot before which single clicks are wanted although successes could be drawn directly; a cell's end."""
        if self.config.events.clicks != "sample" or not self.config.events.click_sample:
            return self.first
        wanted = self.config.events.click_sample
        # Enough cells that the sample is complete but for one run in 10^9.
        cells = -(-(wanted + 6 * math.isqrt(wanted) + 64) // EVENTS_PER_CELL)
        return (-(-self.first // self.click_cell) + cells) * self.click_cell


def _sum_of(terms: NDArray[np.float64], slow: SlowSettings) -> NDArray[np.float64]:
    """Pattern probabilities [pair, pattern] without drift, any phase, averaged over blinking."""
    still = terms[0] + terms[1] + terms[2]
    on = slow.on_probability
    averaged: NDArray[np.float64] = (1 - on) * still[:PAIRS] + on * still[PAIRS:]
    return averaged


def _cell(probability: float, step: int, least: int) -> int:
    wanted = min(_LARGEST_CELL, EVENTS_PER_CELL / max(probability, 1e-18))
    return step * max(1, round(wanted / step), -(-least // step))


def _receiver(config: RunConfig) -> ReceiverSettings:
    detectors = config.receiver.detectors
    rule = success_rule(config.receiver.success_rule, [detector.name for detector in detectors])

    def column(values: list[int], rest: int = 0) -> NDArray[np.int64]:
        return np.array(values + [rest] * (DETECTORS - len(values)), np.int64)

    return ReceiverSettings(
        column([256 * d.delay_slots + d.delay_fines for d in detectors]),
        column(config.receiver.dead_slots_of_detectors()),
        column([d.gate_start_fines for d in detectors]),
        column([d.gate_width_fines for d in detectors]),
        column([d.late_start_fines for d in detectors]),
        column([d.late_width_fines for d in detectors]),
        column([1] * len(detectors)),
        bool(rule.windows),
        np.array(rule.table, np.uint8),
    )


def _passes(
    receiver: ReceiverSettings, optics: OpticsSettings, bins: NDArray[np.float64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    width = 256 // len(bins)
    fines = np.arange(len(bins)) * width + width // 2
    light, dark = [], []
    for d in range(DETECTORS):
        inside = (fines + receiver.delay_fines[d] - receiver.gate_start[d]) % 256 < receiver.gate_width[d]
        open_now = inside & bool(receiver.enabled[d])
        light.append(min(1.0, float(bins[open_now].sum())))
        dark.append(optics.dark_count_per_slot * float(np.mean(open_now)))
    return tuple(light), tuple(dark)
