"""The identity block: what a host reads first, in the window at address 0.

The host refuses a board whose magic or protocol hash is not its own, and prints both values: `Board.open` of
`qrelay.board`. That the stations of a run have one clock plan is checked where they are opened together, by
`qrelay.bench`.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from .units import BINS_PER_SLOT, FINES_PER_SLOT

__all__ = ["IDENTITY_WORDS", "MAGIC", "Capability", "Entropy", "Identity", "Phy"]

MAGIC = 0x594C5251  # "QRLY", little-endian
IDENTITY_WORDS = 64
_LAYOUT = struct.Struct("<IQ4H24sQQiBBBBBBBB14HIQ")

_BIN_FINES = FINES_PER_SLOT // BINS_PER_SLOT
"""Bin of an x2 gearbox, whose fine value is its middle."""


class Entropy(IntEnum):
    """Where keys of the keystream come from."""

    HOST = 0
    RING_OSCILLATOR = 1
    SIMULATED = 0x80


class Phy(IntEnum):
    """What measures the detector edges."""

    ECP5_X2 = 1
    TDC = 2
    """Carry chains at the detectors in `Identity.chains`, x2 gearboxes at the others."""
    TWIN_X2 = 0x81
    """The twin's model of the x2 gearbox: same two fine values."""
    TWIN_TDC = 0x83
    """The twin's model of carry chains, in front of the gateware that a board has behind them."""
    FAST_TWIN = 0x82
    """No gateware: clicks drawn by the fast twin, with the same two fine values."""


class Capability(IntFlag):
    """Optional parts that are present."""

    SENDER = 1
    RECEIVER = 2
    EXTERNAL_REFERENCE = 4
    SIMULATED = 8
    FINE_DELAY = 16
    """The output lines have delay elements in their pins."""


@dataclass(frozen=True)
class Identity:
    """Constants of a station.

    Latencies are in words. `start_latency` is from the word in which the start event is seen to the word that is slot
    `start_slot`; `line_latency` from that word's place in the slot counter to its line bins at the lines output (plus
    the serialiser's own `pin_latency`); `receiver_latency` from a word of the slot counter to the word of hits at the
    detector input that is tagged with it (negative differences are taken up by `start_slot`); `event_latency` from hits
    at the input to the success record that leaves the receiver for its FIFO, at detector delay 0.

    Two sums are the station's contract with the bench: `choice_to_pin` from the choice of a slot to its level on the
    output pin, at line delay 0; `pin_to_event` from an edge on a detector pin to the success record in its queue, at
    detector delay 0. Neither depends on the start, the slot, or what else happens. With carry chains `pin_to_event`
    counts with the detector's pad offset taken from its delay: at delay 0 the record is there up to two words earlier.
    """

    protocol_hash: int
    version: tuple[int, int, int]
    board: str
    slot_rate_numerator_hz: int
    slot_rate_denominator: int
    clock_error_ppb: int
    capabilities: Capability
    detectors: int
    lines: int
    phy: Phy
    entropy: Entropy
    fine_step: int
    """Fines between neighbouring values that the detector PHY can give; of chains where there are any (`fines_of`)."""
    fine_first: int
    """Smallest fine value that the detector PHY can give; of chains where there are any (`fines_of`)."""
    start_latency: int
    line_latency: int
    pin_latency: int
    receiver_latency: int
    event_latency: int
    choice_to_pin: int
    pin_to_event: int
    fifo_success: int
    fifo_click: int
    fifo_frame: int
    fifo_gap: int
    fifo_status: int
    fifo_reference: int
    fifo_key: int
    link_baud: int
    """Bits per second on the wire of the link, 480 million for USB; 0 where the link has no such rate."""
    chains: int = 0
    """Detectors whose edges a carry chain measures, one bit each."""
    build_id: int = 0
    """Which bitstream the station holds: the same number stands in the head of the file. 0: simulated, no bitstream."""
    magic: int = MAGIC

    def fines_of(self, detector: int) -> range:
        """Fine values that a detector's input can give; where only some have a carry chain, the others' are coarser."""
        if self.phy in (Phy.TDC, Phy.TWIN_TDC) and not self.chains >> detector & 1:
            return range(_BIN_FINES // 2, FINES_PER_SLOT, _BIN_FINES)
        return range(self.fine_first, FINES_PER_SLOT, self.fine_step)

    def to_words(self) -> list[int]:
        """Contents of the identity window, `IDENTITY_WORDS` words of 32 bits."""
        name = self.board.encode("ascii")
        if len(name) > 24:
            raise ValueError(f"board name {self.board!r} has {len(name)} characters; at most 24 fit the identity block")
        packed = _LAYOUT.pack(
            self.magic,
            self.protocol_hash,
            *self.version,
            0,
            name,
            self.slot_rate_numerator_hz,
            self.slot_rate_denominator,
            self.clock_error_ppb,
            self.capabilities,
            self.detectors,
            self.lines,
            self.phy,
            self.entropy,
            self.fine_step,
            self.fine_first,
            self.chains,
            self.start_latency,
            self.line_latency,
            self.pin_latency,
            self.receiver_latency,
            self.event_latency,
            self.choice_to_pin,
            self.pin_to_event,
            self.fifo_success,
            self.fifo_click,
            self.fifo_frame,
            self.fifo_gap,
            self.fifo_status,
            self.fifo_reference,
            self.fifo_key,
            self.link_baud,
            self.build_id,
        ).ljust(4 * IDENTITY_WORDS, b"\0")
        return list(struct.unpack(f"<{IDENTITY_WORDS}I", packed))

    @classmethod
    def from_words(cls, words: list[int], protocol_hash: int | None = None) -> "Identity":
        """Read an identity block.

        Raises ValueError if the magic number is not there, if the block has another hash than the given one, or if a
        value is unknown. The hash is compared before any value is read, as those of another protocol mean something
        else.
        """
        packed = struct.pack(f"<{len(words)}I", *words)
        (magic, found_hash, major, minor, patch, _, name, numerator, denominator, ppb, *rest) = _LAYOUT.unpack(
            packed[: _LAYOUT.size]
        )
        if magic != MAGIC:
            raise ValueError(f"magic {magic:#010x} is not that of a qrelay station ({MAGIC:#010x}); check the port")
        board = name.rstrip(b"\0").decode("ascii", "replace")
        if protocol_hash not in (None, found_hash):
            raise ValueError(
                f"station {board!r} (gateware {major}.{minor}.{patch}) has protocol {found_hash:#018x}, this host has "
                f"{protocol_hash:#018x}; flash the bitstream of this version, or install the version of the bitstream"
            )
        capabilities, detectors, lines, phy, entropy, step, first, chains, *tail, build_id = rest
        return cls(
            found_hash,
            (major, minor, patch),
            board,
            numerator,
            denominator,
            ppb,
            Capability(capabilities),
            detectors,
            lines,
            Phy(phy),
            Entropy(entropy),
            step,
            first,
            *(*tail, chains, build_id),
        )
