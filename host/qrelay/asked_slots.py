"""Questions to a station about slots of a run: what it keeps of them, or can make again."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bit_arrays import unpack_fields
from .board import Board
from .errors import RunError
from .protocol.windows import window

__all__ = ["SlotQuestion"]

_STANDSTILL_S = 20.0
_SPAN_SLOTS = 1 << 32
"""Reach of an offset from the base of a request."""


@dataclass(frozen=True)
class SlotQuestion:
    """Names of the registers and the window with which a station is asked and answers."""

    base: str
    ask: str
    answered: str
    answers: str
    what: str
    """What is asked for, in words."""

    def put(self, board: Board, slots: NDArray[np.uint64]) -> dict[str, NDArray[np.uint64]]:
        """Fields of the answers, an array each, in the order of `slots`, which may be any.

        Raises RunError if the station does not answer.
        """
        order = np.argsort(slots, kind="stable")
        ordered = np.asarray(slots, np.uint64)[order]
        answers = np.zeros(len(ordered), np.uint64)
        begin = 0
        while begin < len(ordered):
            reach = int(np.searchsorted(ordered, ordered[begin] + np.uint64(_SPAN_SLOTS)))
            end = min(begin + window("offsets").depth, reach)
            answers[order[begin:end]] = self._request(board, ordered[begin:end])
            begin = end
        return unpack_fields(window(self.answers).entry, answers)

    def _request(self, board: Board, slots: NDArray[np.uint64]) -> list[int]:
        base = int(slots[0])
        board.write_table("offsets", (slots - np.uint64(base)).astype(np.int64))
        # One after the other: a base that was lost on the way must not be asked for.
        board.write(self.base, base)
        board.write(self.ask, len(slots))
        began = time.monotonic()
        while board.read(self.answered) != len(slots):
            if time.monotonic() - began > _STANDSTILL_S:
                raise RunError(
                    f"station {board.identity.board!r} does not answer for {self.what} for {_STANDSTILL_S:g} s"
                )
        return board.read_table(self.answers, count=len(slots))
