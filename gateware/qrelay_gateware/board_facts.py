"""What a board tells its station about itself, and the identity block that follows from it."""

from dataclasses import asdict, dataclass
from fractions import Fraction

from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.identity import Capability, Entropy, Identity, Phy
from qrelay.protocol.registers import DETECTORS, LINES
from qrelay.protocol.units import DEFAULT_SLOT_RATE_HZ

from .choices import ChoiceMapper
from .events import FIFO_DEPTHS, Events
from .keystream import Keystream
from .modulator import Modulator
from .receiver import Receiver
from .sdram import SdramChip

__all__ = ["GATEWARE_VERSION", "START_LATENCY", "BoardFacts"]

GATEWARE_VERSION = (0, 1, 0)

START_LATENCY = Keystream.latency + 1
"""Words from the start event to the first word of the run."""


@dataclass(frozen=True)
class BoardFacts:
    """Facts of a board that its station cannot know.

    `pin_latency` is from the lines output to the pins plus from the detector pins to the hits input, in words;
    `output_latency` is the first part of it.
    `detectors` and `lines` are those that the board has pins for, the first ones of the station's.
    """

    board: str
    phy: Phy
    entropy: Entropy
    capabilities: Capability
    pin_latency: int
    link_baud: int
    output_latency: int = 0
    slot_rate_hz: Fraction = DEFAULT_SLOT_RATE_HZ
    clock_error_ppb: int = 0
    detectors: int = DETECTORS
    lines: int = LINES
    fine_first: int = 64
    fine_step: int = 128
    chains: int = 0
    """Detectors with a carry chain, one bit each."""
    build_id: int = 0
    """Of the bitstream; 0 in a simulation."""
    external_ring_words: int = 0
    """Words in the ring of key bits from outside, in block RAMs; 0: no pins for such bits, or `external_chip`."""
    external_chip: SdramChip | None = None
    """Memory that holds the ring of key bits from outside instead."""

    @property
    def identity(self) -> Identity:
        """Identity block of this station."""
        board = asdict(self)
        rate = board.pop("slot_rate_hz")
        output_latency = board.pop("output_latency")
        board.pop("external_ring_words")
        board.pop("external_chip")
        return Identity(
            protocol_hash=PROTOCOL_HASH,
            version=GATEWARE_VERSION,
            slot_rate_numerator_hz=rate.numerator,
            slot_rate_denominator=rate.denominator,
            start_latency=START_LATENCY,
            line_latency=ChoiceMapper.latency + Modulator.latency,
            receiver_latency=0,
            event_latency=Receiver.latency,
            choice_to_pin=Modulator.latency + output_latency,
            pin_to_event=self.pin_latency - output_latency + Receiver.latency + Events.latency,
            **{f"fifo_{kind.name.lower()}": depth for kind, depth in FIFO_DEPTHS.items()},
            **board,
        )
