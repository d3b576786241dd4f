"""The windows of the register map: tables of words, and what the bits of their entries and indices are."""

from dataclasses import dataclass
from typing import Literal

from .bit_fields import BitFields, Field
from .choice import DRAW_BITS, PHASE_BITS, SETTING_BITS
from .registers import ADDRESS_BITS, AUDIT_WORDS, DETECTORS, GROUPS, LAG_SLOTS, LINES, SEGMENT_KINDS
from .tdc import CODE_BITS, HISTOGRAM_BITS
from .units import BINS_PER_SLOT, FINES_PER_SLOT

__all__ = ["AUDIT_CHOICE", "WINDOWS", "Window", "window"]


_NUMBER = BitFields("number", ())


@dataclass(frozen=True)
class Window:
    """A table of `depth` entries of up to 32 bits at consecutive addresses."""

    name: str
    base: int
    depth: int
    width: int
    access: Literal["rw", "wo", "ro"]
    doc: str
    entry: BitFields = _NUMBER
    """What the bits of an entry are; none where an entry is one number."""
    index: BitFields = _NUMBER
    """What the bits of an entry's place are; none where entries are numbered."""


def _entry(*fields: Field) -> BitFields:
    return BitFields("table entry", fields)


def _index(*fields: Field) -> BitFields:
    return BitFields("table index", fields)


_SETTING = Field("setting", SETTING_BITS, "setting")
_PHASE = Field("phase", PHASE_BITS, "phase index")
_SEGMENT = Field("kind", 2, f"kind of segment: {', '.join(f'{n} {kind}' for n, kind in enumerate(SEGMENT_KINDS))}")
_DETECTOR = Field("detector", 2, "detector")

AUDIT_CHOICE = BitFields("audited choice", (_SETTING, _PHASE, Field("drawn", 1, "1: drawn; 0: of the step list")))
"""A slot's choice in the audit memory, in 16 bits there."""


WINDOWS: tuple[Window, ...] = (
    Window("identity", 0x000, 64, 32, "ro", "who and what this station is (identity.py)"),
    Window(
        "segments",
        0x400,
        8,
        32,
        "rw",
        "segment table",
        entry=_entry(_SEGMENT, Field("words", 24, "length in words of four slots")),
    ),
    Window("steps", 0x440, 64, 7, "rw", "step list", entry=_entry(_SETTING, _PHASE)),
    Window("key", 0x480, 8, 32, "wo", "AES-256 key, little-endian words of its 32 bytes"),
    Window("offsets", 0x3000, 256, 32, "wo", "slots to ask for, counted from entropy.regenerate_base or external.base"),
    Window(
        "draws",
        0x3100,
        256,
        17,
        "ro",
        "answers to entropy.regenerate",
        entry=_entry(
            Field("draw", DRAW_BITS, "draw of the slot"), Field("answered", 1, "the key is there; else all bits are 0")
        ),
    ),
    Window("raw", 0x3200, 512, 32, "ro", "ring of raw samples, 32 in a word, earliest in bit 0"),
    Window(
        "fine_counts",
        0x2000,
        FINES_PER_SLOT * DETECTORS,
        32,
        "ro",
        "hits",
        index=_index(Field("fine", 8, "place in the slot, 1/256 slot"), _DETECTOR),
    ),
    Window(
        "lag_counts",
        0x2400,
        2 * LAG_SLOTS,
        32,
        "ro",
        "pairs; index n below 512: b is n + 1 slots before a (lag -n - 1); 512 + n: b is n + 1 slots after a",
    ),
    Window(
        "external",
        0x3400,
        256,
        2,
        "ro",
        "answers to external.ask",
        entry=_entry(Field("bit", 1, "key bit of the slot; 0 where it is not kept"), Field("kept", 1, "it is kept")),
    ),
    Window("success", 0x500, 256, 4, "wo", "outcome code by click pattern; 0: no success"),
    Window(
        "lines",
        0x800,
        512,
        2 * LINES,
        "wo",
        "bins of the lines",
        entry=_entry(
            *(Field(f"line_{i}", BINS_PER_SLOT, f"line {i}, first bin in the lower bit") for i in range(LINES))
        ),
        index=_index(_SEGMENT, _SETTING, _PHASE),
    ),
    Window("tdc_codes", 0x1400, 1 << CODE_BITS, HISTOGRAM_BITS, "ro", "code density: counts by code of tdc.detector"),
    Window(
        "tdc_times",
        0x1800,
        DETECTORS << CODE_BITS,
        CODE_BITS,
        "wo",
        "time of each code in fines since the capture before, 0 to 511",
        index=_index(Field("code", CODE_BITS, "code"), _DETECTOR),
    ),
    Window(
        "audit",
        0x1000,
        4 * AUDIT_WORDS,
        32,
        "ro",
        "captured words: four 32-bit words each, 16 bits per slot. 0 and 1: choices; 2 and 3: line bins, as in the "
        "lines window, as they leave for the pins",
    ),
)


def _check_layout() -> None:
    for w in WINDOWS:
        for what, bits, limit in ((w.entry, "bits", w.width), (w.index, "bits of index", (w.depth - 1).bit_length())):
            if what.width > limit:
                raise ValueError(f"window {w.name} has {limit} {bits}; its fields take {what.width}")
    taken: dict[int, str] = {}
    spans = [(g.name, g.base, g.words) for g in GROUPS] + [(w.name, w.base, w.depth) for w in WINDOWS]
    for name, base, size in spans:
        for address in range(base, base + size):
            if address in taken or address >= 1 << ADDRESS_BITS:
                other = taken.get(address, "the end of the address space")
                raise ValueError(f"{name} overlaps {other} at {address:#x}")
            taken[address] = name
    for group in GROUPS:
        if group.stored and (group.base % group.depth or any(r.access != "ro" for r in group.registers)):
            raise ValueError(
                f"group {group.name} is stored: give it read-only registers and a multiple of {group.depth} as base"
            )


_check_layout()

_WINDOWS = {window.name: window for window in WINDOWS}


def window(name: str) -> Window:
    """Description of a window. Raises KeyError naming those there are."""
    if name not in _WINDOWS:
        raise KeyError(f"no window {name!r}; there are: {', '.join(_WINDOWS)}")
    return _WINDOWS[name]
