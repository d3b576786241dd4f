"""Key rate against distance as a figure that reads in print too: lines differ in dash and marker as well as colour."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from qrelay_sim.keyrate import Point
from qrelay_sim.protocols import CURVES

__all__ = ["plot_key_rates"]

_STYLES: Final = {
    "relay-phase-matching": ("#08519c", "-", "o"),
    "relay-phase-matching-conditional": ("#3182bd", "--", "o"),
    "relay-sending-or-not": ("#006d2c", "-", "s"),
    "relay-mode-pairing": ("#a50f15", "-", "D"),
    "decoy-bb84": ("#636363", "-", "v"),
    "mdi-3": ("#969696", "--", "^"),
    "mdi-4": ("#636363", "--", "^"),
    "phase-matching": ("#6a51a3", "-.", "x"),
    "cal": ("#d94801", "-.", "+"),
    "sns": ("#bf812d", "-.", "1"),
    "plob": ("black", "-", ""),
    "one-repeater": ("black", "--", ""),
    "n-repeater": ("black", ":", ""),
}


def plot_key_rates(points: Sequence[Point], path: Path | str, preset: str) -> None:
    """Write a figure; the suffix of `path` chooses PNG, SVG or PDF.

    Raises
    ------
    ValueError
        For another suffix, or if no point has a key to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"plot {path}: suffix {path.suffix!r} is no format; use .png, .svg or .pdf")
    figure = Figure(figsize=(7.8, 6.8), layout="constrained")
    axes = figure.add_subplot()
    drawn = [_curve(axes, name, [p for p in points if p.protocol == name]) for name in dict.fromkeys(_names(points))]
    if not any(drawn):
        raise ValueError(f"plot {path}: no protocol has a key at these distances; try shorter ones")
    finite = next((p.finite for p in points if p.finite), None)
    size = (
        f"finite, {finite['slots']:.3g} slots ({_duration(finite['seconds'])}), epsilon {finite['epsilon']:.3g}"
        if finite
        else "asymptotic"
    )
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=20))
    axes.set_xlabel("fibre between Alice and Bob (km)\nmodel, not a measurement; bounds hold for the fibre alone")
    axes.set_ylabel("secret key (bit per slot)")
    axes.set_title(f"Model: key rate against distance, preset {preset}, {size}", fontsize=11)
    axes.grid(True, which="major", alpha=0.35, linewidth=0.6)
    axes.margins(x=0.01)
    _second_axis(axes, points)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7.5, frameon=False, handlelength=3.2)
    figure.savefig(path, dpi=180)


def _names(points: Sequence[Point]) -> list[str]:
    return [point.protocol for point in points]


def _curve(axes: Any, name: str, points: Sequence[Point]) -> bool:
    """Draw one curve; False if there is nothing to draw."""
    colour, dash, marker = _STYLES[name]
    kept = [point for point in points if point.rate_bit_per_slot]
    if not kept:
        axes.plot([], [], color=colour, ls=dash, marker=marker, ms=4, label=f"{CURVES[name].title}: no key")
        return False
    label = CURVES[name].title
    if CURVES[name].review:
        label += f"\n({CURVES[name].review})"
    axes.plot(
        [point.distance_km for point in kept],
        [point.rate_bit_per_slot for point in kept],
        color=colour,
        ls=dash,
        marker=marker,
        ms=4,
        markevery=max(1, len(kept) // 9),
        mfc="white" if dash == "--" else colour,
        lw=1.9 if CURVES[name].kind == "relay" else 1.2,
        label=label,
    )
    return True


def _second_axis(axes: Any, points: Sequence[Point]) -> None:
    """The same in bit/s at the slot rate."""
    both = [(p.rate_bit_per_slot, p.rate_bit_per_s) for p in points if p.rate_bit_per_slot and p.rate_bit_per_s]
    per_slot, per_second = both[0]
    factor = per_second / per_slot
    low = min(rate for rate, _ in both)
    axes.set_ylim(max(low / 3, 1e-12), 2)
    right = axes.secondary_yaxis("right", functions=(lambda rate: rate * factor, lambda rate: rate / factor))
    right.set_ylabel(f"bit/s at {factor / 1e6:.6g} million slots/s")


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
