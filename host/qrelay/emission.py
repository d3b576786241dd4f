"""What a sender must have emitted in any slot: choices, steps and the line bins that follow from them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bit_arrays import pack_fields
from .frame import FrameLayout
from .protocol.registers import SEGMENT_KINDS
from .protocol.windows import window
from .sifting import DrawsChoices

__all__ = ["Emission", "SenderPlan"]

_QUANTUM = SEGMENT_KINDS.index("quantum")


@dataclass(frozen=True)
class Emission:
    """Choices and line entries of consecutive slots, one array entry per slot."""

    setting: NDArray[np.uint8]
    phase: NDArray[np.uint8]
    drawn: NDArray[np.bool_]
    lines: NDArray[np.uint16]
    """Entries of the lines table, before any line delay."""


@dataclass(frozen=True)
class SenderPlan:
    """Everything that decides what a sender emits.

    `steps` are (setting, phase) of the step list, each lasting `step_slots`; `table` is the lines table [512].
    """

    choices: DrawsChoices
    layout: FrameLayout
    start_slot: int
    steps: tuple[tuple[int, int], ...]
    step_slots: int
    table: NDArray[np.uint16]
    line_delay_slots: tuple[int, ...]

    def emission(self, slots: NDArray[np.uint64]) -> Emission:
        """Return what belongs to `slots`, none of which may be before `start_slot`."""
        kind = self.layout.kind_of(slots, self.start_slot)
        drawn = kind == _QUANTUM
        setting, phase = (drawn_part.copy() for drawn_part in self.choices.at(slots))
        place = (slots - np.uint64(self.start_slot)) % np.uint64(self.layout.slots)
        ends = np.cumsum(self.layout.lengths)
        segment = np.searchsorted(ends, place, side="right")
        inside = place - (ends - np.asarray(self.layout.lengths))[segment].astype(np.uint64)
        step = (inside // np.uint64(self.step_slots)) % np.uint64(len(self.steps))
        steps = np.asarray(self.steps, np.uint8)[step.astype(np.int64)]
        setting = np.where(drawn, setting, steps[:, 0]).astype(np.uint8)
        phase = np.where(drawn, phase, steps[:, 1]).astype(np.uint8)
        index = pack_fields(window("lines").index, kind=kind, setting=setting, phase=phase)
        return Emission(setting, phase, drawn, self.table[index])
