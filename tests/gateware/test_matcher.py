"""Success table."""

import numpy as np
import pytest
from receiver_cases import Case, assert_columns, group_by_word, split_bits
from stepping import step_words

from benches import run_bench
from qrelay_gateware.matcher import Matcher
from qrelay_sim.golden.matcher import click_patterns, match

PREAMBLE = 256 + 4
"""Words in which the table is written and settles."""


def case(name, table, patterns, counted=None, live=None, successes=None):
    """`successes`: (slot, outcome) expected."""
    words = len(patterns) // 4
    counted = np.ones(words, bool) if counted is None else counted
    live = np.ones(4 * words, bool) if live is None else live
    after = [0] * PREAMBLE
    inputs = {
        "table.enable": [1] * 256 + [0] * (words + 4),
        "table.address": [*range(256)] + [0] * (words + 4),
        "table.value": [*table.tolist()] + [15] * (words + 4),
        "patterns": after + group_by_word(patterns, 8).tolist(),
        "counted": after + counted.astype(int).tolist(),
        "live": after + group_by_word(live, 1).tolist(),
    }

    def check(seen):
        outcomes, vetoed = match(patterns, np.repeat(counted, 4), live, table)
        latency = PREAMBLE + Matcher.latency
        found = split_bits(seen["outcomes"], 4, 4)
        assert_columns(found, outcomes.reshape(-1, 4), latency, "outcomes")
        assert_columns(split_bits(seen["success"], 1, 4), (outcomes > 0).reshape(-1, 4), latency, "success")
        assert_columns(split_bits(seen["vetoed"], 1, 4), vetoed.reshape(-1, 4), latency, "vetoed")
        if successes is not None:
            flat = found[latency:].ravel()
            assert [(slot, int(flat[slot])) for slot in np.flatnonzero(flat)] == successes

    return Case(name, inputs, ("outcomes", "success", "vetoed"), check)


def cases():
    random = np.random.default_rng(5)
    for density in (0.01, 0.2, 1.0):
        table = random.integers(0, 16, 256) * (random.random(256) < 0.5)
        table[0] = 0
        patterns = random.integers(1, 256, 4 * 300) * (random.random(4 * 300) < density)
        counted = random.random(300) < 0.9
        live = random.random(1200) < 0.8
        yield case(f"random_{density}", table, patterns, counted, live)
        table = table.copy()
        table[0] = 9
        yield case(f"random_{density}_empty_pattern_too", table, patterns, counted, live)
    # Each entry looked up in each lane, at every distance from words without a look-up.
    every = np.concatenate([np.roll(np.arange(256), shift) for shift in range(4)])
    yield case("every_entry_in_every_lane", random.integers(0, 16, 256), every)
    one = np.zeros(256, int)
    one[0b0110] = 5
    one[0b1001] = 7
    slots = np.zeros(40, int)
    slots[[3, 17, 18, 30]] = 0b0110, 0b1001, 0b0111, 0b0110
    live = np.arange(40) != 30
    yield case("one_rule", one, slots, live=live, successes=[(3, 5), (17, 7)])
    counted = np.arange(10) != 4
    yield case("word_that_does_not_count", one, slots, counted, live, successes=[(3, 5)])


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(Matcher, case.inputs, case.outputs))


def test_patterns_of_both_kinds():
    early = np.array([[1, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    late = np.array([[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]], bool)
    assert click_patterns(early, late, 0).tolist() == [0b0001, 0, 0b0011, 0]
    assert click_patterns(early, late, 1).tolist() == [0b01, 0b10000000, 0b0101, 0b100000]


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Matcher(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_matcher"})
