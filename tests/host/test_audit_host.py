import numpy as np
import pytest

from qrelay.audit import AUDIT_SLOTS, check_audit, unpack_audit
from qrelay.choices import ChoiceStream
from qrelay.emission import SenderPlan
from qrelay.frame import FrameLayout
from qrelay.modulation import sender_lines
from qrelay_sim.golden.audit import audit_words

STREAM = ChoiceStream(bytes(range(32)), 5, 1, (492, 1843, 4096, 4096, 4096, 4096, 4096))
START = 800
FIRST = 1600


def plan(delays=(0,) * 8, kinds=(2,), lengths=(8192,), steps=((0, 0),)):
    table = sender_lines([0, 1, 2, 3])
    return SenderPlan(STREAM, FrameLayout(kinds, lengths), START, steps, 4, table, tuple(delays))


def captured(delays=(0,) * 8, choice=None):
    """What the capture memory must hold, slot by slot, for an all-quantum frame."""
    table = sender_lines([0, 1, 2, 3])
    slots = np.arange(FIRST, FIRST + AUDIT_SLOTS, dtype=np.uint64)
    setting, phase = STREAM.at(slots)
    bins = np.zeros((AUDIT_SLOTS, 8, 2), np.uint8)
    for line, delay in enumerate(delays):
        earlier, turned = STREAM.at(slots - np.uint64(delay))
        entries = table[2 | earlier.astype(int) << 2 | turned.astype(int) << 5]
        bins[:, line, 0], bins[:, line, 1] = entries >> 2 * line & 1, entries >> 2 * line + 1 & 1
    if choice is not None:
        setting[choice] ^= 1
    return audit_words(setting, phase, np.ones(AUDIT_SLOTS, int), bins).tolist()


@pytest.mark.parametrize("delays", [(0,) * 8, (5,) * 8, tuple(range(8)), (255, 0, 17, 3, 3, 3, 3, 100)])
def test_what_was_drawn_is_what_was_emitted(delays):
    report = check_audit(captured(delays), FIRST, plan(delays))
    assert report.passed
    assert report.slots == 1024


def test_a_line_one_slot_off_is_found():
    report = check_audit(captured((0, 0, 0, 1, 0, 0, 0, 0)), FIRST, plan())
    assert not report.passed
    assert report.wrong_choices == 0
    assert 400 < report.wrong_lines < 624  # half of the phase bits differ from their neighbours'


def test_one_wrong_choice_is_found_and_named():
    report = check_audit(captured(choice=77), FIRST, plan())
    assert (report.wrong_choices, report.wrong_lines, report.first_wrong_slot) == (1, 0, FIRST + 77)


def test_one_flipped_line_bit_is_found():
    words = captured()
    words[4 * 10 + 3] ^= 1 << 19  # slot 43: bit 3 of the upper half, second bin of line 1
    report = check_audit(words, FIRST, plan())
    assert (report.wrong_lines, report.first_wrong_slot) == (1, FIRST + 43)


def test_words_hold_two_slots_each():
    choices, lines = unpack_audit([0x0002_0001, 0x0004_0003, 0x0006_0005, 0x0008_0007])
    assert choices.tolist() == [1, 2, 3, 4]
    assert lines.tolist() == [5, 6, 7, 8]


def test_segments_that_are_not_quantum_follow_the_step_list():
    steps = ((3, 0), (3, 4), (3, 8))
    some = plan(kinds=(0, 1, 2), lengths=(16, 8, 24), steps=steps)
    emission = some.emission(np.arange(START, START + 48, dtype=np.uint64))
    assert emission.setting[:16].tolist() == [3] * 16
    assert emission.phase[:16].tolist() == [0] * 4 + [4] * 4 + [8] * 4 + [0] * 4
    assert emission.lines[16:24].tolist() == [0] * 8
    assert emission.drawn.tolist() == [False] * 24 + [True] * 24
    assert emission.phase[24:].tolist() == STREAM.at(np.arange(START + 24, START + 48))[1].tolist()
