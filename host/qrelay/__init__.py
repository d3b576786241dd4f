"""Host side of the qrelay quantum relay: boards, runs, sifting, key.

>>> from qrelay import Board
>>> with Board.open("socket://127.0.0.1:5000") as board:
...     print(board.identity.board, board.read("timebase.slot_now"))
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Board", "__version__"]

if TYPE_CHECKING:
    from .board import Board


def __getattr__(name: str) -> Any:
    # NumPy and pyserial take longer to import than `qrelay --help` may.
    if name == "Board":
        from .board import Board

        return Board
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
