import pytest

from qrelay.modulation import line_index, sender_lines, source_lines
from qrelay.protocol.registers import SEGMENT_KINDS


def bins(entry, line):
    return entry >> 2 * line & 3


@pytest.mark.parametrize("kind", SEGMENT_KINDS)
def test_sender_lines_say_setting_and_phase(kind):
    codes = [0, 3, 1]
    table = sender_lines(codes)
    for setting in range(8):
        for phase in range(16):
            entry = int(table[line_index(SEGMENT_KINDS.index(kind), setting, phase)])
            if kind in ("guard", "idle"):
                assert entry == 0
                continue
            assert bins(entry, 0) == 0b01
            level = codes[setting] if setting < 3 else 0
            assert [bins(entry, 1 + k) for k in range(2)] == [3 * (level >> k & 1) for k in range(2)]
            assert [bins(entry, 3 + k) for k in range(4)] == [3 * (phase >> k & 1) for k in range(4)]
            assert bins(entry, 7) == (3 if kind == "reference" else 0)


def test_source_lines():
    table = source_lines()
    by_kind = {kind: {int(e) for e in table[code::4]} for code, kind in enumerate(SEGMENT_KINDS)}
    assert by_kind["quantum"] == {0b01}
    assert by_kind["reference"] == {0b11_11_01}
    assert by_kind["guard"] == {0b11_00_01}
    assert by_kind["idle"] == {0b11_00_00}
