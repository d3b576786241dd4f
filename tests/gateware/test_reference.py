"""Reference counters."""

import numpy as np
import pytest
from amaranth.lib import data
from receiver_cases import Case
from stepping import step_words
from test_clicks import detector_bits

from benches import run_bench
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import DETECTORS
from qrelay_gateware.layouts import config_layout, status_layout
from qrelay_gateware.reference import ReferenceCounters
from qrelay_sim.golden.reference import reference_records

CLICK_WORDS = 4
OFF, ALL, WITH_SUCCESS, SUM = range(4)
_CONFIG = data.Layout.cast(config_layout("reference"))
_MISSED = data.Layout.cast(status_layout("reference"))["missed"]


def later(column, words=CLICK_WORDS):
    """The rest of the inputs comes that many words after the clicks."""
    return np.concatenate((np.zeros(words, np.asarray(column).dtype), column))


def case(name, settings, counting, places, bits, running, last, frame, success, expect=None):
    """`bits` are clicks [detectors, slots]; all columns are of the same words."""
    settings = {"mode": ALL, "bins": 4, "sum_frames": 1} | settings
    total = len(running) + CLICK_WORDS
    tail = np.zeros(CLICK_WORDS, np.int64)
    inputs = {
        "config": [_CONFIG.const(settings).as_value().value] * total,
        "counting": np.concatenate((counting, tail)),
        "bin": np.concatenate((places, tail)),
        "clicks": np.concatenate((detector_bits(bits, 1), tail)),
        "running": later(running),
        "last": later(last),
        "frame": later(frame),
        "success": later(success),
    }
    clicks = bits.reshape(DETECTORS, -1, 4).sum(axis=2)
    sets, missed = reference_records(settings, counting, places, clicks, running, last, frame, success)

    def check(seen):
        words = np.flatnonzero(seen["valid"])
        found = [(int(w) - CLICK_WORDS, seen["record"][w]) for w in words]
        expected = [
            (word + ReferenceCounters.latency + n, record) for word, records in sets for n, record in enumerate(records)
        ]
        assert found == [entry for entry in expected if entry[0] < len(running)]
        lost = [int(w) - CLICK_WORDS - 1 for w in np.flatnonzero(seen["lost"])]
        assert lost == [word for word in missed if word + 1 < len(running)]
        assert int(seen["status"][-1]) >> _MISSED.offset == len([word for word in missed if word + 2 < len(running)])
        if expect is not None:
            expect([RECORDS[RecordKind.REFERENCE].unpack(record) for _, record in found])

    return Case(name, inputs, ("record", "valid", "lost", "status"), check)


def random_case(seed):
    random = np.random.default_rng(seed)
    words = 900
    running = np.repeat(random.random(18) < 0.85, 50) & (random.random(words) < 0.995)
    length = int(random.choice([1, 3, 10, 40, 90]))
    started = running & ~np.concatenate(([False], running[:-1]))
    age = np.arange(words) - np.maximum.accumulate(np.where(started, np.arange(words), 0))
    hold = int(random.choice([1, 2, 7]))
    places = random.integers(0, int(random.choice([1, 2, 16])), words)[age // hold]
    mode = seed % 4
    settings = {
        "mode": mode,
        "bins": int(random.choice([0, 1, 2, 4, 16, 31])),
        "sum_frames": int(random.choice([0, 1, 2, 5])),
    }
    return case(
        f"random_{seed}",
        settings,
        running & (age % length < max(1, length // 2)),
        places,
        random.random((DETECTORS, 4 * words)) < random.choice([0.02, 0.3, 1.0]),
        running,
        running & (age % length == length - 1),
        np.where(running, age // length + int(random.integers(1 << 32)), 0) & 0xFFFFFFFF,
        running & (random.random(words) < 0.3 / length),
    )


def steady(name, settings, words, length, bits=None, success=None, expect=None, places=None):
    """A run from the first word on, without a pause; every word counts, into bins 0, 1, 2, 3, 0, ..."""
    age = np.arange(words)
    return case(
        name,
        settings,
        np.ones(words, bool),
        age % 4 if places is None else places,
        np.ones((DETECTORS, 4 * words), bool) if bits is None else bits,
        np.ones(words, bool),
        age % length == length - 1,
        age // length,
        np.zeros(words, bool) if success is None else success,
        expect,
    )


def counts_of(records, number):
    """[bin, detector] of the set number `number`, of four bins."""
    return np.array([[r["first"], r["second"]] for r in records[8 * number : 8 * number + 8]]).reshape(4, 4).tolist()


def cases():
    for seed in range(24):
        yield random_case(seed)

    def first_and_last_word(records):
        assert [r["frame"] for r in records[::8]] == [0, 1, 2]
        assert counts_of(records, 0) == [[0] * 4, [0] * 4, [0] * 4, [0, 0, 1, 0]]
        assert counts_of(records, 1) == [[0, 0, 2, 0], [0] * 4, [0] * 4, [0] * 4]
        assert counts_of(records, 2) == [[0] * 4] * 4

    border = np.zeros((DETECTORS, 4 * 80), bool)
    border[2, [4 * 20 - 1, 4 * 20, 4 * 20 + 3]] = True
    yield steady("last_and_first_word_of_a_frame", {}, 80, 20, border, expect=first_and_last_word)

    def the_frame_with_it(records):
        assert [r["frame"] for r in records[::8]] == [1, 3]
        assert counts_of(records, 0) == [[20] * 4] * 4

    success = np.zeros(120, bool)
    success[[39, 60]] = True
    yield steady("with_success", {"mode": WITH_SUCCESS}, 120, 20, success=success, expect=the_frame_with_it)

    def two_sums(records):
        assert [r["frame"] for r in records[::8]] == [2, 5]
        assert counts_of(records, 1) == [[60] * 4] * 4

    yield steady("sum_of_three_frames", {"mode": SUM, "sum_frames": 3}, 160, 20, expect=two_sums)

    def stops(records):
        assert counts_of(records, 0) == [[0xFFFF] * 4, [0xFFFF] * 4, [4] * 4, [4] * 4]

    words = 2 * 16384 + 20
    places = np.arange(words) % 2
    places[5:7] = 2, 3
    yield steady("saturates", {}, words, words - 15, expect=stops, places=places)


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(ReferenceCounters(CLICK_WORDS), case.inputs, case.outputs))


def test_some_random_cases_send_and_miss_sets():
    """The random cases reach what they are for."""
    assert sum("random" in c.name for c in CASES) == 24
    settings = {"mode": ALL, "bins": 4, "sum_frames": 1}
    words = np.arange(100)
    on = np.ones(100, bool)
    sets, missed = reference_records(
        settings, on, words * 0, np.ones((4, 100), int), on, words % 9 == 8, words // 9, ~on
    )
    assert len(sets) == 6
    assert len(missed) == 5


def test_needs_a_word_to_add_up():
    with pytest.raises(ValueError, match="click_words 0 leaves no word"):
        ReferenceCounters(0)


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(ReferenceCounters(CLICK_WORDS), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_reference"})
