"""Modulator and its lines against the golden model, and each promise of the docstrings by name."""

from dataclasses import replace

import numpy as np
import pytest
from modulator_cases import LATENCY, TABLE_WORDS, Case, mode, pins, random_lines
from stepping import step_words

from benches import run_bench
from qrelay.protocol.registers import LINE_MODES, LINES
from qrelay_gateware.modulator import Modulator
from qrelay_gateware.word_phase import WordPhase
from qrelay_sim.golden.modulator import LineSettings, line_bins
from qrelay_sim.golden.timebase import word_phase


def simulate(case, settings=None):
    """Pins per word and line from the latency on, compared with the model."""
    config = case.config() | (settings or {})
    seen = step_words(Modulator, case.columns(), ["lines"], config=config, tables={"table": case.table})
    result = pins(seen["lines"])[LATENCY:]
    if settings is None:
        np.testing.assert_array_equal(result, case.model(TABLE_WORDS)[: len(result)])
    return result


def one_line(words=100, runs=((10, 90, 0),), **settings):
    """A case with line 0 set and all other lines at rest."""
    line_settings = {name: settings.pop(name) for name in ("delay", "invert", "idle", "mode") if name in settings}
    lines = [LineSettings(**line_settings)] + [LineSettings()] * (LINES - 1)
    return Case(words, list(runs), lines, **settings)


def slot_levels(words):
    """Levels [slot, bin] of one line from its bytes per word."""
    return np.unpackbits(words[:, None], axis=1, bitorder="little").reshape(-1, 2)


def test_latency_is_five_words():
    case = one_line(words=20, runs=[(4, 5, 0)], uniform=(2, 0, 0))
    case.table[:] = 0xFFFF
    result = simulate(case)
    assert np.flatnonzero(result[:, 0]).tolist() == [4], "word 4 leaves LATENCY words after it came"
    assert Modulator.latency == 5


@pytest.mark.parametrize("bit", range(16))
def test_entry_bits_are_first_and_second_bin_of_each_line(bit):
    case = Case(12, [(2, 10, 0)])
    case.table[:] = 1 << bit
    result = simulate(case)
    expected = np.zeros((8, LINES), np.uint8)
    expected[:, bit // 2] = 0xAA if bit % 2 else 0x55
    np.testing.assert_array_equal(result[2:7], expected[:5])


def test_table_index_is_segment_setting_phase():
    case = Case(40, [(2, 38, 0)])
    case.table[:] = np.arange(512)
    result = simulate(case)
    levels = np.stack([slot_levels(result[:, line]) for line in range(LINES)], axis=1)
    entry = (levels.reshape(len(levels), 16) << np.arange(16)).sum(axis=1)
    slots = slice(8, 4 * len(result))
    index = case.segment | case.setting << 2 | case.phase << 5
    np.testing.assert_array_equal(entry[slots], index[slots])


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 4, 7, 8, 127, 128, 251, 252, 253, 254, 255])
def test_delay_in_slots(delay):
    """A single slot leaves exactly `delay` slots later, and the line is idle until then."""
    case = one_line(delay=delay, idle=1, uniform=(2, 0, 0))
    slot = 4 * 12 + 3
    case.table[:] = 0
    case.table[2 | 5 << 2] = 3
    case.setting[slot] = 5
    levels = slot_levels(simulate(case)[:, 0])
    first = 4 * 10
    assert (levels[: first + delay] == 1).all(), "idle up to the first slot of the run"
    assert np.flatnonzero(levels[first + delay : 4 * 88, 0]).tolist() == [slot - first]


@pytest.mark.parametrize("gap", [1, 2, 30, 63, 64, 65])
@pytest.mark.parametrize("delay", [1, 130, 252, 255])
def test_nothing_of_an_earlier_run_leaves_in_the_next(gap, delay):
    """The first run fills the memories with ones, the second has zeros only."""
    case = one_line(words=300, runs=[(5, 100, 0), (100 + gap, 280, 0)], delay=delay, uniform=(2, 0, 0))
    case.table[:] = 0
    case.table[2] = 0xFFFF
    case.setting[4 * 100 :] = 1
    result = simulate(case)
    assert result[75:100, 0].all()
    assert not result[100:, 0].any(), "idle between the runs and zeros in the second"


