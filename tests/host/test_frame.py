import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qrelay.frame import FrameLayout

LAYOUT = FrameLayout((0, 1, 2, 3), (24, 8, 64, 4 * 10))


def test_kinds_by_slot():
    kinds = LAYOUT.kind_of(np.arange(1000, 1000 + 2 * LAYOUT.slots, dtype=np.uint64), 1000)
    once = [0] * 24 + [1] * 8 + [2] * 64 + [3] * 40
    assert kinds.tolist() == once * 2


@given(slots=st.integers(0, 1000), kinds=st.sets(st.integers(0, 3), min_size=1))
def test_counts_against_counting(slots, kinds):
    kind = LAYOUT.kind_of(np.arange(slots, dtype=np.uint64), 0)
    assert LAYOUT.counted(slots, kinds) == np.isin(kind, list(kinds)).sum()


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 1000])
def test_the_way_back_from_a_count(count):
    slots = LAYOUT.slots_until(count, (2,))
    assert LAYOUT.counted(slots, (2,)) == count
    assert slots == 0 or LAYOUT.counted(slots - 1, (2,)) == count - 1


def test_entries_are_those_of_the_segments_table():
    assert LAYOUT.entries() == [0 | 6 << 2, 1 | 2 << 2, 2 | 16 << 2, 3 | 10 << 2]
