"""Rising edges of sampled detector levels."""

import numpy as np
import pytest
from receiver_cases import Case, split_bits
from stepping import step_words

from benches import run_bench
from qrelay_gateware.edge_to_click import EdgeToClick
from qrelay_sim.golden.edge_to_click import edge_to_click

SAMPLES_PER_100_NS = 61
"""2 samples per slot of 3.284 ns, rounded up."""


def pack(levels):
    return np.packbits(np.asarray(levels, np.uint8), bitorder="little")


def case(name, levels, invert=False, hits=None):
    samples = pack(levels)

    def check(seen):
        by_slot = split_bits(seen["hits"], 9, 4)[1:].ravel()
        valid, fine = edge_to_click(samples, invert)
        np.testing.assert_array_equal(by_slot & 1, valid[: len(by_slot)])
        np.testing.assert_array_equal((by_slot >> 1)[by_slot & 1 == 1], fine[: len(by_slot)][valid[: len(by_slot)]])
        if hits is not None:
            assert [(slot, int(by_slot[slot]) >> 1) for slot in np.flatnonzero(by_slot & 1)] == hits

    return Case(name, {"samples": samples, "invert": [int(invert)] * len(samples)}, ("hits",), check)


def pulse(first, length, total=256):
    levels = np.zeros(total, bool)
    levels[first : first + length] = True
    return levels


def cases():
    random = np.random.default_rng(1)
    for density in (0.02, 0.5, 0.98):
        for invert in (False, True):
            yield case(f"random_{density}_{invert}", random.random(8 * 300) < density, invert)
    # Each length from one sample to 100 ns at each place in the word: one hit, at the first high sample.
    for length in (1, 2, 3, 7, 8, 9, SAMPLES_PER_100_NS):
        pulses = np.concatenate([pulse(8 * 4 + place, length, 8 * 16) for place in range(8)])
        hits = [(64 * k + 16 + k // 2, 192 if k % 2 else 64) for k in range(8)]
        yield case(f"pulse_{length}", pulses, hits=hits)
        yield case(f"negative_pulse_{length}", ~pulses, invert=True, hits=hits)
    yield case("edge_on_the_word_border", pulse(8 * 3, 8 * 2), hits=[(12, 64)])
    yield case("last_sample_of_a_word", pulse(8 * 3 + 7, 1), hits=[(15, 192)])
    yield case("high_from_reset", np.ones(128), hits=[])
    yield case("low_from_reset_inverted", np.zeros(128), invert=True, hits=[])
    yield case("stuck_high_is_one_hit", pulse(21, 400), hits=[(10, 192)])
    yield case("every_slot", np.tile([True, False], 64), hits=[(slot, 64) for slot in range(1, 60)])


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(EdgeToClick, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(EdgeToClick(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_edge_to_click"})