def test_idle_before_between_and_after_runs():
    for idle in (0, 1):
        case = one_line(words=80, runs=[(5, 20, 0), (40, 60, 64)], idle=idle, invert=1, delay=6, uniform=(2, 0, 0))
        case.table[:] = 0xFFFF * (1 - idle) if idle == 0 else 0
        levels = simulate(case)[:, 0]
        outside = np.r_[0:5, 20:40, 60:75]
        assert (levels[outside] == 0xFF * idle).all(), "idle is electrical: invert does not touch it"


def test_run_end_takes_all_lines_to_idle_in_one_word():
    lines = [LineSettings(delay=delay, idle=1) for delay in (0, 1, 2, 3, 4, 63, 64, 255)]
    case = Case(150, [(5, 100, 0)], lines, uniform=(2, 0, 0))
    case.table[:] = 0
    result = simulate(case)
    assert not result[75:100].any()
    assert (result[100:] == 0xFF).all()


def test_invert_swaps_bins_of_the_run():
    plain = simulate(one_line())
    inverted = simulate(one_line(invert=1))
    np.testing.assert_array_equal(inverted[10:90, 0], ~plain[10:90, 0])


@pytest.mark.parametrize("name", ["normal", "low", "high", "square", "pulse"])
@pytest.mark.parametrize("idle", [0, 1])
def test_not_ready_means_idle_in_every_mode(name, idle):
    ready = np.ones(120, int)
    ready[:30] = 0
    ready[60:80] = 0
    settings = {"mode": mode(name), "idle": idle, "invert": 1, "ready": ready, "pattern_slots": 8}
    result = simulate(one_line(words=120, runs=[(10, 110, 0)], **settings))[:, 0]
    # `ready` acts in the next word; the pins here begin LATENCY words late.
    unready = np.flatnonzero(ready[LATENCY - 1 :] == 0)
    assert (result[unready[unready < len(result)]] == 0xFF * idle).all()


@pytest.mark.parametrize("name", LINE_MODES)
def test_enable_gates_the_normal_mode_only(name):
    case = one_line(mode=mode(name), idle=1, enable=0, pattern_slots=8)
    case.table[:] = 0
    result = simulate(case)[:, 0]
    enabled = simulate(replace(case, enable=1))[:, 0]
    if name == "normal":
        assert (result == 0xFF).all()
    else:
        np.testing.assert_array_equal(result, enabled)


@pytest.mark.parametrize(("name", "level"), [("low", 0), ("high", 0xFF)])
@pytest.mark.parametrize("invert", [0, 1])
def test_forced_levels_are_electrical(name, level, invert):
    result = simulate(one_line(mode=mode(name), invert=invert, idle=1, delay=9))
    assert (result[:, 0] == level).all()


def test_unknown_modes_hold_the_idle_level():
    for code in (5, 6, 7):
        result = simulate(one_line(mode=code, idle=1))
        assert (result[:, 0] == 0xFF).all()


