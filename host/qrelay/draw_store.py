"""Draws of a sender that its station gave for announced slots, kept for the rest of the run and for a replay."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import RunError, RunFolderError
from .protocol.choice import DRAW_BITS, PHASE_BITS, PHASES, SETTINGS, THRESHOLD_RANGE, setting_of

__all__ = ["DrawStore"]

_DRAW_MASK = np.uint64((1 << DRAW_BITS) - 1)
_NEVER = (THRESHOLD_RANGE,) * (SETTINGS - 1)


class DrawStore:
    """Draws by slot (a `qrelay.sifting.DrawsChoices`), in memory and, with a path, in a file that only its owner reads.

    The file is one little-endian 64-bit word per draw, slot index in bits 63:16, draw in bits 15:0, in the order in
    which they came; a slot may occur twice, with the same draw.

    Raises RunFolderError if the file exists already or cannot be written.
    """

    def __init__(self, thresholds: Sequence[int] = _NEVER, path: Path | None = None) -> None:
        limits = tuple(thresholds)
        self._setting_of_draw = np.array([setting_of(d, limits) for d in range(THRESHOLD_RANGE)], np.uint8)
        self._path = path
        self._entries = np.zeros(0, np.uint64)
        """Sorted, but for what stands in `_latest`."""
        self._latest: list[NDArray[np.uint64]] = []
        if path is not None:
            self._append(b"", os.O_CREAT | os.O_EXCL)

    @classmethod
    def read(cls, path: Path, thresholds: Sequence[int]) -> "DrawStore":
        """The draws of a file, for a replay."""
        store = cls(thresholds)
        store._latest.append(np.sort(np.fromfile(path, "<u8").astype(np.uint64)))
        return store

    def add(self, slots: NDArray[np.uint64], draws: NDArray[np.uint16]) -> None:
        """Keep the draws of some slots; on disk before this returns."""
        entries = slots << np.uint64(DRAW_BITS) | draws.astype(np.uint64)
        if self._path is not None and len(entries):
            self._append(entries.astype("<u8").tobytes())
        self._latest.append(np.sort(entries))

    def at(self, slots: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Setting and phase index of each slot. Raises RunError for a slot whose draw was never given."""
        asked = np.asarray(slots, np.uint64)
        # What is asked for in a run is what has just come.
        draws = self._found(self._latest[-1], asked) if self._latest else None
        if draws is None:
            self._entries = np.unique(np.concatenate([self._entries, *self._latest]))
            self._latest = []
            draws = self._found(self._entries, asked)
        if draws is None:
            raise RunError("a slot is asked for whose draw the station never gave")
        return self._setting_of_draw[draws >> PHASE_BITS], (draws & (PHASES - 1)).astype(np.uint8)

    @staticmethod
    def _found(entries: NDArray[np.uint64], asked: NDArray[np.uint64]) -> NDArray[np.uint16] | None:
        """Draws of `asked` from sorted entries; None if one is not among them."""
        if not len(asked):
            return np.zeros(0, np.uint16)
        place = np.searchsorted(entries, asked << np.uint64(DRAW_BITS))
        if place.max() >= len(entries):
            return None
        found = entries[place]
        if (found >> np.uint64(DRAW_BITS) != asked).any():
            return None
        return (found & _DRAW_MASK).astype(np.uint16)

    def _append(self, content: bytes, flags: int = 0) -> None:
        assert self._path is not None
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | flags, 0o600)
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                end = os.fstat(descriptor).st_size
                try:
                    view = memoryview(content)
                    while view:
                        view = view[file.write(view) :]
                except OSError:
                    # Half an entry would shift all that come behind it.
                    os.ftruncate(descriptor, end)
                    raise
        except OSError as error:
            raise RunFolderError(f"cannot write {self._path}: {error.strerror}; free some space") from error
