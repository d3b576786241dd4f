"""Delay of hits in slots and fines."""

import numpy as np
import pytest
from receiver_cases import Case, assert_columns, hit_bits, random_hits, split_bits
from stepping import step_words

from benches import run_bench
from qrelay_gateware.delay import Delay
from qrelay_sim.golden.delay import delay, runs


def case(name, slots, fines, running, valid, fine, expected=None):
    """`expected`: places (slot, fine) of delayed hits and slots with an extra hit."""
    words = len(running)
    inputs = {
        "running": running,
        "hits": hit_bits(valid, fine),
        "delay_slots": [slots] * words,
        "delay_fine": [fines] * words,
    }

    def check(seen):
        model = [np.zeros(4 * words, dtype) for dtype in (bool, np.uint8, bool)]
        for run in runs(running):
            inside = slice(4 * run.start, 4 * run.stop)
            for column, part in zip(model, delay(valid[inside], fine[inside], slots, fines), strict=True):
                column[inside] = part
        delayed = split_bits(seen["delayed"], 9, 4)
        by_word = [column.reshape(-1, 4) for column in model]
        assert_columns(delayed & 1, by_word[0], Delay.latency, "valid")
        assert_columns(np.where(delayed & 1, delayed >> 1, 0), by_word[1], Delay.latency, "fine")
        assert_columns(split_bits(seen["extra"], 1, 4), by_word[2], Delay.latency, "extra")
        if expected is not None:
            places, extra = expected
            flat = delayed[Delay.latency :].ravel()
            assert [(slot, int(flat[slot]) >> 1) for slot in np.flatnonzero(flat & 1)] == places
            assert np.flatnonzero(split_bits(seen["extra"], 1, 4)[Delay.latency :].ravel()).tolist() == extra

    return Case(name, inputs, ("delayed", "extra"), check)


def hits_at(words, *hits):
    valid = np.zeros(4 * words, bool)
    fine = np.zeros(4 * words, np.uint8)
    for slot, place in hits:
        valid[slot] = True
        fine[slot] = place
    return valid, fine


def cases():
    random = np.random.default_rng(2)
    for slots in (0, 1, 2, 3, 4, 5, 7, 42, 4092, 4095):
        words = 300 if slots < 100 else 1400
        running = np.arange(words) >= 3
        for fines, probability in ((0, 0.05), (1, 1.0), (100, 0.4), (255, 1.0)):
            name = f"random_{slots}_slots_{fines}_fines"
            yield case(name, slots, fines, running, *random_hits(random, words, probability))
    # Runs end and begin again one word or more later, also while hits of the earlier run are in the ring.
    for slots in (0, 3, 20, 200):
        running = np.repeat(random.random(60) < 0.8, 10) & (random.random(600) < 0.98)
        yield case(f"many_runs_{slots}", slots, 77, running, *random_hits(random, 600, 0.3))
    old = np.ones(2400, bool)
    old[1200:1202] = False
    yield case("ring_full_of_an_earlier_run", 4000, 9, old, *random_hits(random, 2400, 0.3))

    always = np.arange(50) < 40
    two = hits_at(50, (41, 200), (42, 50))
    yield case("two_hits_pushed_in_one_slot", 8, 100, always, *two, expected=([(50, 44)], [50]))
    yield case("two_hits_kept_apart", 8, 55, always, *two, expected=([(49, 255), (50, 105)], []))
    border = hits_at(50, (43, 255), (44, 254))
    yield case("pushed_over_the_word_border", 0, 1, always, *border, expected=([(44, 0)], [44]))
    yield case("after_the_run", 4, 0, always, *hits_at(50, (155, 1), (156, 2)), expected=([(159, 1)], []))


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(Delay, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Delay(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_delay"})
