"""The link by USB: how a host knows a station among its serial ports, and what high speed carries."""

__all__ = [
    "HIGH_SPEED_BPS",
    "HIGH_SPEED_BYTES_PER_S",
    "PACKET_BYTES",
    "PRODUCT",
    "PRODUCT_ID",
    "VENDOR_ID",
    "link_name",
    "usb_board",
]

VENDOR_ID = 0x1209
"""The vendor number of pid.codes, which lends it to open hardware."""
PRODUCT_ID = 0x0001
"""Its number for private tests. Whoever hands out boards needs a number of their own (`UlpiPins.product_id`)."""
PRODUCT = "qrelay"
"""First word of the product's name in the USB descriptors; the name of the board follows."""

HIGH_SPEED_BPS = 480_000_000
"""`Identity.link_baud` of a link by USB at high speed."""
PACKET_BYTES = 512
"""Bulk packet at high speed."""
_PACKETS_PER_MICROFRAME = 13
_MICROFRAMES_PER_S = 8000
HIGH_SPEED_BYTES_PER_S = PACKET_BYTES * _PACKETS_PER_MICROFRAME * _MICROFRAMES_PER_S
"""Upper bound of bulk transfers, 53.248 MB/s: 13 packets fit a microframe of 125 us (USB 2.0, table 5-10)."""


def link_name(bps: int) -> str:
    """A link by its bits per second, for people."""
    return "USB high speed" if bps == HIGH_SPEED_BPS else f"{bps / 1e6:g} Mbaud"


def usb_board(vendor_id: int | None, product_id: int | None, product: str | None) -> str | None:
    """Name of the board whose USB numbers and product's name these are; None for other devices.

    The name decides, as anybody may use the numbers. A system that does not tell names leaves a "?".
    """
    if product:
        first, _, board = product.partition(" ")
        return board if first == PRODUCT and board else None
    return "?" if (vendor_id, product_id) == (VENDOR_ID, PRODUCT_ID) else None
