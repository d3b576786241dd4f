"""Shapes that the blocks of a station share, made from `qrelay.protocol`."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.bit_fields import BitFields
from qrelay.protocol.choice import PHASE_BITS, SETTING_BITS
from qrelay.protocol.registers import DETECTORS, GROUPS, LINES, SEGMENT_KINDS
from qrelay.protocol.units import BINS_PER_SLOT, SLOT_WORD_BITS, SLOTS_PER_WORD
from qrelay.protocol.windows import WINDOWS

__all__ = [
    "LINE_BINS",
    "Choice",
    "Choices",
    "Hit",
    "Hits",
    "Lines",
    "Segment",
    "Tick",
    "WordHits",
    "WordRecords",
    "bit_layout",
    "config_layout",
    "status_layout",
    "stored_read",
    "table_write",
]

LINE_BINS = SLOTS_PER_WORD * BINS_PER_SLOT
"""Bins of one output line in one word."""

Segment = enum.Enum("Segment", {name.upper(): code for code, name in enumerate(SEGMENT_KINDS)})


class Tick(data.Struct):
    """Where a word stands in the run: its slot index / 4, its frame and its segment (constant inside a word)."""

    running: 1
    slot_word: SLOT_WORD_BITS
    segment: 2
    setting: SETTING_BITS
    """Setting of the step list, for segments that are not quantum."""
    phase: PHASE_BITS
    """Phase of the step list, for segments that are not quantum."""
    frame: 32
    frame_last: 1
    """The last word of its frame."""


class Choice(data.Struct):
    """What a sender does in one slot; `drawn` where it came from the keystream, not from the step list."""

    setting: SETTING_BITS
    phase: PHASE_BITS
    drawn: 1


class Hit(data.Struct):
    """At most one detector edge in a slot and its place in the slot, in 1/256 slot."""

    valid: 1
    fine: 8


class WordRecords(data.Struct):
    """Up to four records of one word. An item is 2 bits lane (slot index mod 4) and 12 bits of its own."""

    slot_word: SLOT_WORD_BITS
    valid: SLOTS_PER_WORD
    items: data.ArrayLayout(data.StructLayout({"lane": 2, "low": 8, "high": 4}), SLOTS_PER_WORD)
    """`low` and `high`: pattern and outcome of a success; fine and detector index of a click."""


Choices = data.ArrayLayout(Choice, SLOTS_PER_WORD)
WordHits = data.ArrayLayout(Hit, SLOTS_PER_WORD)
"""Hits of one detector in one word, by lane."""
Hits = data.ArrayLayout(WordHits, DETECTORS)
"""hits[detector][lane]"""
Lines = data.ArrayLayout(unsigned(LINE_BINS), LINES)
"""lines[line]: bit 2 * lane + bin, earliest first."""


def _group(name):
    return next(group for group in GROUPS if group.name == name)


def config_layout(group: str) -> data.StructLayout:
    """What the register bank gives a block: settings, one-clock strobes and latched (w1c) state, by register name."""
    return data.StructLayout({r.name: unsigned(r.width) for r in _group(group).registers if r.access != "ro"})


def status_layout(group: str) -> data.StructLayout:
    """What a block gives the register bank: read-only state, and bits that set latched state, by register name."""
    return data.StructLayout({r.name: unsigned(r.width) for r in _group(group).registers if r.access in ("ro", "w1c")})


def bit_layout(word: BitFields) -> data.StructLayout:
    """Layout of a word of named bit fields."""
    return data.StructLayout({field.name: field.width for field in word.fields})


def stored_read(depth: int) -> wiring.Signature:
    """Reads of a block's memory: `value` is what stood at `address` two clocks before."""
    return wiring.Signature({"address": Out(range(depth)), "value": In(32)})


def table_write(window: str) -> wiring.Member:
    """Port of a block whose table is window `window`: in a clock with `enable`, entry `address` takes `value`."""
    w = next(w for w in WINDOWS if w.name == window)
    return In(wiring.Signature({"address": Out(range(w.depth)), "value": Out(unsigned(w.width)), "enable": Out(1)}))
