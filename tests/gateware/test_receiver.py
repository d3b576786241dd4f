"""The whole receiver against the models of its blocks."""

import dataclasses
import re

import numpy as np
import pytest
from receiver_scenarios import PREAMBLE, exactly_one_per_node, quiet, scenario, settings_of_all, with_hits
from stepping import step_words
from test_counters import spaced

from benches import run_bench
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay_gateware.receiver import Receiver


def random_scenario(seed, words=500):
    """Random settings, table, runs, segments, strobes and hits; rates from one hit in 50 words to saturation."""
    random = np.random.default_rng(seed)
    running = np.repeat(random.random(10) < 0.85, words // 10) & (random.random(words) < 0.995)
    stimulus = quiet(
        words,
        frame_words=int(random.choice([1, 5, 16, 64])),
        segments=random.permutation([2, 2, 2, 2, 0, 1, 3]).tolist(),
        running=running,
        start_word=int(random.integers(0, (1 << 46) - 1000)),
    )
    shape = stimulus.valid.shape
    rate = random.choice([0.005, 0.05, 0.3, 1.0], 4)[:, np.newaxis]
    # Hits come at all times, also without a run; their fines in a comb, so that gates and carries meet their borders.
    valid = random.random(shape) < rate
    fine = random.choice([random.integers(0, 256, 8), np.array([0, 1, 63, 64, 127, 128, 254, 255])][seed % 2], shape)
    total = len(stimulus.running)
    stimulus = dataclasses.replace(
        stimulus,
        valid=valid,
        fine=np.where(valid, fine, 0).astype(np.uint8),
        latch=stimulus.latch | spaced((random.random(total) < 0.02) & (np.arange(total) < PREAMBLE + words - 50)),
        clear=stimulus.clear | spaced(random.random(total) < 0.005),
    )
    settings = settings_of_all(
        enable=random.random(4) < 0.9,
        delay_slots=random.choice([0, 1, 2, 3, 5, 8, 61], 4),
        delay_fine=random.choice([0, 1, 100, 255], 4),
        dead_slots=random.choice([0, 0, 1, 2, 3, 4, 9, 65535], 4),
        gate_start=random.integers(0, 256, 4),
        gate_width=random.choice([256, 256, 128, 60, 0], 4),
        late_start=random.integers(0, 256, 4),
        late_width=random.choice([0, 128, 60, 256], 4),
    ) | {
        "windows": int(random.random() < 0.5),
        "live_mask": int(random.choice([0, 15, 15, 5, 8])),
        "blank": int(random.choice([0b1010, 0b1010, 0, 0b0011])),
        "rate_words": int(random.choice([1, 37, 200])),
        "pulser_period": int(random.choice([0, 0, 7, 50])),
        "pulser_mask": int(random.integers(0, 16)),
        "pulser_lane": int(random.integers(0, 4)),
        "pulser_fine": int(random.integers(0, 256)),
    }
    table = random.integers(0, 16, 256).astype(np.uint8)
    table[0] *= random.random() < 0.3
    reference = {"mode": seed % 4, "bins": 1 + seed % 3, "sum_frames": 1 + seed % 5}
    return scenario(f"random_{seed}", stimulus, settings, table, reference=reference)


def successes(*expected):
    """Expected (slot since the start of the run, pattern, outcome)."""

    def expect(model):
        words, places = np.nonzero(model.success >= 0)
        items = model.success[words, places]
        found = [(4 * (int(w) - PREAMBLE) + (i & 3), i >> 2 & 255, i >> 10) for w, i in zip(words, items, strict=True)]
        assert found == list(expected)

    return expect


def counted(**expected):
    """Expected counters, of those named, in the last copy."""

    def expect(model):
        found = model.counters[-1][1]
        assert {name: found[name] for name in expected} == expected

    return expect


def cases():
    every = np.arange(256)
    for seed in range(24):
        yield random_scenario(seed)

    pair = with_hits(quiet(64), (0, 41, 10), (3, 41, 250))
    yield scenario("success", pair, expect=successes((41, 0b1001, 2)))
    yield scenario("receiver_off", pair, {"enable": 0}, expect=counted(slots=0, singles_0=0, outcome_2=0))
    yield scenario("detector_off", pair, {"enable_3": 0}, expect=counted(singles_3=0, clicks_0=1, live_slots=256))

    # A success whose rule has a blind detector is vetoed, unless the mask leaves that detector out.
    blinded = with_hits(quiet(64), (1, 40, 10), (0, 41, 10), (3, 41, 250))
    dead = settings_of_all(dead_slots=[0, 1, 0, 0])
    yield scenario("vetoed", blinded, dead, expect=counted(vetoed=1, outcome_2=0, slots=256, live_slots=255))
    yield scenario(
        "blind_but_not_in_the_rule", blinded, dead | {"live_mask": 0b1101}, expect=successes((41, 0b1001, 2))
    )

    for dead_slots in (0, 1, 2, 3, 4, 9):
        # The last slot of the dead time and the first after it.
        hits = [(2, slot, 5) for slot in (21, 21 + dead_slots, 22 + dead_slots)]
        lost = int(dead_slots > 0)
        yield scenario(
            f"dead_time_{dead_slots}",
            with_hits(quiet(64), *hits),
            settings_of_all(dead_slots=dead_slots),
            expect=counted(singles_2=2 + lost, dead_2=lost, clicks_2=2, live_slots=256 - 2 * dead_slots),
        )
    blank = quiet(64, segments=(1, 1, 2, 2))
    in_guard = with_hits(blank, (0, 3, 0), (0, 9, 0), (1, 9, 0), (0, 15, 0))
    yield scenario(
        "blanked_hits_start_dead_times",
        in_guard,
        settings_of_all(dead_slots=8),
        expect=counted(slots=128, gated_out_0=1, dead_0=1, clicks_0=1, clicks_1=1, live_slots=128 - 8),
    )

    # One hit at every fine: the gate's first and last fine, wrapped, empty and full.
    comb = with_hits(quiet(300), *[(d, int(4 * f + d), int(f)) for f in every for d in range(4)])
    for name, start, width, clicks in (
        ("gate_inside", 100, 56, 56),
        ("gate_wraps", 200, 80, 80),
        ("gate_width_0", 9, 0, 0),
        ("gate_width_256", 9, 256, 256),
    ):
        yield scenario(
            name,
            comb,
            settings_of_all(gate_start=start, gate_width=width),
            expect=counted(clicks_1=clicks, gated_out_1=256 - clicks),
        )
    both = settings_of_all(gate_start=0, gate_width=128, late_start=100, late_width=100) | {"windows": 1}
    by_window = np.zeros(256, np.uint8)
    by_window[[1, 2]] = 3, 4
    yield scenario("early_and_late", comb, both, by_window, expect=counted(outcome_3=128, outcome_4=72, clicks_2=200))

    met = with_hits(quiet(64), (0, 41, 200), (0, 42, 50))
    yield scenario(
        "two_hits_pushed_in_one_slot",
        met,
        settings_of_all(delay_fine=100),
        expect=counted(singles_0=2, dead_0=1, clicks_0=1),
    )
    delayed = with_hits(quiet(600), *[(d, 17, 200) for d in range(4)])
    delays = settings_of_all(delay_slots=[100, 99, 2000, 2000], delay_fine=[0, 56, 1, 0])
    four = np.zeros(256, np.uint8)
    four[[3, 12]] = 1, 2
    yield scenario("delays_align", delayed, delays, four, expect=successes((117, 3, 1), (2017, 12, 2)))

    yield scenario(
        "doubles",
        with_hits(quiet(64), (0, 8, 1), (1, 8, 1), (2, 8, 1), (0, 9, 1), (3, 11, 1), (2, 11, 9)),
        expect=counted(doubles=2),
    )
    stuck = with_hits(quiet(64), *[(d, slot, 7) for d in range(4) for slot in range(256)])
    every_slot = np.zeros(256, np.uint8)
    every_slot[15] = 15
    yield scenario("four_successes_per_word", stuck, None, every_slot, expect=counted(outcome_15=256, clicks_3=256))
    always = np.ones(256, np.uint8)
    yield scenario("outcome_of_the_empty_pattern", quiet(64), None, always, expect=counted(outcome_1=256))

    # Clicks and successes in the last word of a frame and the first of the next.
    frames = with_hits(quiet(64, frame_words=8), *[(d, slot, 1) for slot in (31, 32, 33) for d in (1, 2)])

    def frame_counts(model):
        fields = [RECORDS[RecordKind.FRAME].unpack(record) for _, record in model.frames]
        assert [(f["frame"], f["clicks"], f["successes"]) for f in fields[:3]] == [(0, 2, 1), (1, 4, 2), (2, 0, 0)]

    yield scenario("frame_border", frames, expect=frame_counts)

    # Clicks of the reference segment go to its counters although it is blanked; those of the guard go nowhere. Bins are
    # words 0 and 1, 2 and 3, ... of three; a hit is counted in the bin of the slot that its delay gives it.
    layout = quiet(64, frame_words=16, segments=(0,) * 5 + (1,) * 3 + (2,) * 8)
    hits = [(0, 1, 1), (0, 8, 1), (3, 8, 1), (0, 16, 1), (0, 19, 1), (1, 20, 1), (1, 40, 1), (2, 16, 1)]

    def reference_counts(model):
        ((_, first), *others) = model.reference
        fields = [RECORDS[RecordKind.REFERENCE].unpack(record) for record in first]
        found = [(f["bin"], f["pair"], f["first"], f["second"]) for f in fields]
        assert found == [(0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 1, 0), (1, 1, 0, 1), (2, 0, 2, 0), (2, 1, 0, 0)]
        assert len(others) == 3
        counters = model.counters[-1][1]
        assert (counters["clicks_0"], counters["clicks_1"], counters["gated_out_1"]) == (0, 1, 1)
        assert RECORDS[RecordKind.FRAME].unpack(model.frames[0][1])["clicks"] == 1

    yield scenario(
        "reference_segment",
        with_hits(layout, *hits),
        {"blank": 0b1011, "delay_slots_2": 4},
        expect=reference_counts,
    )

    pulser = {"pulser_period": 10, "pulser_mask": 0b1001, "pulser_lane": 2, "pulser_fine": 77}
    no_run = quiet(64, running=np.zeros(64, bool))

    def pulser_rate(model):
        assert model.rates[:, -1].tolist() == [10, 0, 0, 10]

    yield scenario("pulser_without_a_run", no_run, pulser, expect=pulser_rate)
    # The run is words 260..323, the pulses come in words 260, 270 .. 320.
    yield scenario("pulser_in_a_run", quiet(64), pulser, expect=counted(clicks_0=7, clicks_3=7, outcome_2=7))


CASES = list(cases())


def _each_seventh_random(all_cases):
    """Fewer: Amaranth's simulator takes minutes for what the bench does in seconds."""
    return [
        case
        for case in all_cases
        if not (number := re.fullmatch(r"random_(\d+)", str(case))) or int(number[1]) % 7 == 0
    ]


@pytest.mark.parametrize("case", _each_seventh_random(CASES), ids=str)
def test_equals_the_model(case):
    case.check(step_words(Receiver, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Receiver(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_receiver"})


def test_the_relay_table_has_four_outcomes():
    table = exactly_one_per_node()
    assert {int(p): int(table[p]) for p in np.flatnonzero(table)} == {0b0101: 1, 0b1001: 2, 0b0110: 3, 0b1010: 4}