@pytest.mark.parametrize("invert", [0, 1])
@pytest.mark.parametrize("pattern_slots", [0, 3, 4, 8, 12, 20, 22, 1000])
def test_patterns_run_without_a_run(pattern_slots, invert):
    """Square: first half of the period high; pulse: its first bin. Neither delay nor invert touches them."""
    lines = [LineSettings(mode=mode("square"), delay=77, invert=invert), LineSettings(mode=mode("pulse"))]
    case = Case(300, [], lines + [LineSettings()] * 6, pattern_slots=pattern_slots)
    result = simulate(case)
    period = max(pattern_slots // 4 * 4, 4)
    square = slot_levels(result[:, 0])
    pulse = slot_levels(result[:, 1])
    first = int(np.flatnonzero(pulse[:, 0])[0]) if pulse.any() else None
    if period < 1000:
        assert first is not None
        slot = (np.arange(len(pulse)) - first) % period
        np.testing.assert_array_equal(pulse[:, 0], slot == 0)
        assert not pulse[:, 1].any()
        np.testing.assert_array_equal(square, np.repeat((slot < period // 2)[:, None], 2, axis=1))


@pytest.mark.parametrize("start", [0, 6, 1 << 40, (1 << 46) - 70])
@pytest.mark.parametrize("pattern_slots", [8, 12, 28, 4000, 0xFFFC])
def test_patterns_fall_in_step_with_the_slot_index(start, pattern_slots):
    lines = [LineSettings(mode=mode("pulse"))] + [LineSettings(mode=mode("square"))] * 7
    case = Case(200, [(20, 190, start)], lines, pattern_slots=pattern_slots)
    pulse = slot_levels(simulate(case)[:, 0])[:, 0]
    in_step = 20 if start == 0 else 20 + WordPhase.align_words
    slots = np.arange(4 * in_step, 4 * 190)
    index = (4 * start + slots - 4 * 20) % (1 << 48)
    np.testing.assert_array_equal(pulse[slots], index % pattern_slots == 0)


def phase_of(period, running, slot_word):
    columns = {"running": running, "slot_word": slot_word, "period": period}
    seen = step_words(WordPhase(32), columns, ["phase", "aligned"])
    return np.array(seen["phase"])[1:], np.array(seen["aligned"])[1:]


@pytest.mark.parametrize("seed", range(6))
def test_word_phase_against_the_model(seed):
    random = np.random.default_rng(seed)
    words = 600
    running = np.zeros(words, int)
    slot_word = random.integers(0, 1 << 46, words)
    cuts = [10, 10 + int(random.integers(20, 60)), 200, 330, 331, 590]
    for begin, end in zip(cuts[::2], cuts[1::2], strict=True):
        start = int(random.choice([0, (1 << 46) - 20, random.integers(1 << 46)]))
        running[begin:end] = 1
        slot_word[begin:end] = (start + np.arange(end - begin)) % (1 << 46)
    period = int(random.choice([0, 1, 2, 7, 100, (1 << 32) - 1, random.integers(1 << 32)]))
    phases, aligned = phase_of(np.full(words, period), running, slot_word)
    model_phases, model_aligned = word_phase(running, slot_word, period, WordPhase.align_words)
    np.testing.assert_array_equal(aligned, model_aligned[:-1])
    np.testing.assert_array_equal(phases, model_phases[:-1])
    in_step = aligned.astype(bool)
    np.testing.assert_array_equal(phases[in_step], slot_word[:-1][in_step] % max(period, 1))


def test_word_phase_follows_a_new_period():
    words = 300
    running = np.ones(words, int)
    running[:5] = 0
    slot_word = 977 + np.arange(words)
    period = np.where(np.arange(words) < 120, 50, 7)
    phases, aligned = phase_of(period, running, slot_word)
    assert (phases[121:] < 7).all()
    assert not aligned[121 : 121 + WordPhase.align_words].any()
    later = np.arange(121 + WordPhase.align_words, words - 1)
    assert aligned[later].all()
    np.testing.assert_array_equal(phases[later], slot_word[later] % 7)


@pytest.mark.parametrize("seed", range(6))
def test_random_runs_and_lines(seed):
    random = np.random.default_rng(seed)
    ready = (random.random(600) > 0.02 * (seed % 2)).astype(int)
    runs = [(10, 200, 0), (200 + int(random.integers(1, 70)), 430, int(random.integers(1 << 46))), (440, 590, 5)]
    lines = random_lines(random, LINE_MODES if seed % 3 == 0 else ("normal",))
    simulate(Case(600, runs, lines, seed=seed, ready=ready, pattern_slots=4 * int(random.integers(1, 40))))


def test_model_table_entry():
    table = np.zeros(512, np.uint16)
    table[2 | 3 << 2 | 9 << 5] = 0b10_01 << 4
    bins = line_bins(table, [2], [3], [9])
    assert bins[0, 2].tolist() == [1, 0]
    assert bins[0, 3].tolist() == [0, 1]
    assert bins.sum() == 2


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Modulator(), "bench_modulator", tmp_path)
