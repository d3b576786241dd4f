"""TimeBase against its golden model, and each promise of its docstring by name."""

import re

import numpy as np
import pytest
from amaranth.lib import data
from stepping import step_words

from benches import run_bench
from qrelay_gateware.layouts import status_layout
from qrelay_gateware.timebase import TimeBase
from qrelay_sim.golden.timebase import TIME_BASE_OUTPUTS, TimeBaseSettings, time_base

PORTS = ["go", "running", "slot_word", "armed", "finished", "refused", "sync_slip", "start_out"]
STATUS = data.Layout.cast(status_layout("timebase"))


def config_of(settings):
    names = ("start_source", "start_slot", "length", "sync_period")
    return {name: getattr(settings, name) for name in names}


def simulate(settings, words, **events):
    """Run the block; `events` maps strobes to words, and start_bins to {word: bins}. Returns model-shaped outputs."""
    columns = {name: np.zeros(words, int) for name in ("arm", "disarm", "start", "start_bins")}
    for name, places in events.items():
        for word in places:
            columns[name][word] = places[word] if name == "start_bins" else 1
    seen = step_words(TimeBase(settings.start_latency), columns, [*PORTS, "status"], config=config_of(settings))
    result = np.zeros(words, TIME_BASE_OUTPUTS)
    for name in PORTS:
        result[name] = seen[name]
    for word, bits in enumerate(seen["status"]):
        status = STATUS.from_bits(bits)
        for name in ("start_place", "sync_edges", "sync_slips"):
            result[name][word] = getattr(status, name)
        assert status.slot_now == 4 * int(result["slot_word"][word])
    np.testing.assert_array_equal(result, time_base(**columns, settings=settings))
    return result


def run_of(result):
    """First word and slot words of the only run."""
    words = np.flatnonzero(result["running"])
    assert np.array_equal(words, np.arange(words[0], words[-1] + 1))
    return words[0], result["slot_word"][words]


@pytest.mark.parametrize("start_latency", [2, 3, 40])
def test_command_starts_after_the_start_latency(start_latency):
    result = simulate(TimeBaseSettings(start_latency, start_slot=80), 70, arm=[3], start=[9])
    assert np.flatnonzero(result["go"]).tolist() == [9]
    first, slot_words = run_of(result)
    assert first == 9 + start_latency
    np.testing.assert_array_equal(slot_words, np.arange(20, 20 + 70 - first))
    np.testing.assert_array_equal(np.flatnonzero(result["armed"]), np.arange(4, first))
    assert result["start_place"][-1] == 0


@pytest.mark.parametrize("place", range(8))
def test_start_edge_in_each_bin(place):
    bins = {6: 0xFF << place & 0xFF, 7: 0xFF}
    result = simulate(TimeBaseSettings(4, start_source=1), 30, arm=[2], start_bins=bins)
    assert result["start_place"][-1] == place
    if place in (0, 7):
        assert np.flatnonzero(result["refused"]).tolist() == [6]
        assert not result["go"].any()
        assert not result["running"].any()
        assert not result["armed"][7:].any(), "must not start on a later edge than its partners"
    else:
        assert np.flatnonzero(result["go"]).tolist() == [6]
        assert not result["refused"].any()
        assert run_of(result)[0] == 10


def test_first_edge_of_a_word_decides():
    late_second = simulate(TimeBaseSettings(2, start_source=1), 20, arm=[2], start_bins={5: 0b10100100})
    assert late_second["go"][5]
    assert late_second["start_place"][-1] == 2
    early_first = simulate(TimeBaseSettings(2, start_source=1), 20, arm=[2], start_bins={5: 0b00010101})
    assert early_first["refused"][5]


def test_edge_needs_a_low_before_it():
    stuck_high = dict.fromkeys(range(20), 0xFF)
    result = simulate(TimeBaseSettings(2, start_source=1), 20, arm=[0], start_bins=stuck_high)
    assert not (result["go"] | result["refused"]).any(), "a line that idles high has no edge after reset"
    across_words = simulate(TimeBaseSettings(2, start_source=1), 20, arm=[2], start_bins={5: 0x80, 6: 0xFF})
    assert np.flatnonzero(across_words["refused"]).tolist() == [5], "the edge belongs to the word before"


