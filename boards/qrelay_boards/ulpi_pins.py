"""Pins of a USB transceiver with a ULPI bus."""

from dataclasses import dataclass

from qrelay.protocol.usb import PRODUCT_ID, VENDOR_ID

__all__ = ["USB_HZ", "UlpiPins"]

USB_HZ = 60_000_000
"""Clock of the ULPI bus."""


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
        for name, value in (("vendor_id", self.vendor_id), ("product_id", self.product_id)):
            if not 0 < value < 1 << 16:
                raise ValueError(f"{name} {value:#x} is no USB number; give 0x0001 to 0xffff")

    @property
    def uses(self) -> dict[str, str]:
        """Pins by use."""
        data = {f"ulpi_data_{bit}": pin for bit, pin in enumerate(self.data)}
        return data | {f"ulpi_{use}": getattr(self, use) for use in ("clk", "dir", "nxt", "stp", "rst")}
