"""Detector edges on their way to the receiver's inputs, kept in order of arrival."""

import numpy as np
from numpy.typing import NDArray

from .station import HIT_DTYPE

__all__ = ["ClickQueue"]


class ClickQueue:
    """Collects edges with absolute arrival slots and hands out those of the next batch."""

    def __init__(self) -> None:
        self._slots = np.zeros(0, np.int64)
        self._detectors = np.zeros(0, np.uint8)
        self._fines = np.zeros(0, np.uint8)

    def put(self, slots: NDArray[np.int64], detectors: NDArray[np.uint8], fines: NDArray[np.uint8]) -> None:
        """Add edges: arrival slot since the twin began, detector index, fine time; any order."""
        self._slots = np.concatenate((self._slots, slots))
        self._detectors = np.concatenate((self._detectors, detectors))
        self._fines = np.concatenate((self._fines, fines))

    def take(self, first_slot: int, slots: int) -> NDArray[np.void]:
        """Edges of the `slots` slots from `first_slot` on as `HIT_DTYPE`, at most one per detector and slot.

        Of two edges of one detector in one slot the first is kept: the detector PHY reports one edge per slot.
        """
        due = self._slots < first_slot + slots
        arrived = self._slots[due] - first_slot
        detectors = self._detectors[due]
        fines = self._fines[due]
        self._slots, self._detectors, self._fines = self._slots[~due], self._detectors[~due], self._fines[~due]
        if len(arrived) and arrived.min() < 0:
            raise AssertionError(f"an edge came {-int(arrived.min())} slots too late for the receiver")
        place = detectors.astype(np.int64) << 2 | arrived & 3
        order = np.lexsort((fines, place, arrived >> 2))
        word, place, fines = (arrived >> 2)[order], place[order], fines[order]
        first = np.ones(len(word), bool)
        first[1:] = (word[1:] != word[:-1]) | (place[1:] != place[:-1])
        hits = np.empty(int(first.sum()), HIT_DTYPE)
        hits["word"], hits["place"], hits["fine"] = word[first], place[first], fines[first]
        return hits
