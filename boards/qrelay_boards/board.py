"""What a board is to the rest of the project: a name, a design top and the rules that its build must keep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clock_plan import ClockPlan, solve

if TYPE_CHECKING:
    from .build import BuildResult
    from .ecp5_board import Ecp5Wiring

__all__ = ["MANIFEST", "Block", "Board", "Crossing", "bitstream_name"]

MANIFEST = "manifest.json"
"""What a build tells of itself, beside its bitstream."""


def bitstream_name(board: str, *, rings: bool = False, free_running: bool = False) -> str:
    """Name of the file that a build writes."""
    return f"qrelay-{board}{'-rings' * rings}{'-free-running' * free_running}.bit"


@dataclass(frozen=True)
class Crossing:
    """A pair of clocks between which data may pass, and the longest delay allowed on any such path.

    ``async`` stands for pads and unclocked cells.
    """

    source: str
    target: str
    limit_ns: float
    why: str


@dataclass(frozen=True)
class Block:
    """A part of the design, and how many cells of a kind the synthesised netlist must at least hold of it.

    `path` names the submodules that lead to it from the top, joined by dots.
    """

    path: str
    flip_flops: int
    block_rams: int
    small_rams: int
    """Memories of look-up tables, 16 words of 4 bits each."""
    why: str


@dataclass(frozen=True)
class Board:
    """An FPGA board.

    `top` makes the design from a clock plan and a station; `facts` gives what the station tells the host about the
    board. The other fields are the rules of `build` and `flash`. `ecp5_board.ecp5_board` makes one from a page of pins.
    """

    name: str
    description: str
    wiring: "Ecp5Wiring"
    platform: Callable[[], Any]
    top: Callable[[ClockPlan, Any], Any]
    facts: Callable[[ClockPlan], Any]
    device_options: tuple[str, ...]
    reference_hz: Fraction
    oscillator_hz: Fraction
    loader: tuple[str, ...]
    """Options by which openFPGALoader finds the board."""
    loader_keeps: bool
    """Loading always writes the flash, as a boot loader does."""
    serial_port: str
    pads: tuple[str, ...]
    clock_sources: Mapping[str, tuple[str, str]]
    """Clock -> (type of cell, port) that drives it, or ("pad", name of the pad)."""
    external_synthesis: str
    """Synthesis commands after the others, where the reference is external."""
    reference_arc: str
    """Pattern of the routing switch by which an external reference goes from its pad straight to the PLL."""
    minimum_cells: Mapping[str, int]
    """Type of cell, or ``CLOCK:TYPE`` for those with that clock -> how many there must be."""
    pad_cells: int
    """How many gearboxes and flip-flops must sit in the cells of pads."""
    crossings: tuple[Crossing, ...]
    geared_outputs: tuple[str, ...] = ()
    """Pads behind a gearbox whose bins must be driven."""
    geared_inputs: tuple[str, ...] = ()
    """Pads before a gearbox whose bins must be read."""
    chains: Mapping[str, int] = field(default_factory=dict)
    """Pad -> taps of the carry chain that it feeds."""
    rings: tuple[int, ...] = ()
    """Inverters of each ring oscillator; none where keys come from the host."""
    blocks: tuple[Block, ...] = ()
    """What each part of the station must hold."""
    plain_read_ports: int = 0
    """How many read ports of block RAMs may do without an output register."""

    def clock_plan(self, free_running: bool = False) -> ClockPlan:
        """Clock plan from the external reference, or from the board's own oscillator for tests."""
        return solve(self.oscillator_hz if free_running else self.reference_hz, external=not free_running)

    def build(
        self,
        *,
        out_dir: Path,
        seeds: int = 1,
        free_running: bool = False,
        jobs: int | None = None,
        progress: Callable[[str], None] = lambda message: None,
    ) -> "BuildResult":
        """Build bitstream, timing report and manifest in `out_dir`; see `qrelay_boards.build.build`."""
        from .build import build

        return build(self, seeds=seeds, out_dir=out_dir, free_running=free_running, jobs=jobs, progress=progress)

    def flash(self, bitstream: Path, *, persistent: bool = False) -> None:
        """Load a bitstream, until the next power cycle or for good; see `qrelay_boards.flash.flash`."""
        from .flash import flash

        flash(self, bitstream, persistent=persistent)
