"""Frame records."""

import numpy as np
import pytest
from receiver_cases import Case
from stepping import step_words

from benches import run_bench
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay_gateware.frames import FrameRecords
from qrelay_sim.golden.frames import frame_records


def case(name, running, last, frame, clicks, successes, expected=None):
    inputs = {"running": running, "last": last, "frame": frame, "clicks": clicks, "successes": successes}

    def check(seen):
        model = frame_records(running, last, frame, clicks, successes)
        words = np.flatnonzero(seen["valid"])
        found = [(int(w) - FrameRecords.latency, seen["record"][w]) for w in words]
        assert found == [entry for entry in model if entry[0] + FrameRecords.latency < len(running)]
        if expected is not None:
            fields = [RECORDS[RecordKind.FRAME].unpack(record) for _, record in found]
            assert [(f["frame"], f["clicks"], f["successes"], f["flags"]) for f in fields] == expected

    return Case(name, inputs, ("valid", "record"), check)


def cases():
    random = np.random.default_rng(8)
    for length in (1, 2, 7, 100):
        for density in (0.05, 1.0):
            words = np.arange(800)
            running = np.repeat(random.random(20) < 0.8, 40)
            clicks = random.integers(0, 17, 800) * (random.random(800) < density)
            successes = random.integers(0, 5, 800) * (random.random(800) < density / 2)
            last = words % length == length - 1
            yield case(f"random_{length}_{density}", running, last, words // length, clicks, successes)
    on = np.ones(12, bool)
    last = np.arange(12) % 4 == 3
    clicks = np.zeros(12, int)
    successes = np.zeros(12, int)
    clicks[[3, 4]] = 16, 5
    successes[3] = 4
    expected = [(7, 16, 4, 0), (8, 5, 0, 0)]
    yield case("last_and_first_word_of_a_frame", on, last, 7 + np.arange(12) // 4, clicks, successes, expected)
    full = np.full(4200, 16)
    yield case(
        "saturates",
        np.ones(4200, bool),
        np.arange(4200) == 4198,
        np.full(4200, 0xFFFFFFFF),
        full,
        full // 4,
        expected=[(0xFFFFFFFF, 0xFFFF, 0xFFF, 0)],
    )


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(FrameRecords, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(FrameRecords(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_frames"})
