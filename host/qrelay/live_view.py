"""What a user sees while a run goes on, and at its end."""

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .live_tally import Progress

__all__ = ["LiveView", "print_summary"]

_PLAIN_INTERVAL_S = 5.0


class LiveView:
    """Live table on a terminal, a line every few seconds elsewhere, nothing if `quiet`; always on standard error."""

    def __init__(self, qber_model: float | None, *, quiet: bool = False) -> None:
        self._console = Console(file=sys.stderr, quiet=quiet)
        self._qber_model = qber_model
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._on_terminal = self._console.is_terminal and not quiet
        self._next_line = 0.0

    def __enter__(self) -> "LiveView":
        if self._on_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_terminal:
            self._live.stop()

    def message(self, text: str) -> None:
        """Show a line of text, whole also where it is longer than a line of the terminal."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def update(self, progress: Progress) -> None:
        """Show new numbers."""
        if self._on_terminal:
            self._live.update(self._table(progress))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _PLAIN_INTERVAL_S
            self.message("  ".join(f"{name} {value}" for name, value in self._rows(progress)))

    def _rows(self, progress: Progress) -> list[tuple[str, str]]:
        total = (
            f" of {progress.slots_total:,} ({progress.slots / progress.slots_total:.0%})"
            if progress.slots_total
            else ""
        )
        qber = "-" if math.isnan(progress.qber) else f"{progress.qber:.2%} +- {progress.qber_std:.2%}"
        if progress.phase_offset is None:
            qber = "- (phase offset not known yet)"
        model = "" if self._qber_model is None else f" (model {self._qber_model:.2%})"
        left = (progress.slots_total - progress.slots) / progress.slots_per_second if progress.slots_per_second else 0.0
        return [
            ("slots", f"{progress.slots:,}{total}"),
            ("slots/s", f"{progress.slots_per_second:,.0f}"),
            *([("time left", _duration(left))] if progress.slots_total and progress.slots_per_second else []),
            ("clicks/s", f"{progress.clicks_per_second:,.0f}"),
            ("successes", f"{progress.successes:,}, {progress.successes_per_second:,.0f}/s"),
            ("sifted bits", f"{progress.sifted:,}"),
            ("QBER", qber + model),
        ]

    def _table(self, progress: Progress) -> Table:
        table = Table(show_header=False, box=None)
        for name, value in self._rows(progress):
            table.add_row(name, value)
        return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _show(value: float | None, std: float | None = None, *, percent: bool = False) -> str:
    if value is None:
        return "-"
    form = ".2%" if percent else ".4g"
    return f"{value:{form}}" + (f" +- {std:{form}}" if std is not None else "")


def _print_reference(console: Console, reference: Mapping[str, Any]) -> None:
    """Fringe, phase and drift of the reference segments."""

    def show(name: str, unit: str = "") -> str:
        model = reference.get(f"{name}_model")
        return _show(reference[name], reference[f"{name}_std"]) + unit + (f" (model {model:.4g})" if model else "")

    console.print(
        f"reference: {reference['sets']:,} sets of {reference['frames_per_set']} frames, visibility at M1 "
        f"{show('visibility_m1')}, at M2 {show('visibility_m2')}",
        highlight=False,
    )
    if reference["note"]:
        console.print(f"reference: no phase: {reference['note']}", highlight=False)
    else:
        console.print(
            f"reference: phase of Alice minus Bob {show('phase_rad', ' rad')} (coherence "
            f"{reference['phase_coherence']:.3f}), drift {show('drift_rad_per_ms', ' rad/ms')} "
            f"rms of slopes averaged over a set ({reference['set_ms']:.3g} ms)",
            highlight=False,
        )
    for name in ("incomplete", "saturated", "missed"):
        if reference[name]:
            console.print(f"reference: {reference[name]:,} sets {name}", highlight=False)


def print_summary(outcome: Mapping[str, Any]) -> None:
    """Measured against model, with deviations in standard errors."""
    console = Console(soft_wrap=True)  # whole lines for a file or a pipe
    console.print(
        f"{outcome['slots']:,} slots ({outcome['slots_per_second']:,.0f}/s, "
        f"{outcome['real_time_ratio']:.3g} x real time), {outcome['live_slots']:,} live, "
        f"{outcome['successes']:,} successes, {outcome['sifted']:,} sifted bits"
        + (" - partial" if outcome["partial"] else ""),
        highlight=False,
    )
    if "pairs" in outcome:
        table = Table("quantity", "measured", "model", "deviation", title="Measured against the closed form")
        for row in outcome["pairs"]:
            pair = f"{row['alice']}-{row['bob']}"
            for name, percent in (("gain", False), ("qber", True)):
                sigma = row[f"{name}_sigma"]
                table.add_row(
                    f"{'QBER' if name == 'qber' else name} {pair}",
                    _show(row[name], row[f"{name}_std"], percent=percent),
                    _show(row[f"{name}_model"], percent=percent),
                    "-" if sigma is None else f"{sigma:+.1f} sigma",
                )
        console.print(table, soft_wrap=False)
        console.print(f"sifted QBER {_show(outcome['qber'], outcome['qber_std'], percent=True)}", highlight=False)
        console.print(
            f"even-parity fraction: model {_show(outcome['even_fraction_model'])}, decoy estimate (upper bound) "
            f"{_show(outcome['even_fraction_decoy'], outcome['even_fraction_decoy_std'])}",
            highlight=False,
        )
        console.print(
            f"rate {_show(outcome['rate_bit_per_slot'], outcome['rate_bit_per_slot_std'])} bit per slot "
            f"({outcome['rate_note']})",
            highlight=False,
        )
        if outcome["rate_zero_because"]:
            console.print(f"no key: {outcome['rate_zero_because']}", highlight=False)
        console.print(
            f"rate with the decoy estimate, which needs no trust in the model: "
            f"{_show(outcome['rate_bit_per_slot_decoy'], outcome['rate_bit_per_slot_decoy_std'])} bit per slot",
            highlight=False,
        )
        if outcome["rate_decoy_zero_because"]:
            console.print(f"no key by the decoy estimate: {outcome['rate_decoy_zero_because']}", highlight=False)
    if "reference" in outcome:
        _print_reference(console, outcome["reference"])
    if not all(station["rtl"] for station in outcome["stations"].values()):
        console.print("drawn by the fast twin: no gateware was run, on boards or simulated", highlight=False)
    missing = outcome["audit_missing"]
    for name, report in outcome["audit"].items():
        done = "not complete" if report is None else "passed" if report["passed"] else "FAILED"
        done = f"MISSING: {missing[name]}" if name in missing else done
        console.print(f"audit of {name}: {done}", highlight=False, soft_wrap=True)
    for name, reason in outcome["keys_kept"].items():
        console.print(f"keys of {name} stay on its board: {reason}", highlight=False, soft_wrap=True)
    for name, alarms in outcome["alarms"].items():
        if alarms:
            console.print(f"alarms of {name}: {', '.join(alarms)}", highlight=False)
    for station, kinds in outcome["accounting"].items():
        for kind, entry in kinds.items():
            for what, count in entry.items():
                if count and what in ("lost_on_link", "not_recorded", "dropped_by_station", "unaccounted"):
                    wanted = " (only a sample was wanted)" if kind == "click" and what == "dropped_by_station" else ""
                    console.print(
                        f"{station}: {count:,} {kind} records {what.replace('_', ' ')}{wanted}", highlight=False
                    )
    for number, entry in outcome.get("closer_hits", {}).items():
        if entry["closer"]:
            console.print(
                f"warning: {entry['closer']:,} hits of detector {number} ({entry['name']}) came closer than two slots "
                f"to another and were only counted; {entry['placed']:,} hits have a time, of which {entry['clicks']:,} "
                "are clicks",
                highlight=False,
            )
    for station, entry in outcome["not_accounted"].items():
        taken = sum(entry["received"].values())
        console.print(
            f"{station}: lost, what it sent is not accounted for; {taken:,} of its records are kept", highlight=False
        )
    for warning in outcome["warnings"]:
        console.print(f"warning: {warning}", highlight=False, soft_wrap=True)
    for plot in outcome["plots"]:
        console.print(f"plot {plot}", highlight=False)
    console.print(f"run folder {outcome['run_folder']}", highlight=False)
