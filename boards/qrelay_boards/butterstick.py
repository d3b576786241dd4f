"""ButterStick r1.0 with an ECP5-5G-85F.

SYZYGY port 0 has lines, start, probe and reference, port 1 the detectors, the external key bits and the serial port:
both are on the left edge of the die. Their supply is made on the board under control of the FPGA, here 3.3 V.
"""

from .ecp5_board import Ecp5Wiring, ecp5_board, header_of
from .ecp5_variants import with_usb
from .ulpi_pins import UlpiPins

__all__ = ["BUTTERSTICK_85F", "BUTTERSTICK_85F_USB"]


def _power(m, platform, oscillator_hz):
    from .butterstick_power import add_power

    add_power(m, platform, oscillator_hz)


BUTTERSTICK_85F = ecp5_board(
    "butterstick-85f",
    "ButterStick r1.0 with LFE5UM5G-85F-8: 8 lines, 4 detectors, x2 pins, UART 3 Mbaud on SYZYGY port 1",
    Ecp5Wiring(
        device="LFE5UM5G-85F",
        package="CABGA381",
        speed_grade=8,
        header=header_of("butterstick", "ButterStickPlatform"),
        edge="left",
        lines=tuple(f"syzygy0.S{i}" for i in range(8)),
        detectors=tuple(f"syzygy1.S{i}" for i in range(0, 8, 2)),
        start_out="syzygy0.S8",
        probe="syzygy0.S9",
        reference="syzygy0.S26",
        start_in="syzygy0.S27",
        key_bits=tuple(f"syzygy1.S{i}" for i in range(8, 16, 2)),
        key_bits_valid="syzygy1.S16",
        oscillator="B12",
        oscillator_hz=30_000_000,
        # A serial adapter: the board's own USB connector leads to a ULPI transceiver.
        uart_rx="syzygy1.S24",
        uart_tx="syzygy1.S26",
        # Rows of the seven lamps, and the column of one colour.
        lamps={"locked": "C13", "running": "D12", "armed": "U2", "reference": "T3", "pll": "D13", "blink": "C16"},
        high=("U1",),
        extra=_power,
    ),
    # openFPGALoader has no entry for this board: these are the numbers of its boot loader.
    loader=("--dfu", "--vid", "0x1209", "--pid", "0x5af1", "--altsetting", "0"),
    loader_keeps=True,
    serial_port="the boot loader (hold button 0 while the board is plugged in)",
)

BUTTERSTICK_85F_USB = with_usb(
    BUTTERSTICK_85F,
    "ButterStick r1.0: as butterstick-85f, with its link by USB at high speed",
    # USB3343, which takes its clock from the FPGA.
    UlpiPins(
        data=("B9", "C6", "A7", "E9", "A8", "D9", "C10", "C7"),
        clk="B6",
        dir="A6",
        nxt="B8",
        stp="C8",
        rst="C9",
        clk_out=True,
        rst_low=True,
    ),
    serial_port=BUTTERSTICK_85F.serial_port,
)
