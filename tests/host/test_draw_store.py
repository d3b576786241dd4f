"""Draws that stations gave for announced slots: found again in a run and in a replay, readable by their owner only."""

import stat

import numpy as np
import pytest

from qrelay.choices import ChoiceStream
from qrelay.draw_store import DrawStore
from qrelay.errors import RunError, RunFolderError

THRESHOLDS = (100, 500, 900, 2000, 3000, 4000, 4096)
STREAM = ChoiceStream(bytes(range(32)), 7, 1, THRESHOLDS)


def test_choices_are_those_of_the_draws(tmp_path):
    path = tmp_path / "alice.draws"
    store = DrawStore(THRESHOLDS, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    random = np.random.default_rng(1)
    parts = [np.unique(random.integers(0, 1 << 48, 300, np.uint64)) for _ in range(3)]
    for part in parts:
        store.add(part, STREAM.draws_at(part))
        for given, expected in zip(store.at(part), STREAM.at(part), strict=True):
            np.testing.assert_array_equal(given, expected)
    store.add(parts[0][:10], STREAM.draws_at(parts[0][:10]))  # an answer that was asked for twice
    everything = random.permutation(np.concatenate(parts))
    for some in (store, DrawStore.read(path, THRESHOLDS)):
        for given, expected in zip(some.at(everything), STREAM.at(everything), strict=True):
            np.testing.assert_array_equal(given, expected)
        assert [len(part) for part in some.at(np.array([], np.uint64))] == [0, 0]


def test_a_slot_that_was_not_answered_is_an_error(tmp_path):
    store = DrawStore(THRESHOLDS)
    slots = np.array([8, 9, 11], np.uint64)
    with pytest.raises(RunError, match="whose draw the station never gave"):
        store.at(slots)
    store.add(slots, STREAM.draws_at(slots))
    for missing in (0, 10, 12, (1 << 48) - 1):
        with pytest.raises(RunError, match="whose draw the station never gave"):
            store.at(np.array([9, missing], np.uint64))


def test_a_file_is_never_written_over(tmp_path):
    DrawStore(THRESHOLDS, tmp_path / "draws")
    with pytest.raises(RunFolderError, match="cannot write"):
        DrawStore(THRESHOLDS, tmp_path / "draws")
