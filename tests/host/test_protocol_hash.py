"""Whatever gateware and host must agree on changes the protocol hash."""

from dataclasses import replace

import pytest

from qrelay import protocol
from qrelay.protocol import choice, records, registers, units, windows
from qrelay.protocol.bit_fields import BitFields


def _wider(word: BitFields) -> BitFields:
    return replace(word, fields=(replace(word.fields[0], width=word.fields[0].width + 1), *word.fields[1:]))


def _with_window(name, **changes):
    return tuple(replace(w, **changes) if w.name == name else w for w in windows.WINDOWS)


def _with_register(**changes):
    first, *others = registers.GROUPS
    return (replace(first, registers=(replace(first.registers[0], **changes), *first.registers[1:])), *others)


CHANGES = {
    "entry of a table": (windows, "WINDOWS", _with_window("steps", entry=_wider(windows.window("steps").entry))),
    "index of a table": (windows, "WINDOWS", _with_window("lines", index=_wider(windows.window("lines").index))),
    "depth of a table": (windows, "WINDOWS", _with_window("lines", depth=256)),
    "audited choice": (windows, "AUDIT_CHOICE", _wider(windows.AUDIT_CHOICE)),
    "name of a register": (registers, "GROUPS", _with_register(name="other")),
    "reset of a register": (registers, "GROUPS", _with_register(reset=77)),
    "segment kinds": (registers, "SEGMENT_KINDS", registers.SEGMENT_KINDS[::-1]),
    "order of a record": (
        records,
        "RECORDS",
        {kind: replace(record, fields=record.fields[::-1]) for kind, record in records.RECORDS.items()},
    ),
    "bits of a phase": (choice, "PHASE_BITS", choice.PHASE_BITS + 1),
    "bins of a slot": (units, "BINS_PER_SLOT", units.BINS_PER_SLOT + 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_the_protocol_changes_its_hash(monkeypatch, what):
    module, name, value = CHANGES[what]
    assert value != getattr(module, name)
    monkeypatch.setattr(module, name, value)
    assert protocol._protocol_hash() != protocol.PROTOCOL_HASH


def test_words_of_meaning_do_not_change_the_hash(monkeypatch):
    monkeypatch.setattr(windows, "WINDOWS", _with_window("steps", doc="the same in other words"))
    assert protocol._protocol_hash() == protocol.PROTOCOL_HASH
