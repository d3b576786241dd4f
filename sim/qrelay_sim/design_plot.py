"""Heat map of the finite key rate over g2 and M."""

import math
from pathlib import Path
from typing import Final

import numpy as np

from qrelay_sim.design import Design, DesignMap, limiting
from qrelay_sim.protocols import CURVES

__all__ = ["plot_design"]

_DECADES: Final = 4.0
"""Shown below the best rate of the map."""


def plot_design(found: Design, grid: DesignMap, path: Path | str) -> None:
    """Write the map, with the preset's own place in it."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    relay, block = found.relay, found.block
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.add_subplot()
    per_second = grid.rate * relay.slot_rate_hz * relay.duty
    axes.set_facecolor("0.85")
    if per_second.max() > 0:
        top = float(per_second.max())
        shown = np.ma.masked_less_equal(per_second, 0.0)
        norm = LogNorm(10 ** (math.log10(top) - _DECADES), top)
        mesh = axes.pcolormesh(grid.g2, grid.overlap, shown, norm=norm, cmap="viridis", shading="nearest")
        figure.colorbar(mesh, ax=axes, label="secret key (bit/s)", extend="min")
    axes.plot(relay.g2, relay.overlaps[0], "o", ms=9, mfc="white", mec="black", mew=1.6, clip_on=False)
    axes.annotate(
        f"preset {relay.name}",
        (relay.g2, relay.overlaps[0]),
        textcoords="offset points",
        xytext=(8, -13),
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
    )
    axes.set_xlabel("g2 of the source (grey: no key)")
    axes.set_ylabel("overlap M of the source's photon with the users' pulses")
    hours = block.slots / (relay.slot_rate_hz * relay.duty) / 3600
    axes.set_title(
        f"Model: {CURVES[found.protocol].title}, preset {relay.name}, {relay.total_km:g} km\n"
        f"finite key of {block.slots:.3g} slots ({hours:.3g} h), epsilon {block.epsilon.total:.3g}; "
        f"limited by {limiting(found) or 'several parameters'}",
        fontsize=10,
    )
    figure.savefig(path, dpi=180)
