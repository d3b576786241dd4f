"""Records that a board sends to its host: each kind has its own 64-bit layout, first field in the lowest bits."""

from dataclasses import dataclass
from enum import IntEnum

from .bit_fields import BitFields, Field
from .status import Alarm

__all__ = ["RECORDS", "RECORD_BITS", "Record", "RecordKind"]

RECORD_BITS = 64


class RecordKind(IntEnum):
    """Number of a record kind; an event packet of kind k carries records of kind k only."""

    SUCCESS = 0
    CLICK = 1
    FRAME = 2
    GAP = 3
    STATUS = 4
    REFERENCE = 5
    KEY = 6


@dataclass(frozen=True)
class Record(BitFields):
    """Layout of one 64-bit record."""

    kind: RecordKind

    def __post_init__(self) -> None:
        if self.width != RECORD_BITS:
            raise ValueError(f"{self.name} has {self.width} bits; its fields must fill {RECORD_BITS}")


def _record(kind: RecordKind, fields: tuple[Field, ...]) -> Record:
    return Record(f"record {kind.name}", fields, kind)


_SLOT = Field("slot", 48, "slot index")
_FLAGS = Field("flags", 4, "bit 0: an alarm of system.alarms was latched when the record was made; others 0")

RECORDS: dict[RecordKind, Record] = {
    record.kind: record
    for record in (
        _record(
            RecordKind.SUCCESS,
            (
                _SLOT,
                Field("pattern", 8, "click pattern of the slot, as it indexed the success table"),
                Field("outcome", 4, "outcome code of the success table, 1..15"),
                _FLAGS,
            ),
        ),
        _record(
            RecordKind.CLICK,
            (
                _SLOT,
                Field("fine", 8, "position inside the slot after the detector delay, 1/256 slot"),
                Field("detector", 4, "detector index"),
                _FLAGS,
            ),
        ),
        _record(
            RecordKind.FRAME,
            (
                Field("frame", 32, "frame number, (slot - start) / frame length, modulo 2^32"),
                Field("clicks", 16, "clicks (gated, all detectors) in the frame, saturating"),
                Field("successes", 12, "successes in the frame, saturating"),
                _FLAGS,
            ),
        ),
        _record(
            RecordKind.GAP,
            (
                Field("first_slot_hi", 32, "slot index / 65536 of the first record that was dropped"),
                Field("dropped", 28, "records dropped since the last gap record of this kind, saturating"),
                Field("kind", 4, "kind of the dropped records"),
            ),
        ),
        _record(
            RecordKind.STATUS,
            (
                Field("slot_word", 46, "slot index / 4"),
                Field("alarms", len(Alarm), "system.alarms"),
                Field("state", 6, "bits 0 to 5 of system.state"),
            ),
        ),
        _record(
            RecordKind.REFERENCE,
            (
                Field("frame", 24, "number of the (last) frame that was counted, modulo 2^24"),
                Field("bin", 4, "bin of the reference steps: phase of the receiver's step list"),
                Field("pair", 2, "detectors 2 * pair and 2 * pair + 1"),
                Field("first", 16, "clicks of detector 2 * pair in the bin; 65535: that many or more"),
                Field("second", 16, "clicks of detector 2 * pair + 1 in the bin; 65535: that many or more"),
                Field("flags", 2, "bit 0: an alarm of system.alarms was latched when the record was made; bit 1: 0"),
            ),
        ),
        _record(
            RecordKind.KEY,
            (
                Field("slot", 48, "first slot that is drawn with this key, a multiple of 8"),
                Field("place", 4, "place of the key"),
                Field("number", 12, "number of the key, counted from power-up, modulo 4096"),
            ),
        ),
    )
}
