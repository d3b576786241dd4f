"""Sequencer against its golden model, and each promise of its docstring by name."""

from itertools import pairwise

import numpy as np
import pytest
from amaranth.lib import data
from stepping import step_words

from benches import run_bench
from qrelay_gateware.layouts import Tick
from qrelay_gateware.sequencer import Sequencer
from qrelay_sim.golden.sequencer import QUANTUM, TICKS, ticks

LAYOUT = data.Layout.cast(Tick)
LATENCY = Sequencer.latency
REFERENCE, GUARD, IDLE = 0, 1, 3


def entries(segments, steps):
    """Table entries as the host writes them, with the unused upper bits set: they must not matter."""
    return {
        "segments": [kind | length << 2 | 0xFC000000 for kind, length in segments],
        "steps": [setting | phase << 3 for setting, phase in steps],
    }


def words_of_runs(runs, words):
    """Columns `running` and `slot_word`, and the word of the run that each word is; `runs` are (begin, end, start)."""
    running = np.zeros(words, int)
    slot_word = np.full(words, 12345)
    word_of_run = np.full(words, -1)
    for begin, end, start in runs:
        running[begin:end] = 1
        word_of_run[begin:end] = np.arange(end - begin)
        slot_word[begin:end] = (start + word_of_run[begin:end]) % (1 << 46)
    return running, slot_word, word_of_run


def simulate(segments, steps, step_words, runs, words, *, config=None, listed=None, listed_steps=None):
    """Run the block and compare all words with the model; `listed`: table contents where the frame is shorter."""
    running, slot_word, word_of_run = words_of_runs(runs, words)
    config = {"segments": len(segments), "steps": len(steps), "step_words": step_words} | (config or {})
    seen = step_words_of(config, entries(listed or segments, listed_steps or steps), running, slot_word)
    result = np.zeros(words - LATENCY, TICKS)
    for word, bits in enumerate(seen[LATENCY:]):
        result[word] = tuple(getattr(LAYOUT.from_bits(bits), name) for name in TICKS.names)
    model = ticks(word_of_run, segments, steps, step_words)
    model["slot_word"] = np.where(running, slot_word, 0)
    np.testing.assert_array_equal(result, model[: words - LATENCY])
    outside = LAYOUT.const({"segment": IDLE}).as_value().value
    assert seen[0] == seen[1] == outside
    return result


def step_words_of(config, tables, running, slot_word):
    columns = {"running": running, "slot_word": slot_word}
    return step_words(Sequencer, columns, ["tick"], config=config, tables=tables)["tick"]


