"""What must be true of the event stream: every record of an enabled kind is sent once, in order, or covered by a gap.

Which records find their queue full depends on how fast the link is, so the model is an account, not a prediction: it
takes all records that were offered and checks everything that came out against them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from qrelay.protocol.packets import EVENT_BASE, MAX_RECORDS
from qrelay.protocol.records import RECORDS, RecordKind

__all__ = ["EventAccount", "click_records", "success_records"]

_FIRST_SLOT_SHIFT = 16


def _word_records(
    kind: RecordKind, fields: tuple[str, str], word: tuple[int, Sequence[tuple[int, int, int] | None], int]
) -> list[int]:
    slot_word, items, flags = word
    low, high = fields
    return [
        RECORDS[kind].pack({"slot": 4 * slot_word + item[0], low: item[1], high: item[2], "flags": flags})
        for item in items
        if item is not None
    ]


def success_records(slot_word: int, items: Sequence[tuple[int, int, int] | None], flags: int = 0) -> list[int]:
    """Records of a word: items are (lane, pattern, outcome) or None where not valid."""
    return _word_records(RecordKind.SUCCESS, ("pattern", "outcome"), (slot_word, items, flags))


def click_records(slot_word: int, items: Sequence[tuple[int, int, int] | None], flags: int = 0) -> list[int]:
    """Records of a word: items are (lane, fine, detector) or None where not valid."""
    return _word_records(RecordKind.CLICK, ("fine", "detector"), (slot_word, items, flags))


@dataclass
class EventAccount:
    """Collects event packets since arm and balances them against the records offered.

    `packet` takes packets in the order of the wire and checks their headers; `check` balances the books.
    """

    sequence: int = 0
    received: dict[RecordKind, list[int]] = field(default_factory=lambda: {kind: [] for kind in RecordKind})

    def packet(self, payload: bytes) -> RecordKind:
        """Take one event packet (kind, sequence, body; without CRC). Raises AssertionError if its header is wrong."""
        kind = RecordKind(payload[0] - EVENT_BASE)
        count, odd = divmod(len(payload) - 6, 8)
        assert not odd, f"{kind.name}: packet of {len(payload)} bytes holds no whole number of records"
        assert 1 <= count <= MAX_RECORDS, f"{kind.name}: packet of {count} records"
        assert payload[1] == self.sequence, f"{kind.name}: sequence number {payload[1]}, expected {self.sequence}"
        running = int.from_bytes(payload[2:6], "little")
        expected = len(self.received[kind])
        assert running == expected, f"{kind.name}: running count {running}, expected {expected}"
        self.sequence = (self.sequence + 1) & 0xFF
        self.received[kind] += [int.from_bytes(payload[6 + 8 * n : 14 + 8 * n], "little") for n in range(count)]
        return kind

    def gaps(self, kind: RecordKind) -> list[tuple[int, int]]:
        """(first slot / 65536, records dropped) of each gap record about `kind`."""
        records = [RECORDS[RecordKind.GAP].unpack(word) for word in self.received[RecordKind.GAP]]
        return [(r["first_slot_hi"], r["dropped"]) for r in records if r["kind"] == kind]

    def check(self, kind: RecordKind, offered: Sequence[int], dropped: int, *, has_slot: bool = True) -> None:
        """Balance one kind after all its records have left. Raises AssertionError naming what does not agree.

        Parameters
        ----------
        offered : sequence of int
            All records of the kind, in order.
        dropped : int
            The station's drop counter.
        has_slot : bool
            Records start with their slot, so that gap records can be placed.
        """
        received = self.received[kind]
        assert len(received) + dropped == len(offered), (
            f"{kind.name}: {len(received)} sent + {dropped} dropped of {len(offered)} offered"
        )
        missing = []
        place = 0
        for record in received:
            start = place
            while place < len(offered) and offered[place] != record:
                place += 1
            assert place < len(offered), f"{kind.name}: {record:#018x} is out of order, sent twice or was never offered"
            missing += list(offered[start:place])
            place += 1
        missing += list(offered[place:])
        gaps = self.gaps(kind)
        assert sum(count for _, count in gaps) == dropped, (
            f"{kind.name}: gap records account for {sum(count for _, count in gaps)} of {dropped} dropped"
        )
        if has_slot:
            first = 0
            slot_mask = (1 << 48) - 1
            for first_slot_hi, count in gaps:
                expected = (missing[first] & slot_mask) >> _FIRST_SLOT_SHIFT
                assert first_slot_hi == expected, f"{kind.name}: gap starts at {first_slot_hi}, expected {expected}"
                first += count
