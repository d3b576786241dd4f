"""Key bits that a station took from outside, such as from a quantum random number generator, and keeps for its host."""

import time

import numpy as np
from numpy.typing import NDArray

from .asked_slots import SlotQuestion
from .board import Board
from .errors import RunError
from .protocol.choice import PHASE_BITS
from .protocol.registers import register

__all__ = ["ExternalBits"]

_QUESTION = SlotQuestion("external.base", "external.ask", "external.answered", "external", "its external key bits")
_KEY_BIT = PHASE_BITS - 1
_READY_LIMIT_S = 1.0
_MOST_LOOKBACK_SLOTS = (1 << register("external.lookback")[1].width) - 1
_LIVE_LOOKBACK_SLOTS = 10_000_000
"""Where so many slots are kept, 33 ms, a host reads their bits while the run goes on."""


class ExternalBits:
    """The bits of the last slots of a run, until the next arm.

    The station keeps as many slots as its memory holds (`lookback`). In an SDRAM that is most of a second, and bits are
    read as announcements come. In block RAMs it is 430 us, less than a round trip to a host takes: a run must then not
    be longer than that, and is asked for at its end or before.

    Raises RunError if the station has no such input, or its memory does not become ready.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.lookback = self._lookback()
        """Slots that are kept, or more where it is the register's largest value."""
        if not self.lookback:
            raise RunError(
                f"station {board.identity.board!r} at {board.url} has no input for external key bits, or the memory "
                "for them fails its test; set choices.external_key_bit = false, or use another board"
            )

    def check_length(self, slots: int) -> None:
        """Raise RunError unless the bits of a run of so many slots of the station (0: no end) can all be read."""
        if self.lookback >= _LIVE_LOOKBACK_SLOTS or 0 < slots <= self.lookback:
            return
        length = f"{slots} slots, delays of the paths included," if slots else "without an end"
        advice = f"make slots at least {slots - self.lookback} smaller" if slots else f"set slots below {self.lookback}"
        raise RunError(
            f"the station runs {length} and keeps the external key bits of {self.lookback} slots; {advice}, or use a "
            "board with an SDRAM for them"
        )

    def failed(self) -> bool:
        """Bits were missing in a slot that was to be drawn, since the last arm."""
        return bool(self.board.read("external.failed"))

    def bits(self, slots: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Bit of each slot, in any order, and whether it is kept; where it is not, the bit is 0 and means nothing."""
        answers = _QUESTION.put(self.board, slots)
        return answers["bit"].astype(np.uint8), answers["kept"].astype(np.bool_)

    def replace(self, slots: NDArray[np.uint64], draws: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Draws of `slots` with their external key bits. Raises RunError if one is not kept any more."""
        bits, kept = self.bits(slots)
        if not kept.all():
            raise RunError(
                f"station {self.board.identity.board!r}: {np.count_nonzero(~kept)} of {len(kept)} external key bits "
                f"are lost, the first of slot {int(slots[np.argmin(kept)])}: the station keeps {self.lookback} slots"
                f"{' or more' if self.lookback == _MOST_LOOKBACK_SLOTS else ''}, and the host was later than that, or "
                "its clock was lost"
            )
        return (draws & np.uint16(0xFFFF ^ 1 << _KEY_BIT)) | bits.astype(np.uint16) << np.uint16(_KEY_BIT)

    def _lookback(self) -> int:
        """Wait for a memory that has just been switched on and tests itself."""
        began = time.monotonic()
        while not (slots := self.board.read("external.lookback")) and time.monotonic() - began < _READY_LIMIT_S:
            time.sleep(0.02)
        return slots
