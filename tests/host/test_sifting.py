import numpy as np
import pytest

from qrelay.sifting import PHASE_OFFSETS, Announcements, fringe_counts, phase_offset_of, sift


def perfect_relay(offset, seed=0, count=40_000, contrast=1.0):
    """Announcements of an ideal relay whose phase difference is off by `offset` steps, drawn slot by slot."""
    dice = np.random.default_rng(seed)
    phase_a, phase_b = dice.integers(0, 16, (2, count)).astype(np.uint8)
    delta = 2 * np.pi / 16 * (phase_a.astype(float) - phase_b + offset)
    same = dice.random(count) < (1 + contrast * np.cos(delta)) / 2
    port = dice.integers(0, 2, count)
    outcomes = np.where(same, np.where(port, 4, 1), np.where(port, 3, 2)).astype(np.uint8)
    return outcomes, phase_a, phase_b


@pytest.mark.parametrize("offset", PHASE_OFFSETS)
def test_all_phase_offsets_give_equal_bits_of_both_kinds(offset):
    outcomes, phase_a, phase_b = perfect_relay(offset)
    matched = sift(outcomes, phase_a, phase_b, phase_offset=offset)
    assert matched.errors == 0
    # An eighth is kept; 5 standard deviations of 40000 draws, false alarm below 1e-6.
    assert abs(len(matched.index) - 5000) < 5 * np.sqrt(40_000 / 8)
    assert abs(matched.bits_a.mean() - 0.5) < 5 * 0.5 / np.sqrt(5000)
    inverted = sift(outcomes, phase_a, phase_b, phase_offset=offset, invert=True)
    assert inverted.errors == len(inverted.index)


def test_an_offset_of_the_slice_alone_would_be_wrong():
    """physics.md section 2: with j_off = 4 the key bit must carry over as well."""
    outcomes, phase_a, phase_b = perfect_relay(4)
    slice_only = (phase_a & 8) | ((phase_a + 4) & 7)
    wrong = sift(outcomes, slice_only, phase_b)
    assert 0.4 < wrong.errors / len(wrong.index) < 0.6


@pytest.mark.parametrize("wrong_by", [1, 2, 4, 8])
def test_the_error_rate_follows_the_phase_error(wrong_by):
    outcomes, phase_a, phase_b = perfect_relay(3, count=200_000)
    matched = sift(outcomes, phase_a, phase_b, phase_offset=(3 + wrong_by) % 16)
    expected = (1 - np.cos(2 * np.pi * wrong_by / 16)) / 2
    assert matched.errors / len(matched.index) == pytest.approx(expected, abs=5 * 0.5 / np.sqrt(25_000))


def test_exchanging_the_detectors_of_one_node_inverts_the_key():
    outcomes, phase_a, phase_b = perfect_relay(0)
    swapped = np.array([0, 3, 4, 1, 2], np.uint8)[outcomes]
    matched = sift(swapped, phase_a, phase_b)
    assert matched.errors == len(matched.index)


def test_every_outcome_and_key_bit_by_hand():
    for outcome, flip in ((1, 0), (4, 0), (2, 1), (3, 1)):
        for m_a in range(16):
            for m_b in range(16):
                matched = sift(*(np.array([v], np.uint8) for v in (outcome, m_a, m_b)))
                assert len(matched.index) == (m_a % 8 == m_b % 8)
                if len(matched.index):
                    assert matched.bits_a[0] == m_a >> 3
                    assert matched.bits_b[0] == (m_b >> 3) ^ flip
    assert len(sift(np.array([5, 0], np.uint8), np.zeros(2, np.uint8), np.zeros(2, np.uint8)).index) == 0


@pytest.mark.parametrize("offset", PHASE_OFFSETS)
def test_the_offset_is_found_from_the_fringe(offset):
    outcomes, phase_a, phase_b = perfect_relay(offset, seed=offset, count=4000, contrast=0.85)
    found, contrast = phase_offset_of(fringe_counts(outcomes, phase_a, phase_b))
    assert found == offset
    assert contrast == pytest.approx(0.85, abs=0.12)


def test_announcements_hold_slot_and_outcome_only():
    assert set(Announcements.__dataclass_fields__) == {"slots", "outcomes"}
    some = Announcements(np.array([9, 3, 5], np.uint64), np.array([1, 2, 3], np.uint8)).ordered()
    assert some.slots.tolist() == [3, 5, 9]
    assert some.between(3, 9).outcomes.tolist() == [2, 3]
