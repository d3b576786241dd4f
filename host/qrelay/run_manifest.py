"""The manifest of a run: everything beside records and keys that its result depends on."""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from .alignment import Alignment
from .audit import AuditReport
from .bench import Bench, describe_identity
from .choice_keys import SENDERS
from .configure import audit_slot
from .protocol import PROTOCOL_HASH

if TYPE_CHECKING:
    from .run import Run

__all__ = ["alignment_entry", "run_manifest"]


def run_manifest(run: Run, bench: Bench, audits: dict[str, AuditReport | None]) -> dict[str, Any]:
    """Everything beside records and keys that the result depends on, and what a reader wants to know."""
    alignment = run.alignment
    return {
        "versions": {"qrelay": metadata.version("qrelay"), "numpy": np.__version__},
        "protocol_hash": f"{PROTOCOL_HASH:016x}",
        "stations": {
            name: {
                "url": board.url,
                **describe_identity(board.identity),
                "start_place": run.start_places.get(name),
                "calibrated_chains": list(bench.calibrated[name]),
                "tdc_offsets": run.subtraction.of_station() if name == "receiver" else None,
            }
            for name, board in run.boards.items()
        },
        "subtract_tdc_offsets": run.config.receiver.subtract_tdc_offsets,
        "clock_warnings": bench.warnings(),
        "injected_phase_rad": _injected_phase(run, bench),
        "alignment": alignment_entry(alignment),
        "keys": {
            name: run.board_senders[name].manifest(f"{name}.draws", alignment.first_slot + run.slots_done)
            if name in run.board_senders
            else {
                "source": "host",
                "file": f"{name}.choice-key",
                "nonce": run.keys[name].nonce,
                "stream": run.keys[name].stream,
            }
            for name in SENDERS
        },
        "choices_end_slot": _complete_until(run),
        "counters": run.counters,
        "reference_missed": run.reference_missed,
        "accounting": run.collector.accounting,
        "not_accounted": run.collector.not_accounted,
        "alarms": run.collector.alarms,
        "histograms": _histograms(run),
        "click_fines": run.collector.click_fines.tolist(),
        "audit": {
            name: None if report is None else {**asdict(report), "passed": report.passed}
            for name, report in audits.items()
        },
        "audit_missing": run.audits_missing,
        "seconds": run.seconds,
        "stopped_by_hand": run.stopped,
        "trouble": run.trouble,
    }


def alignment_entry(alignment: Alignment) -> dict[str, Any]:
    """Where the run begins and ends, and how its stations stand to each other."""
    return {
        "first_slot": alignment.first_slot,
        "end_slot": alignment.end_slot,
        "audit_slot": audit_slot(alignment),
        "detector_delay_slots": list(alignment.detector_delay_slots),
        "stations": {name: asdict(timing) for name, timing in alignment.stations.items()},
    }


def _complete_until(run: Run) -> int | None:
    """Slot from which on draws, announcements or a station are missing; None if none are."""
    ends = (run.sifting.end_slot, run.collector.unrecorded_slot, run.stopped_slot)
    return min((end for end in ends if end is not None), default=None)


def _histograms(run: Run) -> dict[str, Any] | None:
    if run.histograms is None or run.histograms.total is None:
        return None
    return {**run.config.histograms.model_dump(mode="json"), **run.histograms.total.to_json()}


def _injected_phase(run: Run, bench: Bench) -> list[float] | None:
    """Phase difference that a drifting twin really added, at places spread over the run; None without drift."""
    ask = getattr(bench.twin, "injected_phase_rad", None)
    if ask is None or not run.config.twin.phase_drift_rad_per_ms:
        return None
    return [float(phase) for phase in ask(np.linspace(0, run.slots_done, 4096).astype(np.int64))]