def test_frame_of_three_segments():
    steps = [(1, 3), (2, 5), (0, 15)]
    result = simulate([(REFERENCE, 5), (GUARD, 2), (QUANTUM, 4)], steps, 1, [(3, 40, 8)], 45)[3:]
    np.testing.assert_array_equal(result["segment"][:11], [0] * 5 + [1] * 2 + [2] * 4)
    np.testing.assert_array_equal(result["frame"][:37], np.arange(37) // 11)
    np.testing.assert_array_equal(np.flatnonzero(result["frame_last"]), [10, 21, 32])
    np.testing.assert_array_equal(result["setting"][:11], [1, 2, 0, 1, 2, 1, 2, 0, 0, 0, 0])
    np.testing.assert_array_equal(result["phase"][:11], [3, 5, 15, 3, 5, 3, 5, 0, 0, 0, 0])
    np.testing.assert_array_equal(result["slot_word"][:37], 8 + np.arange(37))


def test_outside_the_run_all_zero_but_idle():
    result = simulate([(REFERENCE, 3)], [(7, 15)], 1, [(5, 10, 100)], 20)
    outside = np.r_[0:5, 10:18]
    assert (result["segment"][outside] == IDLE).all()
    for name in ("running", "slot_word", "setting", "phase", "frame", "frame_last"):
        assert not result[name][outside].any(), name


@pytest.mark.parametrize("segments", range(1, 9))
def test_segments_of_one_word(segments):
    frame = [(k % 4, 1) for k in range(segments)]
    result = simulate(frame, [(1, 1)], 1, [(2, 40, 0)], 44, listed=frame + [(QUANTUM, 9)] * (8 - segments))
    np.testing.assert_array_equal(result["frame"][2:40], np.arange(38) // segments)


def test_steps_last_step_words_and_restart_with_each_segment():
    frame = [(REFERENCE, 10), (IDLE, 5)]
    result = simulate(frame, [(1, 0), (2, 0), (3, 0)], 2, [(2, 40, 0)], 44)
    np.testing.assert_array_equal(result["setting"][2:17], [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 1, 1, 2, 2, 3])


def test_steps_restart_in_a_segment_that_repeats():
    result = simulate([(REFERENCE, 3)], [(1, 0), (2, 0), (3, 0), (4, 0)], 1, [(2, 20, 0)], 22)
    np.testing.assert_array_equal(result["setting"][2:11], [1, 2, 3] * 3)


def test_full_step_list():
    steps = [(k % 8, k % 16) for k in range(64)]
    simulate([(REFERENCE, 150)], steps, 1, [(2, 200, 0)], 204)
    simulate([(REFERENCE, 150)], steps[:63], 1, [(2, 200, 0)], 204, listed_steps=steps)


def test_zero_acts_as_one():
    run = [(2, 30, 0)]
    steps = [(1, 2), (3, 4)]
    simulate([(REFERENCE, 0), (GUARD, 2)], steps, 1, run, 34)
    simulate([(REFERENCE, 4)], steps, 0, run, 34)
    zero_segments = [(REFERENCE, 4), (GUARD, 2)]
    simulate(zero_segments[:1], steps, 1, run, 34, config={"segments": 0}, listed=zero_segments)
    simulate([(REFERENCE, 4)], steps[:1], 1, run, 34, config={"steps": 0}, listed_steps=steps)


def test_more_than_the_tables_hold_acts_as_all():
    frame = [(k % 4, 1 + k % 2) for k in range(8)]
    simulate(frame, [(1, 1)], 1, [(2, 60, 0)], 64, config={"segments": 15})
    steps = [(k % 8, k % 16) for k in range(64)]
    simulate([(REFERENCE, 150)], steps, 1, [(2, 200, 0)], 204, config={"steps": 127})


def test_longest_segment_and_step():
    """A frame of 2^24 - 1 words is too long to step through; a run shows that nothing ends early."""
    result = simulate([(REFERENCE, (1 << 24) - 1)], [(1, 1), (2, 2)], (1 << 16) - 1, [(2, 300, 0)], 304)
    assert not result["frame_last"].any()


def test_next_run_starts_at_frame_zero():
    """Also when the run before ended within a segment, at its end, or one word ago."""
    for end in (20, 21, 22, 25):
        runs = [(2, end, 0), (end + 1, end + 20, 1000)]
        result = simulate([(REFERENCE, 3), (QUANTUM, 4)], [(1, 2), (3, 4)], 2, runs, end + 24)
        assert result["frame"][end + 1] == 0
        assert result["slot_word"][end + 1] == 1000


def test_slot_index_wraps_and_the_frame_number_goes_on():
    start = (1 << 46) - 5
    result = simulate([(REFERENCE, 3)], [(1, 2)], 1, [(2, 20, start)], 24)
    np.testing.assert_array_equal(result["slot_word"][5:9], [start + 3, start + 4, 0, 1])
    np.testing.assert_array_equal(result["frame"][5:9], [1, 1, 1, 2])


def test_model_counts_frames_modulo_two_to_the_32():
    many = ticks([(5 << 32) + 4, (5 << 32) - 1], [(REFERENCE, 2), (QUANTUM, 3)], [(1, 2)], 1)
    assert many["frame"].tolist() == [0, (1 << 32) - 1]
    assert many["frame_last"].tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_random_frames(seed):
    random = np.random.default_rng(seed)
    segments = [(int(random.integers(4)), int(random.integers(1, 30))) for _ in range(random.integers(1, 9))]
    steps = [(int(random.integers(8)), int(random.integers(16))) for _ in range(random.integers(1, 65))]
    cuts = [3, *np.sort(random.choice(np.arange(10, 700), 3, replace=False)).tolist(), 760]
    runs = [(a, b - 1 - int(random.integers(3)), int(random.integers(1 << 46))) for a, b in pairwise(cuts)]
    simulate(segments, steps, int(random.integers(1, 5)), runs, 780)


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Sequencer(), "bench_sequencer", tmp_path)
