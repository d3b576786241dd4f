"""ULX3S with an ECP5-85F: the reference board.

All fast pins are on the right edge of the die, header pairs 14 to 21, so that one edge clock serves them. The reference
takes the pin of that header that leads straight to a PLL; the pin beside it is one that is quiet during a run. External
key bits, which need no gearbox, are on pairs 1 to 3.
"""

from .ecp5_board import Ecp5Wiring, ecp5_board, header_of
from .ecp5_variants import with_chains, with_sdram
from .sdram_wiring import SdramWiring

__all__ = ["ULX3S_85F", "ULX3S_85F_SDRAM", "ULX3S_85F_TDC"]

ULX3S_85F = ecp5_board(
    "ulx3s-85f",
    "Radiona ULX3S with LFE5U-85F-6: 8 lines, 4 detectors, x2 pins, UART 3 Mbaud",
    Ecp5Wiring(
        device="LFE5U-85F",
        package="CABGA381",
        speed_grade=6,
        header=header_of("ulx3s", "ULX3S_85F_Platform"),
        edge="right",
        lines=("14+", "14-", "15+", "15-", "16+", "16-", "17+", "17-"),
        detectors=("18+", "18-", "19+", "19-"),
        probe="20+",
        start_out="20-",
        start_in="21-",
        reference="21+",
        key_bits=("1+", "1-", "2+", "2-"),
        key_bits_valid="3+",
        oscillator="G2",
        oscillator_hz=25_000_000,
        # FT231X, at most 3 Mbaud.
        uart_rx="M1",
        uart_tx="L4",
        lamps={"locked": "B2", "running": "C2", "armed": "C1", "reference": "D2", "pll": "D1", "blink": "H3"},
    ),
    loader=("--board", "ulx3s"),
    serial_port="FT231X of the board's USB connector US1",
)

ULX3S_85F_TDC = with_chains(ULX3S_85F, "Radiona ULX3S with LFE5U-85F-6: as ulx3s-85f, with a TDC at each detector")

ULX3S_85F_SDRAM = with_sdram(
    ULX3S_85F,
    "Radiona ULX3S with LFE5U-85F-6: as ulx3s-85f, with external key bits kept in the SDRAM",
    SdramWiring(
        clk="F19",
        cke="F20",
        cs="P20",
        ras="R20",
        cas="T19",
        we="T20",
        mask=("U19", "E20"),
        bank=("P19", "N20"),
        address=("M20", "M19", "L20", "L19", "K20", "K19", "K18", "J20", "J19", "H20", "N19", "G20", "G19"),
        data=(
            *("J16", "L18", "M18", "N18", "P18", "T18", "T17", "U20"),
            *("E19", "D20", "D19", "C20", "E18", "F18", "J18", "J17"),
        ),
    ),
)