@pytest.mark.parametrize("source", [0, 1])
def test_start_while_not_armed_does_nothing(source):
    settings = TimeBaseSettings(2, start_source=source)
    result = simulate(settings, 30, start=[3], start_bins={4: 0x70, 8: 0xF0})
    assert not (result["go"] | result["running"] | result["refused"] | result["start_place"]).any()
    same_word = simulate(settings, 30, arm=[5], start=[5], start_bins={5: 0xF0})
    assert not same_word["go"].any(), "arm acts from the next word on"


def test_each_source_ignores_the_other():
    by_command = simulate(TimeBaseSettings(2, start_source=0), 30, arm=[1], start_bins={5: 0x70})
    assert not (by_command["go"] | by_command["refused"]).any()
    by_input = simulate(TimeBaseSettings(2, start_source=1), 30, arm=[1], start=[5])
    assert not by_input["go"].any()


def test_start_strobe_always_sends_a_pulse():
    result = simulate(TimeBaseSettings(2, start_source=1), 12, start=[3, 4, 8])
    assert {word: int(bins) for word, bins in enumerate(result["start_out"]) if bins} == {4: 255, 5: 255, 9: 255}


@pytest.mark.parametrize("length", [4, 8, 40, 42])
@pytest.mark.parametrize("start_latency", [2, 5])
def test_length_ends_the_run(length, start_latency):
    result = simulate(TimeBaseSettings(start_latency, length=length, start_slot=16), 40, arm=[1], start=[5])
    first, slot_words = run_of(result)
    np.testing.assert_array_equal(slot_words, 4 + np.arange(length // 4))
    end = first + length // 4
    np.testing.assert_array_equal(np.flatnonzero(result["finished"]), np.arange(end, 40))
    assert (result["slot_word"][end:] == 4 + length // 4).all()


def test_endless_run_ends_with_disarm_only():
    result = simulate(TimeBaseSettings(2, length=0), 60, arm=[1], start=[3], disarm=[50])
    np.testing.assert_array_equal(np.flatnonzero(result["running"]), np.arange(5, 51))
    assert not result["finished"].any()


def test_restart_needs_disarm_first():
    settings = TimeBaseSettings(3, start_slot=8)
    ignored = simulate(settings, 40, arm=[1, 6, 12], start=[3, 8, 14])
    assert np.flatnonzero(ignored["go"]).tolist() == [3]
    assert run_of(ignored)[0] == 6
    again = simulate(settings, 40, arm=[1, 16], disarm=[15], start=[3, 20])
    assert np.flatnonzero(again["go"]).tolist() == [3, 20]
    assert again["slot_word"][23] == 2
    assert not again["running"][16:23].any()


def test_arm_after_the_end_clears_finished_and_sync_counts():
    settings = TimeBaseSettings(2, length=32, sync_period=4)
    result = simulate(settings, 60, arm=[1, 30], start=[3, 34], start_bins={8: 0x10})
    assert result["finished"][29]
    assert result["sync_slips"][29] == 1
    assert not result["finished"][31:40].any()
    assert result["sync_slips"][31] == 0
    assert np.flatnonzero(result["go"]).tolist() == [3, 34]


@pytest.mark.parametrize("word", [2, 4, 5, 6, 8])
def test_disarm_wins_in_every_state(word):
    """Waiting, in the word of the start, pending, in the word before the run, running."""
    result = simulate(TimeBaseSettings(3), 30, arm=[1], start=[4], disarm=[word])
    assert not (result["armed"] | result["running"])[word + 1 :].any()
    if word <= 4:
        assert not result["go"].any()
    both = simulate(TimeBaseSettings(3), 30, arm=[1], disarm=[1], start=[4])
    assert not (both["armed"] | both["go"]).any()


def test_disarm_in_the_last_word_wins_over_finished():
    settings = TimeBaseSettings(3, length=40)
    result = simulate(settings, 30, arm=[1], start=[4], disarm=[16])
    np.testing.assert_array_equal(np.flatnonzero(result["running"]), np.arange(7, 17))
    assert not result["finished"].any()


def test_refused_start_can_be_armed_again():
    settings = TimeBaseSettings(2, start_source=1)
    result = simulate(settings, 30, arm=[1, 10], start_bins={5: 0xFF, 7: 0xF0, 14: 0xF8})
    assert np.flatnonzero(result["refused"]).tolist() == [5]
    assert np.flatnonzero(result["go"]).tolist() == [14]
    assert result["start_place"][-1] == 3


SYNC = TimeBaseSettings(4, start_source=1, sync_period=10)
START = {5: 0b11100000}


def test_sync_edges_in_place_are_no_slips():
    result = simulate(SYNC, 60, arm=[1], start_bins=START | dict.fromkeys((15, 25, 35, 45), 224))
    assert result["sync_edges"][-1] == 4
    assert result["sync_slips"][-1] == 0
    assert not result["sync_slip"].any()


def test_missing_sync_edges_are_no_slips():
    result = simulate(SYNC, 60, arm=[1], start_bins=START | {45: 0xE0})
    assert (result["sync_edges"][-1], result["sync_slips"][-1]) == (1, 0)


@pytest.mark.parametrize(
    ("word", "bins"),
    [(24, 0xE0), (26, 0xE0), (25, 0xF0), (25, 0xC0), (25, 0x80), (25, 0xFF)],
    ids=["early word", "late word", "early bin", "late bin", "last bin", "first bin"],
)
def test_sync_edge_out_of_place_slips(word, bins):
    result = simulate(SYNC, 60, arm=[1], start_bins=START | {15: 0xE0, word: bins})
    assert (result["sync_edges"][-1], result["sync_slips"][-1]) == (2, 1)
    assert np.flatnonzero(result["sync_slip"]).tolist() == [word + 1]


def test_two_edges_in_a_word_count_as_two():
    result = simulate(SYNC, 60, arm=[1], start_bins=START | {15: 0b10100010})
    assert (result["sync_edges"][-1], result["sync_slips"][-1]) == (3, 2)


def test_sync_period_one_and_zero():
    bins = START | dict.fromkeys(range(6, 40), 32)
    every_word = simulate(TimeBaseSettings(2, start_source=1, sync_period=1), 40, arm=[1], start_bins=bins)
    assert (every_word["sync_edges"][-1], every_word["sync_slips"][-1]) == (31, 0), "two words behind"
    unchecked = simulate(TimeBaseSettings(2, start_source=1), 40, arm=[1], start_bins=START | {9: 0x40, 13: 0x02})
    assert (unchecked["sync_edges"][-1], unchecked["sync_slips"][-1]) == (2, 0)


def test_edges_before_the_first_word_do_not_count():
    result = simulate(SYNC, 40, arm=[1], start_bins=START | {7: 0x10, 8: 0x10})
    assert result["sync_edges"][-1] == 0


def test_slot_index_wraps():
    result = simulate(TimeBaseSettings(2, start_slot=(1 << 48) - 16), 20, arm=[1], start=[3])
    assert run_of(result)[1][:6].tolist() == [(1 << 46) - 4 + k for k in range(4)] + [0, 1]


def test_start_slot_counts_in_blocks_of_eight():
    result = simulate(TimeBaseSettings(2, start_slot=8 * 5 + 7), 20, arm=[1], start=[3])
    assert run_of(result)[1][0] == 10


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_start_latency_must_be_two_words_or_more():
    message = "start_latency 1: the first word follows the start by at least 2 words"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TimeBase(1)


@pytest.mark.parametrize("seed", range(6))
def test_random_strobes_and_edges(seed):
    random = np.random.default_rng(seed)
    words = 1500
    settings = TimeBaseSettings(
        start_latency=int(random.integers(2, 12)),
        start_source=int(seed % 2),
        start_slot=int(random.choice([0, 800, (1 << 48) - 80])),
        length=int(random.choice([0, 4, 120])),
        sync_period=int(random.choice([0, 1, 3, 8])),
    )
    rates = {"arm": 0.1, "disarm": 0.01, "start": 0.1}
    events = {name: np.flatnonzero(random.random(words) < rate) for name, rate in rates.items()}
    # Edges at a few favourite bins, so that starts, refusals, right and wrong sync edges all occur.
    bins = {word: int(random.choice([1, 2, 4, 0x80, 0x14, 0xFF, 0xFC])) for word in range(0, words, 3)}
    result = simulate(settings, words, **events, start_bins=bins)
    assert result["running"].any()
    assert result["go"].sum() > 3


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(TimeBase(7), "bench_timebase", tmp_path, inside=("words_left",))
