"""Delay elements in the pins of a station's lines: their settings, and the wait until they are reached."""

import time
from collections.abc import Sequence

from .board import Board
from .errors import RunError
from .protocol.identity import Capability
from .protocol.registers import LINES

__all__ = ["NO_TAPS", "settle", "taps"]

SETTLE_SECONDS = 2.0
"""Patience with the delay elements of the lines."""
NO_TAPS = (0,) * LINES


def taps(board: Board, by_line: Sequence[int]) -> dict[str, int]:
    """Registers by which the lines get their taps; none where a station has no delay elements."""
    if Capability.FINE_DELAY not in board.identity.capabilities:
        return {}
    return {f"fine_delay.taps_{line}": wanted for line, wanted in enumerate(by_line)}


def settle(board: Board, station: str) -> None:
    """Wait until the delay elements are at their settings, within half a millisecond of the station's time.

    Raises RunError naming the `station` whose elements do not get there.
    """
    if Capability.FINE_DELAY not in board.identity.capabilities:
        return
    give_up = time.monotonic() + SETTLE_SECONDS
    while board.read("fine_delay.moving"):
        if time.monotonic() > give_up:
            raise RunError(
                f"station {station}: fine_delay.moving is still 1 after {SETTLE_SECONDS} s; flash the board again, its "
                "delay elements do not reach their settings"
            )
