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


class Station(wiring.Component):
    """Time base, sender, receiver, events and link of one board, in the word clock domain.

    Every clock is one word of four slots. The role of the station is configuration: all parts are always there.

    A start event (command or start input) is followed after `start_latency` words by the word of slot
    ``timebase.start_slot``, which leaves the lines output `line_latency` words later. Hits presented in the word of slot
    s (`receiver_latency` words after that word left the slot counter) carry slot s.

    Reset: unlocked lines idle, nothing armed. Overflow: as the blocks say; every loss is counted and reported.

    Parameters
    ----------
    facts : BoardFacts
        What the board adds to the identity block.

    Ports
    -----
    rx, tx : byte streams of the link.
    hits : detector edges of the word, ``hits[detector][lane]``.
    start_bins : samples of the start input, bit 0 earliest.
    lines : bins of the output lines, ``lines[line]``, bit 2 * lane + bin.
    start_out : bins of the start output.
    probe : one bit per slot.
    clock_locked, external_reference : present state of the clocks.
    reference_lost, lock_lost, phase_slipped : one-clock (or longer) reports that latch an alarm.
    armed, running : for lamps, and for a simulation that wants to know whether time matters.
    """

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    hits: In(Hits)
    start_bins: In(LINE_BINS)
    lines: Out(Lines)
    start_out: Out(LINE_BINS)
    probe: Out(SLOTS_PER_WORD)
    clock_locked: In(1)
    external_reference: In(1)
    reference_lost: In(1)
    lock_lost: In(1)
    phase_slipped: In(1)
    armed: Out(1)
    running: Out(1)
