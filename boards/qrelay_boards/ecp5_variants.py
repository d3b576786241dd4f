"""A board once more with something else in it: carry chains, a link by USB, an SDRAM, ring oscillators."""

from dataclasses import replace
from typing import Any

from .board import Board
from .ecp5_board import ecp5_board
from .sdram_wiring import SdramWiring
from .ulpi_pins import UlpiPins

__all__ = ["with_chains", "with_rings", "with_sdram", "with_serial_number", "with_usb"]


def with_chains(board: Board, description: str) -> Board:
    """The same board with a carry chain at each detector, under its name with "-tdc"."""
    return _variant(board, "-tdc", description, chains=tuple(range(len(board.wiring.detectors))))


def with_usb(board: Board, description: str, ulpi: UlpiPins, serial_port: str) -> Board:
    """The same board with its link by USB instead of a UART, under its name with "-usb"."""
    wiring = {"uart_rx": None, "uart_tx": None, "ulpi": ulpi}
    return _variant(board, "-usb", description, serial_port=serial_port, **wiring)


def with_sdram(board: Board, description: str, sdram: SdramWiring) -> Board:
    """The same board with an SDRAM that keeps the key bits from outside, under its name with "-sdram"."""
    return _variant(board, "-sdram", description, sdram=sdram)


def with_serial_number(board: Board, serial_number: str) -> Board:
    """The same board with this serial number on USB. Raises ValueError for boards whose link is a UART."""
    ulpi = board.wiring.ulpi
    if ulpi is None:
        raise ValueError(f"{board.name} has a UART; only boards with their link by USB have a serial number")
    return _variant(board, ulpi=replace(ulpi, serial_number=serial_number))


def with_rings(board: Board) -> Board:
    """The same board with ring oscillators as noise source; its identity block says so, its name stays."""
    from .ecp5_rings import RING_LENGTHS

    return _variant(board, rings=RING_LENGTHS)


def _variant(
    board: Board, suffix: str = "", description: str | None = None, *, serial_port: str | None = None, **wiring: Any
) -> Board:
    return ecp5_board(
        board.name + suffix,
        description or board.description,
        replace(board.wiring, **wiring),
        loader=board.loader,
        serial_port=serial_port or board.serial_port,
        loader_keeps=board.loader_keeps,
    )
