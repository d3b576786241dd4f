"""Plots of a run: interference fringe, gains by pair of settings, clicks inside the slot, phase of the reference."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .config import RunConfig
from .model import RunModel
from .protocol.choice import PHASES
from .protocol.units import FINES_PER_SLOT, fines_to_ps

__all__ = ["plot_run"]

_TICK_FINES = 32
_SAME, _OPPOSITE = "tab:blue", "tab:red"


def plot_run(
    folder: Path | str,
    config: RunConfig,
    manifest: Mapping[str, Any],
    result: Mapping[str, Any],
    on_warning: Callable[[str], None] = warnings.warn,
) -> list[str]:
    """Write PNG files into the run folder; return their paths.

    A plot that cannot be written is told to `on_warning`, with its path, and no half of it is left.
    """
    try:
        from matplotlib.figure import Figure
    except OSError as error:  # it wants a folder of its own to write to
        on_warning(f"cannot plot the run in {folder}: {error}")
        return []

    written = []
    plots = {"clicks": _clicks}
    if "pairs" in result:
        plots["gains"] = _gains
        if any(_is_key(config, row) for row in result["pairs"]):
            plots["fringe"] = _fringe
    if result.get("reference", {}).get("series", {}).get("time_ms"):
        plots["reference"] = _reference
    on_board = manifest.get("histograms") or {}
    if on_board.get("fine", "off") != "off":
        plots["fine-histogram"] = _fine_histogram
    if on_board.get("g2"):
        plots["g2"] = _g2
    for name, draw in plots.items():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, config, manifest, result)
        if result["partial"]:
            axes.set_title(axes.get_title() + " (partial)")
        path = Path(folder) / f"{name}.png"
        try:
            figure.savefig(path, dpi=120)
        except OSError as error:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            on_warning(f"cannot write {path}: {error}; free some space, the result is complete without it")
            continue
        written.append(str(path))
    return written


def _is_key(config: RunConfig, row: Mapping[str, Any]) -> bool:
    """A row of the key setting with itself; there is none where that is never drawn."""
    return bool(row["alice"] == row["bob"] == config.sifting.key)


def _fringe(axes: Any, config: RunConfig, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    slots = next(row["slots"] for row in result["pairs"] if _is_key(config, row)) / PHASES
    model = RunModel.of_run(config, manifest, result["phase_offset"])
    key = config.setting_index(config.sifting.key)
    fine = np.linspace(0, PHASES, 200)
    curves = model.fringe(key, key, 2 * np.pi * fine / PHASES)
    for name, colour, curve in zip(("same_sign", "opposite_sign"), (_SAME, _OPPOSITE), curves, strict=True):
        counts = np.asarray(result["fringe"][name])
        label = name.replace("_", " ")
        axes.errorbar(np.arange(PHASES), counts, np.sqrt(counts), fmt="o", color=colour, ms=4, capsize=2, label=label)
        axes.plot(fine, curve * slots, color=colour, alpha=0.6, label=f"{label}, model")
    axes.set_xlabel("phase difference, Alice minus Bob (1/16 turn)")
    axes.set_ylabel(f"successes, {config.sifting.key}-{config.sifting.key}")
    axes.set_title("Interference of Alice and Bob across the relay")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(fontsize=8, ncols=2, loc="upper center")


def _gains(axes: Any, config: RunConfig, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    del config, manifest
    rows = result["pairs"]
    place = np.arange(len(rows))
    axes.errorbar(
        place,
        [row["gain"] if row["gain"] is not None else np.nan for row in rows],
        [row["gain_std"] if row["gain_std"] is not None else np.nan for row in rows],
        fmt="o",
        ms=4,
        capsize=2,
        label="measured",
    )
    axes.plot(place, [row["gain_model"] for row in rows], "_", color="black", ms=18, label="model")
    axes.set_xticks(place, [f"{row['alice']}-{row['bob']}" for row in rows])
    axes.set_yscale("log")
    axes.set_ylabel("successes per live slot")
    axes.set_title("Gain by settings of Alice and Bob")
    axes.legend(fontsize=8)


def _reference(axes: Any, config: RunConfig, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    del config
    series = result["reference"]["series"]
    # One curve without jumps of a turn, as far as the points are dense enough.
    phase = np.unwrap(np.asarray(series["phase_rad"]))
    axes.errorbar(series["time_ms"], phase, series["phase_rad_std"], fmt=".", ms=3, lw=0.5, label="reference fringe")
    injected = manifest.get("injected_phase_rad")
    if injected:
        true = np.asarray(injected)
        slot_ms = 1e3 / manifest["stations"]["receiver"]["slot_rate_hz"]
        time_ms = np.linspace(0, (result["end_slot"] - result["first_slot"]) * slot_ms, len(true))
        near = np.round((phase[0] - np.interp(series["time_ms"][0], time_ms, true)) / (2 * np.pi))
        axes.plot(time_ms, true + 2 * np.pi * near, lw=1, alpha=0.7, label="added by the twin")
        axes.legend(fontsize=8)
    axes.set_xlabel("time in the run (ms)")
    axes.set_ylabel("phase, Alice minus Bob (rad)")
    axes.set_title("Phase from the reference segments")


def _clicks(axes: Any, config: RunConfig, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    del result
    histogram = np.asarray(manifest["click_fines"])
    detectors = config.receiver.detectors
    # Beside carry chains there may be inputs with two bins per slot.
    inputs = manifest["stations"]["receiver"]["detector_fines"][: len(detectors)]
    for detector, (spec, given) in enumerate(zip(detectors, inputs, strict=True)):
        first, step = given["first"], given["step"]
        fines = np.arange(first, FINES_PER_SLOT, step)
        width = 0.8 * step / len(detectors)
        place = fines + (detector - (len(detectors) - 1) / 2) * width
        # A delay in fines may have moved clicks off the values that the inputs can give: all of a bin count.
        counts = np.add.reduceat(np.roll(histogram[detector], step // 2 - first), fines - first)
        axes.bar(place, counts, width, label=spec.name)
    axes.set_xlim(0, FINES_PER_SLOT)
    coarsest = max(inputs, key=lambda given: given["step"])
    axes.set_xticks(np.arange(coarsest["first"], FINES_PER_SLOT, max(coarsest["step"], _TICK_FINES)))
    axes.set_xlabel(f"position in the slot (1/256 slot = {fines_to_ps(1):.2f} ps)")
    axes.set_ylabel("clicks in the sample")
    axes.set_title("Clicks inside the slot")
    axes.legend(fontsize=8)


def _fine_histogram(axes: Any, config: RunConfig, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    del result
    taken = manifest["histograms"]
    for spec, counts in zip(config.receiver.detectors, taken["fine_counts"], strict=False):
        axes.stairs(counts, np.arange(FINES_PER_SLOT + 1), label=spec.name)
    axes.set_xlim(0, FINES_PER_SLOT)
    axes.set_xlabel(f"position in the slot (1/256 slot = {fines_to_ps(1):.2f} ps)")
    axes.set_ylabel(f"{taken['fine']} of the run")
    lost = taken.get("lost_fine", 0)
    axes.set_title("Counted on board, inside the slot" + (f" ({lost} more lost)" if lost else ""))
    axes.legend(fontsize=8)


def _g2(axes: Any, config: RunConfig, manifest: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    del result
    taken = manifest["histograms"]
    g2 = np.asarray(taken["g2"])
    lags = np.arange(len(g2)) - len(g2) // 2
    near = abs(lags) <= 32
    axes.errorbar(lags[near], g2[near], np.asarray(taken["g2_std"])[near], fmt=".", ms=4, lw=0.7)
    axes.axhline(1, color="grey", lw=0.7)
    names = [config.receiver.detectors[detector].name for detector in taken["lag"]]
    axes.set_xlabel(f"slot of {names[1]} - slot of {names[0]}")
    axes.set_ylabel("pairs / pairs of independent clicks")
    axes.set_title("Pairs of clicks by distance, counted on board")
