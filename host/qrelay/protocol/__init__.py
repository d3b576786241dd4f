"""The ground floor: everything that gateware and host must agree on, defined once. Pure Python, no dependency.

`PROTOCOL_HASH` changes with any change of a record, register, window, bit field of a table, packet kind, alarm, state
bit, identity value or of the choice word; a host refuses a station whose hash differs.
"""

import hashlib

from . import choice, entropy, identity, packets, records, registers, status, units, windows
from .bit_fields import BitFields

__all__ = [
    "PROTOCOL_HASH",
    "choice",
    "entropy",
    "identity",
    "packets",
    "records",
    "registers",
    "status",
    "units",
    "windows",
]


def _widths(word: BitFields) -> list[tuple[str, int]]:
    return [(field.name, field.width) for field in word.fields]


def _protocol_hash() -> int:
    parts: list[object] = [
        [(k.name, int(k)) for k in records.RecordKind],
        [_widths(record) for record in records.RECORDS.values()],
        [
            (group.name, address, r.name, r.width, r.access, r.reset)
            for group in registers.GROUPS
            for address, r in group.addressed()
        ],
        [(w.name, w.base, w.depth, w.width, w.access, _widths(w.entry), _widths(w.index)) for w in windows.WINDOWS],
        _widths(windows.AUDIT_CHOICE),
        [(k.name, int(k)) for k in packets.PacketKind] + [(e.name, int(e)) for e in packets.ErrorCode],
        [packets.EVENT_BASE, packets.MAX_PACKET_BYTES, packets.MAX_RECORDS, packets.MAX_WORDS],
        [choice.PHASE_BITS, choice.SETTING_BITS, choice.THRESHOLD_BITS, choice.counter_block(1, 2, 3).hex()],
        [units.SLOTS_PER_WORD, units.SLOTS_PER_BLOCK, units.BINS_PER_SLOT, units.FINES_PER_SLOT, units.SLOT_BITS],
        [registers.SEGMENT_KINDS, registers.LINE_MODES, registers.PROBES, registers.FRAME_MODES],
        [registers.REFERENCE_MODES, registers.REFERENCE_BINS],
        [(flag.name, int(flag)) for flags in (status.Alarm, status.State) for flag in flags],
        [identity._LAYOUT.format, identity.MAGIC],
        [(e.name, int(e)) for kind in (identity.Phy, identity.Entropy, identity.Capability) for e in kind],
    ]
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "little")


PROTOCOL_HASH = _protocol_hash()
"""64-bit fingerprint of the protocol."""
