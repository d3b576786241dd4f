"""From announcements, choices and counters to the result of a run: a pure function, so that a replay gives the same."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .config import RunConfig
from .configure import COUNTED_KINDS
from .decoy_estimate import estimate_parity
from .estimate import PairEstimate, Ratio, estimate_pairs
from .frame import FrameLayout
from .fringes import Fringes
from .model import RunModel
from .protocol.registers import OUTCOMES
from .record_arrays import RecordArray
from .reference_phase import reference_result
from .run_rate import KeyCounts
from .sifting import Announcements, DrawsChoices
from .success_sums import CountedParts, SuccessSums

__all__ = ["analyse"]

Bits = NDArray[np.uint8]


def analyse(
    config: RunConfig,
    manifest: Mapping[str, Any],
    announcements: Announcements | Iterable[Announcements],
    choices: Mapping[str, DrawsChoices],
    reference: Iterable[RecordArray] = (),
) -> tuple[dict[str, Any], dict[str, Bits]]:
    """Return the result as plain values (for ``result.json``) and the sifted key bits of each sender.

    Only slots that the receiver's counters cover count; audited slots never enter the key. Announcements may come in
    parts, which must allow to be read twice; memory is then bounded by the largest part and the sifted key.
    `reference` are the reference records in the order in which they came, in parts, read once where the run has any.
    The result's ``warnings`` are lines for the user.
    """
    counted = _counted_slots(config, manifest)
    parts = CountedParts(announcements, counted.first_slot, counted.end_slot, counted.covered_end, choices)
    result: dict[str, Any] = {
        "slots": counted.slots,
        "live_slots": counted.live_slots,
        "first_slot": counted.first_slot,
        "end_slot": counted.end_slot,
        "successes": 0,
        "sifted": 0,
        "partial": bool(manifest["trouble"] or manifest["stopped_by_hand"]),
    }
    sifted = {"alice": np.zeros(0, np.uint8), "bob": np.zeros(0, np.uint8)}
    if config.receiver.success_rule == "one-per-node":
        offset, without_offset = _phase_offset(config, parts)
        sums = SuccessSums(config, manifest, offset)
        for announced, chosen in parts:
            sums.add(announced, chosen)
        result["successes"] = sums.successes
        sifted = sums.bits()
        # A loss knows nothing of settings: the recorded successes are those of as large a share of the live slots.
        recorded = _Recorded.of(manifest, parts.before_covered_end)
        pairs = estimate_pairs(sums.pairs, counted.live_slots * recorded.fraction, config.drawn_probabilities())
        model = RunModel.of_run(config, manifest, offset)
        result |= {"phase_offset": offset} | _phase_matching(config, model, pairs, sifted, without_offset)
        result["fringe"] = {
            name: np.roll(counts, offset).tolist()
            for name, counts in zip(("same_sign", "opposite_sign"), sums.fringe, strict=True)
        }
    else:
        result["successes"] = sum(len(part) for part in parts.announced())
        recorded = _Recorded.of(manifest, parts.before_covered_end)
    result["successes_not_recorded"] = recorded.missing
    result.setdefault("warnings", [])
    if recorded.missing:
        result["warnings"].append(
            f"{recorded.missing:,} of {recorded.counted:,} successes that the receiver counted are not recorded; "
            "gains and rate are those of all successes, the sifted key is that of the recorded ones"
        )
    own = config.twin.detector_dead_slots
    unseen = [dead for dead in config.receiver.dead_slots_of_detectors() if dead < own]
    if unseen:
        result["warnings"].append(
            f"the receiver counts a detector as live {min(unseen)} slots after a click, by twin.detector_dead_slots "
            f"it is blind for {own}: gains and rate come out too low; give receiver.dead_slots at least {own}"
        )
    closer = _closer_hits(config, manifest["counters"])
    if closer:
        result["closer_hits"] = closer
    if config.reference_records != "off":
        result["reference"] = found = reference_result(config, manifest, reference)
        if found["drift_note"]:
            result["warnings"].append(f"no drift from the reference: {found['drift_note']}")
    plain: dict[str, Any] = _without_nan(result)
    return plain, sifted


@dataclass(frozen=True)
class _Counted:
    """The slots of a run that the receiver's counters cover."""

    first_slot: int
    end_slot: int
    covered_end: int
    """End of the slots that the counters cover, from the receiver's start on and also where choices are missing."""
    slots: int
    live_slots: int


@dataclass(frozen=True)
class _Recorded:
    """Successes that the receiver counted and those that are recorded, of all slots that its counters cover."""

    counted: int
    recorded: int

    @classmethod
    def of(cls, manifest: Mapping[str, Any], recorded: int) -> Self:
        counted = sum(manifest["counters"].get(f"outcome_{outcome}", 0) for outcome in range(1, OUTCOMES))
        # What a full disk did not take lies behind the end of the slots that are used.
        account = manifest["accounting"].get("receiver", {}).get("success", {})
        return cls(counted - account.get("not_recorded", 0), recorded)

    @property
    def missing(self) -> int:
        """Successes that were dropped, lost on the link or damaged on the disk."""
        return max(0, self.counted - self.recorded)

    @property
    def fraction(self) -> float:
        """Share of the successes that is recorded."""
        return self.recorded / self.counted if self.missing else 1.0


