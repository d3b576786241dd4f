"""Where a slot stands in its frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import FrameConfig
from .protocol.registers import SEGMENT_KINDS
from .protocol.units import SLOTS_PER_WORD
from .protocol.windows import window

__all__ = ["FrameLayout"]


@dataclass(frozen=True)
class FrameLayout:
    """Segments of a frame: kind codes and lengths in slots."""

    kinds: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, config: FrameConfig) -> "FrameLayout":
        """Layout of a run file's frame."""
        return cls(
            tuple(SEGMENT_KINDS.index(segment.kind) for segment in config.segments),
            tuple(segment.slots for segment in config.segments),
        )

    @property
    def slots(self) -> int:
        """Length of the frame."""
        return sum(self.lengths)

    @property
    def uniform(self) -> bool:
        """All slots of the frame are of one kind, so that its phase does not matter."""
        return len(set(self.kinds)) == 1

    def entries(self) -> list[int]:
        """Entries of the `segments` table."""
        entry = window("segments").entry
        return [
            entry.pack({"kind": kind, "words": length // SLOTS_PER_WORD})
            for kind, length in zip(self.kinds, self.lengths, strict=True)
        ]

    def kind_of(self, slots: NDArray[np.uint64], start_slot: int) -> NDArray[np.uint8]:
        """Segment kind code of each slot of a station that began at `start_slot`."""
        place = (slots - np.uint64(start_slot)) % np.uint64(self.slots)
        return np.asarray(self.kinds, np.uint8)[np.searchsorted(np.cumsum(self.lengths), place, side="right")]

    def counted(self, slots: int, kinds: Sequence[int]) -> int:
        """How many of the first `slots` slots after the start are of one of `kinds`."""
        frames, rest = divmod(slots, self.slots)
        total = 0
        for kind, length in zip(self.kinds, self.lengths, strict=True):
            if kind in kinds:
                total += frames * length + min(rest, length)
            rest = max(0, rest - length)
        return total

    def slots_until(self, count: int, kinds: Sequence[int]) -> int:
        """Smallest number of slots after the start of which `count` are of one of `kinds`."""
        per_frame = self.counted(self.slots, kinds)
        if count == 0 or per_frame == 0:
            return 0
        frames, rest = divmod(count - 1, per_frame)
        rest += 1
        slots = frames * self.slots
        for kind, length in zip(self.kinds, self.lengths, strict=True):
            if kind in kinds:
                if rest <= length:
                    return slots + rest
                rest -= length
            slots += length
        raise AssertionError("a frame holds fewer slots of these kinds than counted")
