"""A whole station: one design for every role, of which a board adds only clocks, pins and detector PHY."""

from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.identity import Capability, Entropy, Identity, Phy
from qrelay.protocol.registers import DETECTORS, LINES
from qrelay.protocol.units import DEFAULT_SLOT_RATE_HZ, SLOTS_PER_WORD

from .layouts import LINE_BINS, Hits, Lines

__all__ = ["GATEWARE_VERSION", "BoardFacts", "Station"]

GATEWARE_VERSION = (0, 1, 0)


@dataclass(frozen=True)
class BoardFacts:
    """What a board tells the station about itself, for the identity block.

    `pin_latency` is from the lines output to the pins plus from the detector pins to the hits input, in words.
    """

    board: str
    phy: Phy
    entropy: Entropy
    capabilities: Capability
    pin_latency: int
    link_baud: int
    slot_rate_hz: Fraction = DEFAULT_SLOT_RATE_HZ
    clock_error_ppb: int = 0
    fine_first: int = 64
    fine_step: int = 128
