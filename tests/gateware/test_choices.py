"""Choice mapper against its golden model and the protocol's own definition of a setting."""

import numpy as np
import pytest
from choice_cases import CHOICES_LAYOUT, TICK_LAYOUT, expected_words, random_words
from stepping import step_words

from benches import run_bench
from qrelay.protocol.choice import setting_of
from qrelay_gateware.choices import ChoiceMapper
from qrelay_sim.golden.choices import choices
from qrelay_sim.golden.sequencer import QUANTUM, TICKS

LATENCY = ChoiceMapper.latency


def simulate(ticks, draws, thresholds, enable):
    """Run the block; every word must be that of the golden model, and its tick must come with it."""
    columns = {
        "tick": [TICK_LAYOUT.const({name: int(tick[name]) for name in TICKS.names}).as_value().value for tick in ticks],
        "draws": [sum(int(draw) << 16 * lane for lane, draw in enumerate(four)) for four in draws],
    }
    config = {"enable": enable} | {f"threshold_{k}": t for k, t in enumerate(thresholds, 1)}
    seen = step_words(ChoiceMapper, columns, ["choices", "tick_out"], config=config)
    assert seen["choices"][LATENCY:] == expected_words(ticks, draws, thresholds, enable)[:-LATENCY]
    assert seen["tick_out"][LATENCY:] == columns["tick"][:-LATENCY]
    assert seen["choices"][:LATENCY] == seen["tick_out"][:LATENCY] == [0] * LATENCY
    return [CHOICES_LAYOUT.from_bits(bits) for bits in seen["choices"][LATENCY:]]


def quantum_ticks(words):
    ticks = np.zeros(words, TICKS)
    ticks["running"] = 1
    ticks["segment"] = QUANTUM
    ticks["setting"] = 5
    ticks["phase"] = 9
    return ticks


@pytest.mark.parametrize("seed", range(6))
def test_random(seed):
    simulate(*random_words(seed, 300))


def test_setting_at_each_side_of_each_threshold():
    """And in each lane; the definition is the protocol's."""
    thresholds = (1, 512, 513, 2047, 2048, 4000, 4095)
    edges = sorted({edge + d for edge in thresholds for d in (-1, 0, 1)} & set(range(4096)))
    values = [value << 4 | 6 for value in edges for _ in range(4)]
    rotated = np.array(values + [0] * (-len(values) % 4)).reshape(-1, 4)
    seen = simulate(quantum_ticks(len(rotated) + LATENCY), np.vstack([rotated, rotated[:LATENCY]]), thresholds, 1)
    for value, word in zip(edges, seen, strict=False):
        for lane in range(4):
            assert (word[lane].setting, word[lane].phase, word[lane].drawn) == (setting_of(value, thresholds), 6, 1)


@pytest.mark.parametrize(
    ("thresholds", "setting"),
    [((4096,) * 7, 0), ((0,) * 7, 7), ((0, 0, 0, 4096, 4096, 4096, 4096), 3), ((4096, 0, 8191, 0, 4097, 0, 0), 4)],
)
def test_threshold_limits(thresholds, setting):
    """4096 and above is never reached, 0 always; the order does not matter."""
    random = np.random.default_rng(3)
    draws = np.vstack([np.full((1, 4), 0xFFFF), np.zeros((1, 4), int), random.integers(0, 1 << 16, (20, 4))])
    for word in simulate(quantum_ticks(22), draws, thresholds, 1):
        assert [choice.setting for choice in word] == [setting] * 4


def test_without_keystream_a_quantum_segment_is_setting_and_phase_zero():
    draws = np.full((8, 4), 0xFFFF)
    for word in simulate(quantum_ticks(8), draws, (0,) * 7, 0):
        assert [(c.setting, c.phase, c.drawn) for c in word] == [(0, 0, 0)] * 4


@pytest.mark.parametrize("segment", [0, 1, 3])
def test_other_segments_follow_the_step_list(segment):
    ticks = quantum_ticks(8)
    ticks["segment"] = segment
    for word in simulate(ticks, np.full((8, 4), 0xFFFF), (0,) * 7, 1):
        assert [(c.setting, c.phase, c.drawn) for c in word] == [(5, 9, 0)] * 4


def test_segments_that_change_every_word():
    ticks = quantum_ticks(40)
    ticks["segment"] = np.arange(40) % 4
    ticks["setting"] = np.arange(40) % 8
    ticks["phase"] = np.arange(40) % 16
    simulate(
        ticks, np.random.default_rng(1).integers(0, 1 << 16, (40, 4)), (500, 1000, 1500, 2000, 2500, 3000, 3500), 1
    )


def test_lanes_of_the_golden_model_are_in_order():
    result = choices(quantum_ticks(1), [[0x0010, 0x0021, 0x0032, 0x0043]], (1, 2, 3, 4, 4096, 4096, 4096))
    assert result.tolist() == [[(1, 0, 1), (2, 1, 1), (3, 2, 1), (4, 3, 1)]]


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(ChoiceMapper(), "bench_choices", tmp_path)
