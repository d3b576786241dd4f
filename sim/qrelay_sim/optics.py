"""The light between the stations, slot by slot: pulses and source photons in, detector edges out.

The sampler follows the closed form of `click_model` exactly, up to float64 rounding (relative error 1e-15 of each
probability, plus the few 1e-16 of the closed form):

* the probability of no click does not depend on the phases, so slots that may click are found first, by their gaps;
  each such slot then draws one number that decides between nothing and the 15 patterns;
* only the four success patterns depend on the phase difference, so cosines are taken for these slots alone;
* dark counts are drawn apart and joined to the light's pattern: the same law, and their place in the slot is known.

Every random stream is consumed in slot order at a rate set by the slots and not by the calls, so the same seed gives
the same edges for any split of the slots into batches.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.click_model import PATTERNS, SUCCESS_PATTERNS
from qrelay_sim.detection import Afterpulses, DeadTime, EdgeTiming, click_keys, one_per_slot
from qrelay_sim.drift import PhaseDrift
from qrelay_sim.parameters import RelayParameters
from qrelay_sim.pattern_tables import CODES, OTHER_PATTERNS, UNKNOWN_PAIR, PatternTables, pair_codes
from qrelay_sim.rare_events import RareEvents
from qrelay_sim.reference_light import ReferenceLight

__all__ = ["CODES", "Edges", "OpticsSettings", "RelayOptics"]

_FINES_PER_SLOT: Final = 256
_BITS = (np.arange(PATTERNS)[:, None] >> np.arange(4) & 1).astype(np.bool_)


class Edges(NamedTuple):
    """Detector edges of a batch.

    ``slot_offset`` counts from the first slot of the batch; an edge that jitter or a long tail moves over the border
    of the batch has an offset below 0 or from n on. Ordered by the slot of the light, then by detector.
    """

    slot_offset: NDArray[np.int64]
    detector: NDArray[np.uint8]
    fine: NDArray[np.uint8]


@dataclass(frozen=True)
class OpticsSettings:
    """What the light and the detectors of a simulated bench do.

    Parameters
    ----------
    parameters : RelayParameters
        The relay. Its phase residual and slices are not used: the phases are those given to `sample`, plus drift.
    levels_a, levels_b : tuple of float
        Mean photon number leaving the user, by intensity code (at most 8); levels_b defaults to levels_a.
    phase_offset_rad : float
        Constant added to the phase difference, the theta_R - theta_L of the arms.
    drift_slope_rms_rad_per_ms, drift_correlation_ms : float
        Ornstein-Uhlenbeck slope of the phase difference; slope 0 is no drift.
    dead_slots : int
        Dead time of the detectors themselves, apart from what the receiver's gateware imposes.
    afterpulse_probability, afterpulse_decay_slots : float
        Off by default.
    pulse_fine, jitter_ps, tail_ps, fine_bins
        Place of the edges, see `EdgeTiming`. The tail is the dot's lifetime; users' pulses are carved to match, so all
        light has one envelope.
    reference_photons : float
        Mean photon number of the reference light leaving the source in a reference slot, both arms together.
    reference_visibility : float
        Visibility of its interference with users' light of equal intensity.
    gate_width_fines : int
        Gate for which ``dark_count_per_gate`` holds. The dark clicks of a whole slot are drawn, as 1 - (1 - p_d)^(256 /
        width), uniformly in the slot: a gate of that width then passes p_d. The default 256 makes p_d per slot.
    """

    parameters: RelayParameters
    levels_a: tuple[float, ...]
    levels_b: tuple[float, ...] | None = None
    phase_offset_rad: float = 0.0
    drift_slope_rms_rad_per_ms: float = 0.0
    drift_correlation_ms: float = 1.0
    dead_slots: int = 0
    afterpulse_probability: float = 0.0
    afterpulse_decay_slots: float = 10.0
    pulse_fine: int = 64
    jitter_ps: float = 40.0
    tail_ps: float = 80.0
    fine_bins: int = 2
    gate_width_fines: int = _FINES_PER_SLOT
    reference_photons: float = 0.0
    reference_visibility: float = 1.0

    def __post_init__(self) -> None:
        for key, levels in (("levels_a", self.levels_a), ("levels_b", self.levels_b or self.levels_a)):
            if not 1 <= len(levels) <= CODES:
                raise ValueError(f"{key} has {len(levels)} mean photon numbers; give 1 to {CODES}")
            if not all(0 <= level < math.inf for level in levels):
                raise ValueError(f"{key} {levels}: mean photon numbers must be finite and not negative")
        if not 1 <= self.gate_width_fines <= _FINES_PER_SLOT:
            raise ValueError(f"gate_width_fines {self.gate_width_fines} is out of range; give 1 to {_FINES_PER_SLOT}")

    @property
    def dark_count_per_slot(self) -> float:
        """Probability of a dark click in a whole slot, per detector."""
        dark = self.parameters.dark_count_per_gate
        return 1.0 if dark == 1 else -math.expm1(math.log1p(-dark) * _FINES_PER_SLOT / self.gate_width_fines)


class RelayOptics:
    """Samples the detector edges of consecutive slots, with all state carried from batch to batch.

    Parameters
    ----------
    settings : OpticsSettings
    seed : int
        Same seed, same edges, whatever the size of the batches.
    """

    def __init__(self, settings: OpticsSettings, seed: int) -> None:
        self.settings = settings
        self.slot = 0
        """First slot of the next batch, counted from the creation of this object."""
        self._tables = PatternTables(settings.parameters, settings.levels_a, settings.levels_b or settings.levels_a)
        streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(9)]
        dark, drift, afterpulse, self._jitter, self._tail, self._stray, light, reference, common = streams
        slot_ps = 1e12 / settings.parameters.slot_rate_hz
        gaps, marks = light.spawn(2)
        probabilities = self._tables.class_probability
        self._candidates = [
            RareEvents(probability, rng)
            for probability, rng in zip(probabilities, gaps.spawn(len(probabilities)), strict=True)
        ]
        self._marks = marks.spawn(len(probabilities))
        self._dark = RareEvents(settings.dark_count_per_slot, dark)
        self._dead_time = DeadTime(settings.dead_slots)
        self._afterpulses = Afterpulses(
            settings.afterpulse_probability, settings.afterpulse_decay_slots, settings.dead_slots, afterpulse
        )
        self._timing = EdgeTiming(
            pulse_fine=settings.pulse_fine,
            jitter_fines=settings.jitter_ps / slot_ps * _FINES_PER_SLOT,
            tail_fines=settings.tail_ps / slot_ps * _FINES_PER_SLOT,
            bins=settings.fine_bins,
        )
        self._drift = (
            PhaseDrift(
                settings.drift_slope_rms_rad_per_ms,
                settings.drift_correlation_ms,
                settings.parameters.slot_rate_hz,
                drift,
            )
            if settings.drift_slope_rms_rad_per_ms
            else None
        )

        self._reference = self._reference_light(reference, common)

    def _reference_light(self, rng: np.random.Generator, drift: np.random.Generator) -> ReferenceLight:
        """The reference's own phase drifts as much as the difference of the users' does."""
        settings = self.settings
        eta_a, left, right, eta_b = settings.parameters.arm_transmittances
        levels = np.zeros((2, CODES))
        for user, (eta, mean) in enumerate(
            ((eta_a, settings.levels_a), (eta_b, settings.levels_b or settings.levels_a))
        ):
            levels[user, : len(mean)] = eta * np.asarray(mean)
        half = settings.reference_photons / 2
        slope, memory = settings.drift_slope_rms_rad_per_ms, settings.drift_correlation_ms
        common = PhaseDrift(slope, memory, settings.parameters.slot_rate_hz, drift) if slope else None
        return ReferenceLight(levels, (half * left, half * right), settings.reference_visibility, common, rng)

    def phase_error(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Constant plus drift [rad] added to the phase difference at slots counted as in `slot`; for comparisons."""
        drift = self._drift.at(slots) if self._drift else np.zeros(len(slots))
        return drift + self.settings.phase_offset_rad

    def sample(
        self,
        intensity_code_a: NDArray[np.uint8],
        phase_a: NDArray[np.uint8],
        intensity_code_b: NDArray[np.uint8],
        phase_b: NDArray[np.uint8],
        source_on: NDArray[np.bool_],
        reference_on: NDArray[np.bool_] | None = None,
    ) -> Edges:
        """Edges of the next n slots.

        The arguments, n values each, are what meets at the nodes in these slots: intensity codes, phase indices 0..15
        (in 1/16 turn), whether the source was pumped and open, and whether it sent reference light instead: photons and
        reference light do not share a slot. Without `reference_on` there is no reference light.
        """
        n = len(intensity_code_a)
        for key, values in (
            ("phase_a", phase_a),
            ("intensity_code_b", intensity_code_b),
            ("phase_b", phase_b),
            ("source_on", source_on),
        ):
            if len(values) != n:
                raise ValueError(f"{key} has {len(values)} slots and intensity_code_a {n}; give equal lengths")
        if n == 0:
            return Edges(np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0, np.uint8))
        if max(intensity_code_a.max(), intensity_code_b.max()) >= CODES:
            raise ValueError(f"an intensity code is {CODES} or more; give codes of the configured levels")
        pair = pair_codes(intensity_code_a, intensity_code_b, source_on)
        if reference_on is None or not reference_on.any():
            light = self._light(pair, phase_a, phase_b)
        else:
            bright = self._reference_clicks((intensity_code_a, intensity_code_b), (phase_a, phase_b), reference_on)
            light = np.sort(np.concatenate((bright, self._light(pair, phase_a, phase_b, reference_on))))
        dark = self._dark.take(4 * n)
        keys = light
        if len(dark):
            keys = np.sort(np.concatenate((light, click_keys(dark >> 2, dark & 3, stray=True))), kind="stable")
            keys = one_per_slot(keys)
        keys = self._afterpulses.add(self._dead_time.apply(keys, n), n)
        self.slot += n
        return Edges(*self._timing.place(keys, self._jitter, self._tail, self._stray))

    def _reference_clicks(
        self,
        codes: tuple[NDArray[np.uint8], NDArray[np.uint8]],
        phases: tuple[NDArray[np.uint8], NDArray[np.uint8]],
        reference_on: NDArray[np.bool_],
    ) -> NDArray[np.int64]:
        """Sorted keys of the clicks in reference slots."""
        slots = np.flatnonzero(reference_on)
        user_codes = np.stack([code[slots] for code in codes])
        user_phases = np.stack([phase[slots] for phase in phases]).astype(np.float64) * (2 * np.pi / 16)
        user_phases[0] += self.phase_error(slots + self.slot)
        return self._reference.sample(slots, user_codes, user_phases, self.slot)

    def _light(
        self,
        pair: NDArray[np.uint8],
        phase_a: NDArray[np.uint8],
        phase_b: NDArray[np.uint8],
        left_out: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.int64]:
        """Sorted keys of the clicks that light of the users and photons make, but for slots `left_out`."""
        classes = self._tables.class_of_pair[pair]
        here = classes if left_out is None else classes[~left_out]
        if not len(here):
            return np.zeros(0, np.int64)
        lowest, highest = int(here.min()), int(here.max())
        if highest == UNKNOWN_PAIR:
            raise ValueError(
                f"an intensity code has no level: levels_a has {len(self.settings.levels_a)} and levels_b "
                f"{len(self.settings.levels_b or self.settings.levels_a)}; add the missing level"
            )
        if left_out is not None:
            classes[left_out] = UNKNOWN_PAIR
        elif lowest == highest:
            return self._class_light(lowest, self._candidates[lowest].take(len(pair)), pair, phase_a, phase_b)
        keys = []
        for kind in range(lowest, highest + 1):
            slots = np.flatnonzero(classes == kind)
            keys.append(self._class_light(kind, slots[self._candidates[kind].take(len(slots))], pair, phase_a, phase_b))
        return np.sort(np.concatenate(keys), kind="stable")

    def _class_light(
        self,
        kind: int,
        slots: NDArray[np.int64],
        pair: NDArray[np.uint8],
        phase_a: NDArray[np.uint8],
        phase_b: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        tables = self._tables
        mark = self._marks[kind].random(len(slots)) * tables.class_probability[kind]
        pairs = pair[slots]
        outcome = np.zeros(len(slots), np.uint8)
        for border in tables.borders:
            outcome += mark >= border[pairs]
        single = np.flatnonzero(outcome < 4)
        singles = click_keys(slots[single], outcome[single].astype(np.int64), stray=False)
        success = np.flatnonzero(outcome == 4)
        other = np.flatnonzero(outcome == 5)
        several = np.concatenate((success, other))
        patterns = np.concatenate(
            (
                self._success_patterns(slots[success], pairs[success], mark[success], phase_a, phase_b),
                self._other_patterns(pairs[other], mark[other]),
            )
        )
        event, detector = np.nonzero(_BITS[patterns])
        multiple = click_keys(slots[several[event]], detector, stray=False)
        return np.sort(np.concatenate((singles, multiple)), kind="stable")

    def _success_patterns(
        self,
        slots: NDArray[np.int64],
        pairs: NDArray[np.uint8],
        mark: NDArray[np.float64],
        phase_a: NDArray[np.uint8],
        phase_b: NDArray[np.uint8],
    ) -> NDArray[np.int64]:
        """One of the four success patterns for each slot, by that slot's own phase difference."""
        turns = (phase_a[slots].astype(np.float64) - phase_b[slots]) / 16
        cosine = np.cos(2 * np.pi * turns + self.phase_error(slots + self.slot))
        probability = (
            self._tables.constant[pairs][:, SUCCESS_PATTERNS]
            + self._tables.cosine[pairs][:, SUCCESS_PATTERNS] * cosine[:, None]
        )
        return _choose(mark - self._tables.borders[3][pairs], probability, SUCCESS_PATTERNS)

    def _other_patterns(self, pairs: NDArray[np.uint8], mark: NDArray[np.float64]) -> NDArray[np.int64]:
        probability = self._tables.constant[pairs][:, OTHER_PATTERNS]
        return _choose(mark - self._tables.borders[4][pairs], probability, OTHER_PATTERNS)


def _choose(
    mark: NDArray[np.float64], probability: NDArray[np.float64], patterns: tuple[int, ...]
) -> NDArray[np.int64]:
    """Pattern in whose share of the summed probabilities each mark lies."""
    passed = (mark[:, None] >= np.cumsum(probability, axis=1)[:, :-1]).sum(axis=1)
    chosen: NDArray[np.int64] = np.array(patterns, np.int64)[passed]
    return chosen
