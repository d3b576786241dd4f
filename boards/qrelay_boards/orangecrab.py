"""OrangeCrab r0.2 with an ECP5-85F: the source of a relay, or a sender with few lines.

Seven pins of its header have gearboxes. The source needs three lines (pump, reference light, shutter).
"""

from .ecp5_board import Ecp5Wiring, ecp5_board, header_of

__all__ = ["ORANGECRAB_85F"]

ORANGECRAB_85F = ecp5_board(
    "orangecrab-85f",
    "OrangeCrab r0.2 with LFE5U-85F-8: 4 lines, 1 detector, x2 pins, UART 3 Mbaud on the header",
    Ecp5Wiring(
        device="LFE5U-85F",
        package="CSFBGA285",
        speed_grade=8,
        header=header_of("orangecrab_r0_2", "OrangeCrabR0_2_85FPlatform"),
        edge="right",
        lines=("12", "13", "a0", "a1"),
        detectors=("a2",),
        start_in="a3",
        start_out="a4",
        reference="10",
        oscillator="A9",
        oscillator_hz=48_000_000,
        # A serial adapter: the board's own USB connector is wired to the FPGA without a converter.
        uart_rx="0",
        uart_tx="1",
        lamps={"armed": "K4", "locked": "M3", "blink": "J3"},
        lamps_low=True,
    ),
    loader=("--board", "orangeCrab"),
    loader_keeps=True,
    serial_port="the boot loader (hold the button while the board is plugged in)",
)
