"""The register map: each register is a small documented value from which gateware, host table and document are made.

The address space has 2^14 words of 32 bits. A register wider than 32 bits takes consecutive addresses, low word first;
reading its first word holds the rest, so that a wide value is read in one piece. Windows are tables of words.

Access kinds
------------
rw
    Setting, reads back as written.
wo
    Setting that cannot be read (a key); reads as 0.
ro
    State from the hardware.
strobe
    A written 1 acts for one clock; reads as 0.
w1c
    Latched state, cleared by writing 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .choice import SETTINGS
from .entropy import KEY_PLACES, PROPORTION_CUTOFF, PROPORTION_WINDOW, REPETITION_CUTOFF
from .records import RecordKind
from .status import Alarm, State, bit_list
from .tdc import GROUP_TAPS, TAPS

__all__ = [
    "ADDRESS_BITS",
    "DETECTORS",
    "FINE_DELAY_TAPS",
    "FINE_DELAY_TAP_PS",
    "FINE_SOURCES",
    "GROUPS",
    "LAG_SLOTS",
    "LINES",
    "OUTCOMES",
    "REFERENCE_BINS",
    "REFERENCE_MODES",
    "SEGMENT_KINDS",
    "Access",
    "Group",
    "Register",
    "register",
    "registers",
]

ADDRESS_BITS = 14
LINES = 8
"""Output lines of a station."""
DETECTORS = 4
"""Detector inputs of a station."""
OUTCOMES = 16
"""Codes of the success table; 0 is no success."""
SEGMENT_KINDS = ("reference", "guard", "quantum", "idle")
"""Kinds of frame segment, in the order of their two-bit code."""

Access = Literal["rw", "wo", "ro", "strobe", "w1c"]


@dataclass(frozen=True)
class Register:
    """One register: its name inside the group, width in bits, access, meaning and reset value."""

    name: str
    width: int
    access: Access
    doc: str
    reset: int = 0
    unit: str = ""
    maximum: int | None = None
    """Largest sensible value; None where every value of `width` bits is allowed."""


@dataclass(frozen=True)
class Group:
    """Registers of one gateware block, at consecutive addresses from `base`."""

    name: str
    base: int
    doc: str
    registers: tuple[Register, ...]
    stored: bool = False
    """All registers are read-only and stand in a memory of the block, which is asked for them word by word."""

    def addressed(self) -> Iterator[tuple[int, Register]]:
        """Each register with the address of its first word."""
        address = self.base
        for register in self.registers:
            yield address, register
            address += -(-register.width // 32)

    @property
    def words(self) -> int:
        """Number of addresses taken."""
        return sum(-(-register.width // 32) for register in self.registers)

    @property
    def depth(self) -> int:
        """Power of two that covers the addresses."""
        return 1 << (self.words - 1).bit_length()


def _per_detector(name: str, width: int, access: Access, doc: str, reset: int = 0, unit: str = "") -> list[Register]:
    return [Register(f"{name}_{i}", width, access, f"detector {i}: {doc}", reset, unit) for i in range(DETECTORS)]


_KINDS = [kind.name.lower() for kind in RecordKind]

SYSTEM = Group(
    "system",
    0x100,
    "Commands, latched alarms and state of the station",
    (
        Register("arm", 1, "strobe", "wait for a start; refused without a fresh nonce where a keystream is enabled"),
        Register("disarm", 1, "strobe", "stop the slot counter and put the lines in their idle level"),
        Register("start", 1, "strobe", "send a pulse on the start output; start at once where start_source is command"),
        Register("latch_counters", 1, "strobe", "copy all counters to their readable copies at the same instant"),
        Register("clear_counters", 1, "strobe", "set all counters to zero; also done by arm"),
        Register(
            "alarms",
            16,
            "w1c",
            f"{bit_list(Alarm)}; entropy test failed: or external bits missing; choices before keystream: or after it "
            "was stopped; key not made: source not healthy, no free place, recording, or on_board not set",
        ),
        Register(
            "state",
            16,
            "ro",
            f"{bit_list(State)}; finished: the run's length is reached",
        ),
        Register("scratch", 32, "rw", "free for link tests"),
        Register("uptime", 48, "ro", "words since the clock started", unit="word"),
    ),
)

TIMEBASE = Group(
    "timebase",
    0x120,
    "The slot counter and its start",
    (
        Register("start_source", 1, "rw", "0: the start command, 1: the start input"),
        Register("start_slot", 48, "rw", "slot index at the start; a multiple of 8", unit="slot"),
        Register("length", 48, "rw", "slots to run, a multiple of 4; 0 runs until disarm", unit="slot"),
        Register(
            "sync_period", 32, "rw", "expected distance of start-input edges while running; 0: unchecked", unit="word"
        ),
        Register("start_place", 3, "ro", "bin 0..7 of the word in which the start edge was seen", unit="bin"),
        Register("slot_now", 48, "ro", "slot index of the first slot of the present word", unit="slot"),
        Register("sync_edges", 32, "ro", "start-input edges seen while running"),
        Register("sync_slips", 32, "ro", "of these, edges not at their expected word and bin"),
    ),
)

SEQUENCER = Group(
    "sequencer",
    0x130,
    "Frames of segments and the step list of segments that are not quantum",
    (
        Register("segments", 4, "rw", "segments in a frame, 1..8", reset=1, maximum=8),
        Register("steps", 7, "rw", "entries of the step list in use, 1..64", reset=1, maximum=64),
        Register("step_words", 16, "rw", "duration of one step", reset=1, unit="word"),
    ),
)

KEYSTREAM = Group(
    "keystream",
    0x140,
    "AES-256 counter mode: the random choices",
    (
        Register("enable", 1, "rw", "the station draws choices; arming then needs a key and a fresh nonce"),
        Register("load", 1, "strobe", "expand the key in the key window; about 100 words"),
        Register("nonce", 64, "rw", "run nonce; must rise from run to run under one key"),
        Register("stream", 16, "rw", "stream number"),
        *(
            Register(
                f"threshold_{k}",
                13,
                "rw",
                f"smallest threshold draw that gives setting {k} or higher; 4096: never",
                reset=4096,
                maximum=4096,
            )
            for k in range(1, SETTINGS)
        ),
    ),
)

ENTROPY = Group(
    "entropy",
    0x3C0,
    "Noise source, health tests (NIST SP 800-90B 4.4; always at work), keys made on board",
    (
        Register("sample_words", 16, "rw", "a raw sample every so many words; 0: 65536, 1: 2", reset=4096, unit="word"),
        Register("repetition_cutoff", 10, "rw", "equal samples in a row that fail the source", reset=REPETITION_CUTOFF),
        Register(
            "proportion_cutoff",
            11,
            "rw",
            f"samples equal to the first of {PROPORTION_WINDOW} that fail the source",
            reset=PROPORTION_CUTOFF,
            maximum=PROPORTION_WINDOW,
        ),
        Register(
            "required", 1, "rw", "choices need a healthy source: arming is refused, or drawing stops, where it is not"
        ),
        Register("restart", 1, "strobe", "forget failures and begin the start-up test anew"),
        Register(
            "health",
            4,
            "ro",
            "bit 0 there is a source, 1 healthy (start-up test passed, nothing failed since), 2 repetition count test "
            "failed, 3 adaptive proportion test failed",
        ),
        Register("samples", 48, "ro", "raw samples tested since restart"),
        Register("failed_at", 48, "ro", "number of the sample with which a test first failed since restart; 0: none"),
        Register("longest_run", 10, "ro", "most equal samples in a row since restart, up to 1023"),
        Register("largest_count", 11, "ro", "most samples equal to the first of their window since restart"),
        Register(
            "stopped_slot",
            48,
            "ro",
            "after an alarm 'choices used before the keystream was ready': first slot of the run that was not drawn, "
            "rounded down to its word; from there on setting and phase are 0 and marked not drawn",
            unit="slot",
        ),
        Register(
            "on_board",
            1,
            "rw",
            "0: the keystream's key comes from the host, 1: it is made here and never leaves; arming needs a key of "
            "that kind, and a healthy source if it is made here",
        ),
        Register("make", 1, "strobe", "make a key at a free place and go over to it, in a run without losing a slot"),
        Register("reseed_words", 40, "rw", "make a key every so many words of a run; 0: never", unit="word"),
        Register(
            "erase",
            KEY_PLACES,
            "strobe",
            "erase the keys at the places of this mask; not the key in use while armed or running",
        ),
        Register("keys", KEY_PLACES, "ro", "mask of places that hold a key"),
        Register("key_place", 3, "ro", "place of the key in use"),
        Register("key_number", 32, "ro", "keys made since power-up; that of the key in use"),
        Register(
            "key_state",
            3,
            "ro",
            "bit 0 a key is being made, 1 the keystream's key was made here, 2 the last erase named the key in use of "
            "a station that was armed or running, and left it",
        ),
        Register("regenerate_place", 2, "rw", "place of the key to ask"),
        Register("regenerate_nonce", 64, "rw", "run nonce of the slots asked for"),
        Register("regenerate_stream", 16, "rw", "stream number of the slots asked for"),
        Register("regenerate_base", 48, "rw", "slot to which the window offsets adds", unit="slot"),
        Register("regenerate", 9, "strobe", "draw so many slots of the window offsets again, at most 256"),
        Register("answered", 9, "ro", "entries of the window draws that are answered"),
        Register("record", 1, "rw", "write raw samples to the window raw; no key is made meanwhile"),
        Register("raw_words", 32, "ro", "words written to the window raw since record rose"),
    ),
)

EXTERNAL = Group(
    "external",
    0x3F0,
    "Key bits from outside (a quantum random number generator), kept on board until they are asked for",
    (
        Register(
            "enable",
            1,
            "rw",
            "bit 3 of the phase of every drawn slot comes from the input; where bits are missing, choices stop until "
            "the next arm",
        ),
        Register("base", 48, "rw", "slot to which the window offsets adds", unit="slot"),
        Register("ask", 9, "strobe", "look up so many slots of the window offsets, at most 256"),
        Register("answered", 9, "ro", "entries of the window external that are answered"),
        Register(
            "lookback",
            24,
            "ro",
            "slots of the run that are kept, the last ones (all bits 1: so many or more); 0: no such input, or its "
            "memory is not ready",
            unit="slot",
        ),
        Register("failed", 1, "ro", "bits were missing in a slot to be drawn, since arm"),
    ),
)

LINE_MODES = ("normal", "low", "high", "square", "pulse")
PROBES = ("low", "frame", "slot0", "running", "success", "detector_hit", "detector_click", "quantum")

MODULATOR = Group(
    "modulator",
    0x160,
    "Output lines",
    (
        Register("enable", 1, "rw", "lines follow the table while running; otherwise their idle level"),
        *(
            r
            for i in range(LINES)
            for r in (
                Register(f"delay_{i}", 8, "rw", f"line {i}: delay", unit="slot"),
                Register(f"invert_{i}", 1, "rw", f"line {i}: active low"),
                Register(f"idle_{i}", 1, "rw", f"line {i}: level when disarmed; pins are low until the clocks run"),
                Register(f"mode_{i}", 3, "rw", f"line {i}: " + ", ".join(f"{n} {m}" for n, m in enumerate(LINE_MODES))),
            )
        ),
        Register(
            "pattern_slots",
            16,
            "rw",
            "period of the test patterns in slots, a multiple of 4; square is high for the first half of the period "
            "(rounded down to a slot), pulse for the first bin",
            reset=4,
            unit="slot",
        ),
        Register("probe", 3, "rw", "probe output: " + ", ".join(f"{n} {m}" for n, m in enumerate(PROBES))),
        Register("probe_detector", 4, "rw", "detector shown by the probe"),
        Register("probe_period", 32, "rw", "period of the slot0 probe", reset=1024, unit="word"),
    ),
)

AUDIT_WORDS = 256
AUDIT = Group(
    "audit",
    0x1A0,
    "Capture of choices and line states of a run of slots",
    (
        Register("first_slot", 48, "rw", "first slot to capture, a multiple of 4", unit="slot"),
        Register("arm", 1, "strobe", f"capture {4 * AUDIT_WORDS} slots from first_slot on"),
    ),
)

RECEIVER = Group(
    "receiver",
    0x1B0,
    "Detector inputs, gates and dead times",
    (
        Register("enable", 1, "rw", "detector inputs are processed while running"),
        Register("windows", 1, "rw", "click pattern: 0 one bit per detector, 1 early and late bit per detector"),
        Register("live_mask", DETECTORS, "rw", "detectors that must all be live for a slot to count", reset=0xF),
        Register(
            "blank",
            4,
            "rw",
            "segment kinds (bit per kind) in which clicks are blanked; reference counters ignore the bit of reference",
            reset=0b1010,
        ),
        Register("rate_words", 32, "rw", "interval of the rate meter", reset=7_613_000, unit="word"),
        Register("pulser_period", 32, "rw", "test pulser: one hit every so many words; 0: off", unit="word"),
        Register("pulser_mask", DETECTORS, "rw", "test pulser: detectors to hit"),
        Register("pulser_lane", 2, "rw", "test pulser: slot of the word"),
        Register("pulser_fine", 8, "rw", "test pulser: position in the slot", unit="fine"),
        *_per_detector("enable", 1, "rw", "input in use", reset=1),
        *_per_detector("invert", 1, "rw", "input is active low: its falling edge is the hit"),
        *_per_detector("delay_slots", 12, "rw", "delay added to each hit", unit="slot"),
        *_per_detector("delay_fine", 8, "rw", "delay added to each hit", unit="fine"),
        *_per_detector("dead_slots", 16, "rw", "slots that are blind after the slot of a hit", unit="slot"),
        *_per_detector("gate_start", 8, "rw", "first fine of the (early) gate", unit="fine"),
        *_per_detector("gate_width", 9, "rw", "fines in the (early) gate, 256: whole slot", reset=256, unit="fine"),
        *_per_detector("late_start", 8, "rw", "first fine of the late gate", unit="fine"),
        *_per_detector("late_width", 9, "rw", "fines in the late gate, 0: none", unit="fine"),
        *_per_detector("rate", 32, "ro", "hits in the last full rate interval, run or no run"),
    ),
)

COUNTERS = Group(
    "counters",
    0x200,
    "Counters; readable copies, refreshed by system.latch_counters",
    (
        Register("slots", 48, "ro", "slots in which clicks count (running, not blanked)", unit="slot"),
        Register("live_slots", 48, "ro", "of these, slots in which all detectors of live_mask were live", unit="slot"),
        *_per_detector("singles", 48, "ro", "hits after the delay, in any segment while running"),
        *_per_detector("dead", 48, "ro", "of these, hits lost to the dead time or to an earlier hit in the slot"),
        *_per_detector("gated_out", 48, "ro", "of these, live hits outside the gate or in a blanked segment"),
        *_per_detector("clicks", 48, "ro", "of these, gated clicks"),
        Register("doubles", 48, "ro", "slots with more than one click bit in their pattern"),
        Register("vetoed", 48, "ro", "slots that would be a success but had a detector of live_mask blind"),
        *(Register(f"outcome_{k}", 48, "ro", f"successes with outcome {k}") for k in range(1, OUTCOMES)),
    ),
    stored=True,
)

FRAME_MODES = ("off", "all", "with_success")
EVENTS = Group(
    "events",
    0x280,
    "Records to the host",
    (
        *(Register(f"enable_{k}", 1, "rw", f"send {k} records", int(k in ("gap", "status", "key"))) for k in _KINDS),
        Register("frame_mode", 2, "rw", "frame records: " + ", ".join(f"{n} {m}" for n, m in enumerate(FRAME_MODES))),
        Register(
            "status_words",
            32,
            "rw",
            "a status record every so many words and at each alarm; 0: alarms only",
            unit="word",
        ),
        Register("hold_words", 16, "rw", "longest wait of a record for company in its packet", reset=1024, unit="word"),
        *(Register(f"fill_{kind}", 16, "ro", f"{kind} FIFO: records or words of records waiting") for kind in _KINDS),
        *(Register(f"high_water_{kind}", 16, "ro", f"{kind} FIFO: largest fill since arm") for kind in _KINDS),
        *(Register(f"dropped_{kind}", 48, "ro", f"{kind} records dropped since arm") for kind in _KINDS),
        *(Register(f"sent_{k}", 32, "ro", f"{k} records put in packets since arm, modulo 2^32") for k in _KINDS),
        Register("clicks_beyond_four", 48, "ro", "clicks beyond four in a word since arm: counted, never recorded"),
    ),
)

REFERENCE_MODES = ("off", "all", "with_success", "sum")
REFERENCE_BINS = 16
REFERENCE = Group(
    "reference",
    0x2D0,
    "Clicks of the reference segments by detector and step, whether or not receiver.blank names these segments",
    (
        Register("mode", 2, "rw", "reference records: " + ", ".join(f"{n} {m}" for n, m in enumerate(REFERENCE_MODES))),
        Register("bins", 5, "rw", "bins sent: phases 0 .. bins - 1 of the step list", 4, maximum=REFERENCE_BINS),
        Register("sum_frames", 16, "rw", "frames that mode sum adds up for one set of records", 1, "frame"),
        Register("missed", 32, "ro", "sets of records lost since arm because the set before was still being sent"),
    ),
)

LAG_SLOTS = 512
"""Longest distance of two clicks in the slot-lag histogram."""
FINE_SOURCES = ("hits", "clicks")
HISTOGRAMS = Group(
    "histograms",
    0x300,
    "Histograms by place in the slot (window fine_counts) and by distance in slots (window lag_counts); windows and "
    "read-only registers tell of the words before the last swap, from the swap or clear before it on",
    (
        Register("enable_fine", 1, "rw", "count hits by fine"),
        Register("fine_source", 1, "rw", "count 0: hits after the delay, in any segment; 1: gated clicks"),
        Register("enable_lag", 1, "rw", "count pairs of gated clicks by distance"),
        Register("lag_a", 2, "rw", "detector a; lag = slot of b - slot of a"),
        Register("lag_b", 2, "rw", "detector b; may be a"),
        Register("swap", 1, "strobe", "show what was counted and count from zero from one word on; ignored while busy"),
        Register("busy", 1, "ro", "a swap or clear is at work, 15 us or up to 13 ms while pairs wait: do not read yet"),
        Register("swaps", 32, "ro", "swaps since the last clear; clear_counters and arm clear all, the windows too"),
        Register("words", 48, "ro", "words of runs, any segment", unit="word"),
        Register("counted_words", 48, "ro", "of these, words in which clicks count", unit="word"),
        Register("live_slots", 48, "ro", "slots of these in which all detectors of live_mask were live", unit="slot"),
        Register("clicks_a", 40, "ro", "clicks of a among the pairs"),
        Register("clicks_b", 40, "ro", "clicks of b among the pairs"),
        Register("coincidences", 40, "ro", "pairs at lag 0: slots in which a and b click; all clicks where b is a"),
        Register("lost_a", 40, "ro", "clicks of a that found the queue of pairs full: in no pair, not in clicks_a"),
        Register("lost_b", 40, "ro", "clicks of b that found the queue of pairs full: in no pair, not in clicks_b"),
        Register("lost_fine", 40, "ro", "hits that found the queue of their detector full: not in fine_counts"),
        Register("high_water", 10, "ro", "most words waiting in the queue of pairs since the last clear", unit="word"),
    ),
)

LINK = Group(
    "link",
    0x2C0,
    "Packets",
    (
        Register("received", 32, "ro", "sound packets received"),
        Register("damaged", 32, "ro", "frames with a bad checksum, bad stuffing or too few bytes"),
        Register("overlong", 32, "ro", "frames of more than 254 bytes"),
        Register("refused", 32, "ro", "sound packets answered with ERROR"),
        Register("sent", 32, "ro", "packets sent, answers and events"),
        Register("framing_errors", 32, "ro", "bytes without a stop bit at the serial port: noise, or a wrong rate"),
        Register("overruns", 32, "ro", "bytes that found the receive buffer of the serial port full"),
    ),
)

TDC = Group(
    "tdc",
    0x340,
    "Time-to-digital converters of detectors with a carry chain (bit mask `chains` of the identity)",
    (
        *_per_detector("oscillator", 1, "rw", "chain takes the oscillator on the die, for code density, not the pad"),
        *_per_detector(
            "high_from", 7, "rw", "first group of 8 taps older than the capture before, if that was high", 1
        ),
        *_per_detector(
            "low_from",
            7,
            "rw",
            "first group of 8 taps older than the capture before, if that was low",
            TAPS // GROUP_TAPS,
        ),
        Register("detector", 2, "rw", "detector whose codes are counted"),
        Register("run", 1, "rw", "count codes, one per word at most; the window tdc_codes can be read while this is 0"),
        Register("clear", 1, "strobe", "set all code counts to zero; takes 512 words"),
        Register("busy", 1, "ro", "code counts are being set to zero"),
        *_per_detector("extra", 32, "ro", "edges closer than two slots to another, counted only, since clear_counters"),
    ),
)

FINE_DELAY_TAPS = 128
FINE_DELAY_TAP_PS = 25
"""Nominal step of the ECP5's delay element (Lattice FPGA-DS-02012); it varies with process, voltage and temperature."""
FINE_DELAY = Group(
    "fine_delay",
    0x380,
    "Delay elements in the pins of the lines (capability FINE_DELAY of the identity), beside modulator.delay_<i>",
    (
        *(
            Register(f"taps_{i}", 7, "rw", f"line {i}: taps, nominally {FINE_DELAY_TAP_PS} ps each", unit="tap")
            for i in range(LINES)
        ),
        Register("home", 1, "strobe", "all elements return to 0 taps and step to their settings again"),
        Register("moving", 1, "ro", "an element is not at its setting yet, or moved in the last 4 us"),
    ),
)

GROUPS: tuple[Group, ...] = (
    SYSTEM,
    TIMEBASE,
    SEQUENCER,
    KEYSTREAM,
    ENTROPY,
    EXTERNAL,
    MODULATOR,
    AUDIT,
    RECEIVER,
    COUNTERS,
    EVENTS,
    LINK,
    REFERENCE,
    HISTOGRAMS,
    TDC,
    FINE_DELAY,
)

_BY_NAME: dict[str, tuple[int, Register]] = {
    f"{group.name}.{register.name}": (address, register) for group in GROUPS for address, register in group.addressed()
}


def registers() -> dict[str, tuple[int, Register]]:
    """All registers as ``"group.register"`` -> (address, register)."""
    return dict(_BY_NAME)


def register(name: str) -> tuple[int, Register]:
    """Address and description of ``"group.register"``. Raises KeyError with near matches."""
    try:
        return _BY_NAME[name]
    except KeyError:
        from difflib import get_close_matches

        near = ", ".join(get_close_matches(name, _BY_NAME)) or "see `qrelay info --registers`"
        raise KeyError(f"no register {name!r}; did you mean: {near}") from None
