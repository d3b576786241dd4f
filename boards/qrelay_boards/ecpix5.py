"""ECPIX-5 with an ECP5-5G-85F.

PMOD 0 has the lines, PMOD 1 the detectors, PMOD 4 start, probe and reference: the PMODs on the right edge of the die.
PMOD 5 has the external key bits.
"""

from .ecp5_board import Ecp5Wiring, ecp5_board, header_of
from .ecp5_variants import with_chains, with_usb
from .ulpi_pins import UlpiPins

__all__ = ["ECPIX5_85F", "ECPIX5_85F_TDC", "ECPIX5_85F_USB"]

ECPIX5_85F = ecp5_board(
    "ecpix5-85f",
    "LambdaConcept ECPIX-5 with LFE5UM5G-85F-8: 8 lines, 4 detectors, x2 pins, UART 3 Mbaud",
    Ecp5Wiring(
        device="LFE5UM5G-85F",
        package="CABGA554",
        speed_grade=8,
        header=header_of("ecpix5", "ECPIX585Platform"),
        edge="right",
        lines=("pmod0.1", "pmod0.2", "pmod0.3", "pmod0.4", "pmod0.7", "pmod0.8", "pmod0.9", "pmod0.10"),
        detectors=("pmod1.1", "pmod1.2", "pmod1.3", "pmod1.4"),
        start_out="pmod4.1",
        probe="pmod4.2",
        start_in="pmod4.7",
        reference="pmod4.8",
        key_bits=("pmod5.1", "pmod5.2", "pmod5.3", "pmod5.4"),
        key_bits_valid="pmod5.7",
        oscillator="K23",
        oscillator_hz=100_000_000,
        # Channel B of the FT2232H.
        uart_rx="R26",
        uart_tx="R24",
        # Colours of the four lamps, LD0 to LD3.
        lamps={"reference": "R21", "blink": "T22", "pll": "W21", "locked": "K24", "running": "R23", "armed": "P21"},
        lamps_low=True,
    ),
    loader=("--board", "ecpix5"),
    serial_port="FT2232H of the board's debug connector (micro-USB), its second port",
)

ECPIX5_85F_TDC = with_chains(ECPIX5_85F, "LambdaConcept ECPIX-5: as ecpix5-85f, with a TDC at each detector")

ECPIX5_85F_USB = with_usb(
    ECPIX5_85F,
    "LambdaConcept ECPIX-5: as ecpix5-85f, with its link by USB at high speed",
    # USB3300.
    UlpiPins(
        data=("M26", "L25", "L26", "K25", "K26", "J23", "P25", "H25"),
        clk="H24",
        dir="F22",
        nxt="F23",
        stp="H23",
        rst="E23",
    ),
    serial_port="the debug connector (micro-USB)",
)
