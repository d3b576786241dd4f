"""Regenerated choices against the protocol's definition and counter mode of the `cryptography` package; speed."""

import re
import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from qrelay.choices import CHUNK_BLOCKS, ChoiceStream
from qrelay.protocol.choice import counter_block, setting_of

KEY = bytes(range(32))
NONCE = 0xFEDCBA9876543210
STREAM = 0x8001
THRESHOLDS = (492, 1843, 4096, 4096, 4096, 4096, 4096)
LAST = (1 << 48) - 1


def draw_of(slot, key=KEY, nonce=NONCE, stream=STREAM):
    """One draw, as the protocol says it, one block at a time."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(counter_block(nonce, stream, slot // 8))
    return int.from_bytes(block[2 * (slot % 8) :][:2], "little")


def stream(thresholds=THRESHOLDS):
    return ChoiceStream(KEY, NONCE, STREAM, thresholds)


@settings(deadline=None, database=None, derandomize=True, max_examples=60)
@given(
    key=st.binary(min_size=32, max_size=32),
    nonce=st.integers(0, 2**64 - 1),
    number=st.integers(0, 2**16 - 1),
    slots=st.lists(st.integers(0, LAST), max_size=20),
    thresholds=st.lists(st.integers(0, 4096), min_size=7, max_size=7),
)
def test_any_slots(key, nonce, number, slots, thresholds):
    choices = ChoiceStream(key, nonce, number, thresholds)
    expected = [draw_of(slot, key, nonce, number) for slot in slots]
    assert choices.draws_at(slots).tolist() == expected
    setting, phase = choices.at(np.array(slots, np.uint64))
    assert setting.tolist() == [setting_of(draw >> 4, tuple(thresholds)) for draw in expected]
    assert phase.tolist() == [draw & 15 for draw in expected]


@pytest.mark.parametrize("first", [0, 5, 8 * CHUNK_BLOCKS - 3, LAST - 20, 2**47 + 1])
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 50])
def test_consecutive_slots(first, n):
    slots = [(first + k) % (LAST + 1) for k in range(n)]
    expected = [draw_of(slot) for slot in slots]
    assert stream().draws(first, n).tolist() == expected
    assert stream().draws_at(slots).tolist() == expected
    setting, phase = stream().block(first, n)
    assert setting.tolist() == [setting_of(draw >> 4, THRESHOLDS) for draw in expected]
    assert phase.tolist() == [draw & 15 for draw in expected]


def test_long_range_is_counter_mode():
    """Over several chunks, beginning inside a block."""
    blocks = 3 * CHUNK_BLOCKS + 5
    reference = Cipher(algorithms.AES(KEY), modes.CTR(counter_block(NONCE, STREAM, 1000))).encryptor()
    expected = np.frombuffer(reference.update(bytes(16 * blocks)), "<u2")
    np.testing.assert_array_equal(stream().draws(8003, 8 * blocks - 3), expected[3:])
    slots = np.arange(8003, 8000 + 8 * blocks, 5)
    np.testing.assert_array_equal(stream().draws_at(slots), expected[3::5])


def test_slots_in_any_order_and_repeated():
    random = np.random.default_rng(4)
    slots = random.integers(0, 2000, 3 * CHUNK_BLOCKS)
    np.testing.assert_array_equal(stream().draws_at(slots), stream().draws(0, 2000)[slots])


def test_at_least_one_of_two_streams_differs_where_key_nonce_or_stream_does():
    one = stream().draws(0, 64)
    for other in (
        ChoiceStream(KEY[::-1], NONCE, STREAM),
        ChoiceStream(KEY, NONCE + 1, STREAM),
        ChoiceStream(KEY, NONCE, STREAM + 1),
    ):
        assert np.count_nonzero(other.draws(0, 64) == one) < 4


def test_settings_come_with_their_probabilities():
    """Chi-square of 2^20 draws on (vac, nu, mu) and on the phases; each fails by chance once in 10^5 seeds."""
    from scipy.stats import chisquare

    setting, phase = stream().block(0, 1 << 20)
    shares = np.diff([0, *THRESHOLDS[:3]]) / 4096
    assert chisquare(np.bincount(setting), shares * len(setting)).pvalue > 1e-5
    assert chisquare(np.bincount(phase)).pvalue > 1e-5


def test_memory_is_bounded():
    """Beyond the result of 2 bytes per slot, a few megabytes, however many slots."""
    choices = stream()
    slots = np.arange(0, 4 * 10**7, 10, dtype=np.uint64)
    for regenerate, result_bytes in (
        (lambda: choices.draws(3, 10**7), 2 * 10**7),
        (lambda: choices.draws_at(slots), 8 * 10**6),
    ):
        tracemalloc.start()
        regenerate()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < result_bytes + 4 * 10**6


def test_key_does_not_show():
    assert "00010203" not in repr(stream())
    assert KEY not in [value for value in vars(stream()).values() if isinstance(value, bytes)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": bytes(16)}, "key has 16 bytes; AES-256 takes 32"),
        ({"nonce": 1 << 64}, "nonce 18446744073709551616 does not fit 64 bits; give 0 to 18446744073709551615"),
        ({"nonce": -1}, "nonce -1 does not fit 64 bits; give 0 to 18446744073709551615"),
        ({"stream": 1 << 16}, "stream 65536 does not fit 16 bits; give 0 to 65535"),
        ({"thresholds": (1, 2)}, "2 thresholds; give 7, 4096 for unused settings"),
        ({"thresholds": (1, 4097, 3, 4, 5, 6, 7)}, "threshold 2 is 4097; give 0 to 4096"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"key": KEY, "nonce": 1, "stream": 2, "thresholds": THRESHOLDS} | change
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ChoiceStream(**arguments)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([5, 1 << 48], "slot 281474976710656 does not fit 48 bits; give 0 to 281474976710655"),
        ([-1, 4], "slot -1 does not fit 48 bits; give 0 to 281474976710655"),
        ([[1, 2]], "slots have 2 dimensions; give a list or array of one dimension"),
        ([1.5], "slots are of type float64; give integers"),
    ],
)
def test_bad_slots(slots, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        stream().draws_at(slots)


def test_bad_range():
    with pytest.raises(ValueError, match=r"^first slot -8 does not fit 48 bits; give 0 to 281474976710655$"):
        stream().draws(-8, 1)
    with pytest.raises(ValueError, match=r"^-1 slots; give 0 to 281474976710656, the number of slot indices$"):
        stream().block(0, -1)


def test_speed_of_consecutive_draws(benchmark):
    assert len(benchmark(stream().draws, 0, 1 << 22)) == 1 << 22


def test_speed_of_consecutive_choices(benchmark):
    assert len(benchmark(stream().block, 0, 1 << 22)[0]) == 1 << 22


def test_speed_of_sparse_slots(benchmark):
    slots = np.sort(np.random.default_rng(1).integers(0, 1 << 40, 1 << 19).astype(np.uint64))
    assert len(benchmark(stream().at, slots)[0]) == len(slots)
