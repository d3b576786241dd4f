"""FPGA boards: pins, clock plan, build and flash.

`boards()` lists them; the board files are imported on demand, so that listing needs no Amaranth.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .board import Board

__all__ = ["boards"]


def boards() -> "dict[str, Board]":
    """All boards by name."""
    from .butterstick import BUTTERSTICK_85F, BUTTERSTICK_85F_USB
    from .ecpix5 import ECPIX5_85F, ECPIX5_85F_TDC, ECPIX5_85F_USB
    from .orangecrab import ORANGECRAB_85F
    from .ulx3s import ULX3S_85F, ULX3S_85F_SDRAM, ULX3S_85F_TDC

    plain = (ULX3S_85F, ECPIX5_85F, BUTTERSTICK_85F, ORANGECRAB_85F)
    chains = (ULX3S_85F_TDC, ECPIX5_85F_TDC)
    usb = (ECPIX5_85F_USB, BUTTERSTICK_85F_USB)
    return {board.name: board for board in (*plain, *chains, *usb, ULX3S_85F_SDRAM)}
