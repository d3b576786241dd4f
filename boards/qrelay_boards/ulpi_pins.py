"""Pins of a USB transceiver with a ULPI bus, and the rules for a build of the link by USB."""

from dataclasses import dataclass

from qrelay.protocol.usb import PRODUCT_ID, VENDOR_ID

from .board import Crossing

__all__ = ["USB_CELLS", "USB_HZ", "UlpiPins"]

USB_HZ = 60_000_000
"""Clock of the ULPI bus."""

USB_CELLS = {"usb_clock:TRELLIS_FF": 500, "usb_clock:DP16KD": 4}
"""At least so many flip-flops and block RAMs have the clock of the USB device."""


@dataclass(frozen=True, kw_only=True)
class UlpiPins:
    """Pins and facts of a USB transceiver with a ULPI bus, which makes the station's link a USB serial port.

    Parameters
    ----------
    data : tuple of str
        Eight pins, bit 0 first.
    clk, dir, nxt, stp, rst : str
        Pins of the bus.
    clk_out : bool
        The FPGA makes the bus clock of 60 MHz, from its oscillator; else the transceiver does.
    rst_low : bool
        The transceiver is in reset at a low level.
    vendor_id, product_id : int
        USB numbers. The default is a number for private tests, free to everyone and therefore nobody's: boards that
        leave the lab need their own, from the USB-IF or from pid.codes.
    serial_number : str
        What tells boards of one kind apart on one host.
    """

    data: tuple[str, ...]
    clk: str
    dir: str
    nxt: str
    stp: str
    rst: str
    clk_out: bool = False
    rst_low: bool = False
    vendor_id: int = VENDOR_ID
    product_id: int = PRODUCT_ID
    serial_number: str = "1"

    def __post_init__(self) -> None:
        if len(self.data) != 8:
            raise ValueError(f"{len(self.data)} ULPI data pins: the bus has 8")
        if not self.serial_number.isascii() or not self.serial_number.isalnum() or len(self.serial_number) > 32:
            raise ValueError(f"serial number {self.serial_number!r}: give 1 to 32 letters and digits")
        for name, value in (("vendor_id", self.vendor_id), ("product_id", self.product_id)):
            if not 0 < value < 1 << 16:
                raise ValueError(f"{name} {value:#x} is no USB number; give 0x0001 to 0xffff")

    @property
    def uses(self) -> dict[str, str]:
        """Pins by use."""
        data = {f"ulpi_data_{bit}": pin for bit, pin in enumerate(self.data)}
        return data | {f"ulpi_{use}": getattr(self, use) for use in ("clk", "dir", "nxt", "stp", "rst")}

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """Pairs of clocks between which data pass, beside those of every board.

        Of the 16.7 ns of a clock ULPI 1.1 leaves 7.6 ns inwards and 10.6 ns outwards; where the FPGA makes the clock,
        10.6 and 13.6 ns, less the way of the clock to its pin inwards. The tool knows neither the delays of pads nor
        that of the clock tree. Outwards they add up, and 2 ns are kept back for them.
        """
        outwards = 11.6 if self.clk_out else 8.6
        return (
            # Pointers in Gray code: their bits may differ by less than a clock of the side that sends them.
            Crossing("word_clock", "usb_clock", 13.1, "fill of the byte queues in Gray code, synchronised"),
            Crossing("usb_clock", "word_clock", 13.1, "fill of the byte queues in Gray code, reset, synchronised"),
            Crossing("osc_clock", "usb_clock", 16.6, "reset, synchronised"),
            Crossing("async", "usb_clock", 7.6, "ULPI bus, from the pins"),
            Crossing("usb_clock", "async", outwards, "ULPI bus, to the pins"),
        )

    @property
    def pads(self) -> tuple[str, ...]:
        """Beginnings of the names of all pads in the netlist."""
        return tuple(f"ulpi_0__{signal}_" for signal in ("data", "clk", "dir", "nxt", "stp", "rst"))

    @property
    def clock_source(self) -> tuple[str, str]:
        """What drives the bus clock in the netlist, as in `Board.clock_sources`."""
        return ("EHXPLLL", "CLKOS3") if self.clk_out else ("pad", "ulpi_0__clk__io")
