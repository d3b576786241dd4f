"""From settings and phases to the bins of the output lines: the `lines` table of senders and source.

Sender: line 0 carves the pulse (first bin), lines 1-2 carry the level code and 3-6 the phase index (both bins, so that
they are settled while the pulse passes), line 7 marks the reference segment, with which a frame begins.
Source: line 0 pumps (first bin), line 1 switches the reference light in, line 2 closes the shutter (high blocks).
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .protocol.choice import PHASES, SETTINGS
from .protocol.registers import SEGMENT_KINDS
from .protocol.windows import window

__all__ = [
    "LINE_NAMES_SENDER",
    "LINE_NAMES_SOURCE",
    "line_bins",
    "line_index",
    "sender_lines",
    "source_lines",
    "step_entries",
]

LINE_NAMES_SENDER = ("carve", "level 0", "level 1", "phase 0", "phase 1", "phase 2", "phase 3", "frame marker")
LINE_NAMES_SOURCE = ("pump", "reference switch", "shutter", "", "", "", "", "")

_LINES = window("lines")
_FIRST_BIN = 0b01
_BOTH_BINS = 0b11


def line_index(segment: int, setting: int, phase: int) -> int:
    """Address in the `lines` table."""
    return _LINES.index.pack({"kind": segment, "setting": setting, "phase": phase})


def step_entries(steps: Iterable[tuple[int, int]]) -> list[int]:
    """Entries of the `steps` table: setting and phase of each step."""
    return [window("steps").entry.pack({"setting": setting, "phase": phase}) for setting, phase in steps]


def line_bins(line: int, bins: int = _BOTH_BINS) -> int:
    """Entry of the `lines` table in which only `line` is high, in these bins of the slot (bit 0 the first)."""
    return bins << _LINES.entry.offset(f"line_{line}")


def _code(first_line: int, code: int) -> int:
    """Bit k of `code` on line `first_line` + k."""
    return sum(line_bins(first_line + k) for k in range(4) if code >> k & 1)


def sender_lines(level_codes: Sequence[int]) -> NDArray[np.uint16]:
    """Table [512] of a sender whose setting k has level code ``level_codes[k]``; other settings send level 0."""
    table = np.zeros(len(SEGMENT_KINDS) * SETTINGS * PHASES, np.uint16)
    for segment, kind in enumerate(SEGMENT_KINDS):
        if kind not in ("quantum", "reference"):
            continue
        for setting in range(SETTINGS):
            level = level_codes[setting] if setting < len(level_codes) else 0
            for phase in range(PHASES):
                bins = line_bins(0, _FIRST_BIN) | _code(1, level) | _code(3, phase)
                if kind == "reference":
                    bins |= line_bins(7)
                table[line_index(segment, setting, phase)] = bins
    return table


def source_lines() -> NDArray[np.uint16]:
    """Table [512] of the source: photons in quantum segments, reference light in reference segments."""
    shutter_closed = line_bins(2)
    by_segment = {
        "reference": line_bins(0, _FIRST_BIN) | line_bins(1) | shutter_closed,
        "guard": line_bins(0, _FIRST_BIN) | shutter_closed,
        "quantum": line_bins(0, _FIRST_BIN),
        "idle": shutter_closed,
    }
    table = np.zeros(len(SEGMENT_KINDS) * SETTINGS * PHASES, np.uint16)
    for segment, kind in enumerate(SEGMENT_KINDS):
        table[segment::4] = by_segment[kind]
    return table
