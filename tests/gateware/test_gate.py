"""Gate windows inside the slot."""

import numpy as np
import pytest
from receiver_cases import Case, assert_columns, hit_bits, random_hits, split_bits
from stepping import step_words

from benches import run_bench
from qrelay_gateware.gate import Gate
from qrelay_sim.golden.gate import in_window


def case(name, early, late, valid, fine, expected=None):
    """`early`, `late`: (start, width); `expected`: fines of every fine once that are in the early window."""
    words = len(valid) // 4
    windows = {"start": early[0], "width": early[1], "late_start": late[0], "late_width": late[1]}
    inputs = {"hits": hit_bits(valid, fine)} | {port: [value] * words for port, value in windows.items()}

    def check(seen):
        for port, (start, width) in (("early", early), ("late", late)):
            bits = split_bits(seen[port], 1, 4)
            assert_columns(bits, (valid & in_window(fine, start, width)).reshape(-1, 4), Gate.latency, port)
        if expected is not None:
            inside = split_bits(seen["early"], 1, 4)[Gate.latency :].ravel()[:256]
            assert np.flatnonzero(inside).tolist() == list(expected)

    return Case(name, inputs, ("early", "late"), check)


def cases():
    random = np.random.default_rng(4)
    for index in range(12):
        start, late_start = random.integers(0, 256, 2).tolist()
        width, late_width = random.integers(0, 257, 2).tolist()
        probability = (0.02, 0.3, 1.0)[index % 3]
        yield case(f"random_{index}", (start, width), (late_start, late_width), *random_hits(random, 150, probability))
    every = (np.ones(4 * 70, bool), (np.arange(4 * 70) % 256).astype(np.uint8))
    for name, window, expected in (
        ("inside", (100, 56), range(100, 156)),
        ("up_to_the_slot_edge", (200, 56), range(200, 256)),
        ("wraps", (200, 80), [*range(24), *range(200, 256)]),
        ("one_fine", (255, 1), [255]),
        ("width_0", (7, 0), []),
        ("width_1_at_0", (0, 1), [0]),
        ("width_255", (1, 255), range(1, 256)),
        ("width_256", (77, 256), range(256)),
        ("width_511", (77, 511), range(256)),
    ):
        yield case(name, window, (0, 0), *every, expected=expected)
        yield case(f"late_{name}", (0, 0), window, *every)


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(Gate, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Gate(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_gate"})