def _counted_slots(config: RunConfig, manifest: Mapping[str, Any]) -> _Counted:
    layout = FrameLayout.of(config.frame)
    alignment = manifest["alignment"]
    first, start = alignment["first_slot"], alignment["stations"]["receiver"]["start_slot"]
    counters = manifest["counters"]
    counted = counters.get("slots", 0)
    # Before the first slot the receiver counts slots in which no light can arrive yet: all live but for dark counts.
    lead_in = layout.counted(first - start, COUNTED_KINDS)
    end = start + layout.slots_until(counted, COUNTED_KINDS)
    if counted <= lead_in:
        return _Counted(first, first, end, 0, 0)
    slots, live_slots = counted - lead_in, counters["live_slots"] - lead_in
    cut = manifest.get("choices_end_slot")
    if cut is not None and cut < end:
        # Choices or announcements are missing from there on. The counters cover more; live slots are shared out evenly.
        kept = max(0, layout.counted(max(cut, first) - start, COUNTED_KINDS) - lead_in)
        return _Counted(first, max(cut, first), end, kept, round(live_slots * kept / slots))
    return _Counted(first, end, end, slots, live_slots)


def _closer_hits(config: RunConfig, counters: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """By detector with a carry chain: its hits too close to another to be placed, hits placed, and clicks."""
    return {
        str(d): {
            "name": detector.name,
            "closer": counters[f"extra_{d}"],
            "placed": counters[f"singles_{d}"],
            "clicks": counters[f"clicks_{d}"],
        }
        for d, detector in enumerate(config.receiver.detectors)
        if f"extra_{d}" in counters
    }


def _phase_offset(config: RunConfig, parts: CountedParts) -> tuple[int, str | None]:
    """Offset to sift with, and why it is one that was not seen; None if it was, or is the run file's."""
    if isinstance(config.sifting.phase_offset, int):
        return config.sifting.phase_offset, None
    fringes = Fringes.none()
    for announced, chosen in parts:
        fringes.add(Fringes.of(config, announced.outcomes, chosen))
    unseen = None
    if not fringes.shows_offset():
        unseen = f"the disclosed pairs show no fringe ({int(fringes.disclosed.sum()):,} counts), so no phase offset"
    return fringes.offset(invert=config.sifting.invert), unseen


def _phase_matching(
    config: RunConfig,
    model: RunModel,
    pairs: list[PairEstimate],
    sifted: Mapping[str, Bits],
    without_offset: str | None,
) -> dict[str, Any]:
    """Key pair, all pairs against the model, parity and rates."""
    key = config.setting_index(config.sifting.key)
    key_pair = next((p for p in pairs if p.setting_a == p.setting_b == key), None)
    rows = [_row(config, model, pair) for pair in pairs]
    count = len(sifted["alice"])
    errors = int(np.count_nonzero(sifted["alice"] != sifted["bob"]))
    qber = Ratio.of(errors, count)
    expected = model.pair(key, key)
    gain = key_pair.gain if key_pair else Ratio(math.nan, math.nan)
    even = model.even_fraction(key, key)
    parity = estimate_parity(config, pairs)
    sigmas = [abs(row[name]) for row in rows for name in ("gain_sigma", "qber_sigma") if row[name] is not None]
    drawn = config.drawn_probabilities()[key] ** 2
    counted = KeyCounts(gain, qber, count, config.sifting.error_correction_efficiency, without_offset)
    return {
        "sifted": count,
        "errors": errors,
        "qber": qber.value,
        "qber_std": qber.std,
        "qber_model": expected.qber,
        "qber_sigma": _sigma(errors, count, expected.qber),
        "gain": gain.value,
        "gain_std": gain.std,
        "gain_model": expected.gain,
        "gain_sigma": _sigma(key_pair.successes, key_pair.slots, expected.gain, drawn) if key_pair else None,
        "even_fraction_model": even,
        "even_fraction_decoy": parity.even_fraction if parity else None,
        "even_fraction_decoy_std": parity.even_fraction_std if parity else None,
        **counted.results(even, parity, drawn),
        "warnings": counted.warnings(even, parity),
        "pairs": rows,
        "largest_deviation_sigma": max(sigmas, default=None),
    }


def _row(config: RunConfig, model: RunModel, pair: PairEstimate) -> dict[str, Any]:
    expected = model.pair(pair.setting_a, pair.setting_b)
    probabilities = config.drawn_probabilities()
    drawn = probabilities[pair.setting_a] * probabilities[pair.setting_b]
    return {
        "alice": config.settings[pair.setting_a].name,
        "bob": config.settings[pair.setting_b].name,
        "slots": pair.slots,
        "successes": pair.successes,
        "gain": pair.gain.value,
        "gain_std": pair.gain.std,
        "gain_model": expected.gain,
        "gain_sigma": _sigma(pair.successes, pair.slots, expected.gain, drawn),
        "matched": pair.matched,
        "errors": pair.errors,
        "qber": pair.qber.value,
        "qber_std": pair.qber.std,
        "qber_model": expected.qber,
        "qber_sigma": _sigma(pair.errors, pair.matched, expected.qber),
    }


def _sigma(part: int, whole: float, expected: float, drawn: float = 1.0) -> float | None:
    """Deviation from a model value in its own standard errors; None where fewer than 5 counts are expected.

    `drawn` is the probability with which the pair was drawn, see `estimate_pairs`.
    """
    mean = whole * expected
    variance = mean * (1 - expected) + mean**2 / whole * (1 - drawn) if whole else 0.0
    if mean < 5 or variance <= 0:
        return None
    return (part - mean) / math.sqrt(variance)


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN: what could not be measured is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
