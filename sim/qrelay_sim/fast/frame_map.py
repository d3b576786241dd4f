"""Slots of one kind of segment, counted without the others: where the n-th quantum slot lies."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrelay.frame import FrameLayout
from qrelay.protocol.registers import SEGMENT_KINDS

from .compiled import compiled

__all__ = ["FrameMap", "count_before", "to_slots"]

Integers = NDArray[np.int64]


class FrameMap(NamedTuple):
    """Segments of one kind in the frame, in slots from the frame's begin. The origin of slots is a frame's begin."""

    frame_slots: int
    per_frame: int
    begins: Integers
    before: Integers
    """Slots of the kind before each of these segments."""

    @classmethod
    def of(cls, layout: FrameLayout, kind: str) -> "FrameMap":
        """Segments of `kind`."""
        code = SEGMENT_KINDS.index(kind)
        ends = np.cumsum(layout.lengths)
        of_kind = np.flatnonzero(np.asarray(layout.kinds) == code)
        lengths = np.asarray(layout.lengths, np.int64)[of_kind]
        return cls(
            layout.slots,
            int(lengths.sum()),
            (ends[of_kind] - lengths).astype(np.int64),
            (np.cumsum(lengths) - lengths).astype(np.int64),
        )

    def is_everything(self) -> bool:
        """All slots are of the kind."""
        return self.per_frame == self.frame_slots


@compiled
def count_before(frame: FrameMap, slot: int) -> int:
    """Slots of the kind among the slots 0 .. slot - 1."""
    frames = slot // frame.frame_slots
    rest = slot - frames * frame.frame_slots
    inside = 0
    for k in range(len(frame.begins)):
        last = frame.before[k + 1] if k + 1 < len(frame.begins) else frame.per_frame
        inside += min(max(rest - frame.begins[k], 0), last - frame.before[k])
    return frames * frame.per_frame + inside


@compiled
def to_slots(frame: FrameMap, numbers: Integers, first: int) -> Integers:
    """Slot of each number: ``first + numbers`` counts the slots of the kind from the origin on."""
    slots = np.empty(len(numbers), np.int64)
    for i in range(len(numbers)):
        number = first + numbers[i]
        if frame.per_frame == frame.frame_slots:
            slots[i] = number
            continue
        frames = number // frame.per_frame
        rest = number - frames * frame.per_frame
        k = len(frame.begins) - 1
        while frame.before[k] > rest:
            k -= 1
        slots[i] = frames * frame.frame_slots + frame.begins[k] + rest - frame.before[k]
    return slots
