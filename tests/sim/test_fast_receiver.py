"""The fast twin's receiver in one pass, held bit for bit against the golden model of the gateware's receiver."""

from itertools import pairwise

import numpy as np
import pytest

from qrelay.frame import FrameLayout
from qrelay.protocol.records import RecordKind
from qrelay.protocol.registers import SEGMENT_KINDS
from qrelay.record_arrays import unpack_records
from qrelay_sim.fast.frame_map import FrameMap, count_before, to_slots
from qrelay_sim.fast.receiver_sweep import COUNTERS, ReceiverSettings, detect, sweep
from qrelay_sim.golden.receiver import ReceiverInput, receiver

LAYOUTS = {
    "quantum": FrameLayout((2,), (64,)),
    "mixed": FrameLayout((0, 1, 2, 3, 2), (16, 8, 40, 8, 24)),
}
ORIGIN = 800


def random_case(rng, layout):
    """Registers, success table and edges [4][slot, fine] of 4000 slots."""
    slots = 4032
    settings = {"windows": int(rng.integers(2)), "blank": 0b1011, "live_mask": 0, "enable": 1}
    edges = []
    for d in range(4):
        enabled = int(rng.random() < 0.9)
        settings |= {
            f"enable_{d}": enabled,
            f"delay_slots_{d}": int(rng.choice([0, 1, 7, 300])),
            f"delay_fine_{d}": int(rng.choice([0, 0, 63, 64, 200])),
            f"dead_slots_{d}": int(rng.choice([0, 0, 1, 5, 40])),
            f"gate_start_{d}": int(rng.choice([0, 30, 250])),
            f"gate_width_{d}": int(rng.choice([256, 0, 40, 100])),
            f"late_start_{d}": int(rng.choice([0, 128, 250])),
            f"late_width_{d}": int(rng.choice([0, 40, 128])),
        }
        settings["live_mask"] |= enabled << d
        hit = np.flatnonzero(rng.random(slots) < rng.choice([0.02, 0.2, 0.7]))
        edges.append(hit * 256 + rng.integers(0, 256, len(hit)))
    table = rng.integers(0, 16, 256) * (rng.random(256) < 0.7)
    table[0] = 0
    return settings, table.astype(np.uint8), edges, slots


def golden(settings, table, edges, slots, layout):
    words = slots // 4
    place = np.arange(0, slots, 4) % layout.slots
    segment = np.asarray(layout.kinds)[np.searchsorted(np.cumsum(layout.lengths), place, side="right")]
    valid, fine = np.zeros((4, slots + 4), bool), np.zeros((4, slots + 4), np.uint8)
    for d, places in enumerate(edges):
        valid[d, places >> 8] = True
        fine[d, places >> 8] = places & 255
    running = np.append(np.ones(words, bool), False)
    latch = np.append(np.zeros(words, bool), True)
    stimulus = ReceiverInput(
        running,
        np.arange(words + 1),
        np.append(segment, 0),
        np.append(np.arange(words) * 4 // layout.slots, 0),
        np.append((place + 4) % layout.slots == 0, False),
        latch,
        np.zeros(words + 1, bool),
        valid,
        fine,
    )
    return receiver(settings, table, stimulus)


def swept(settings, table, edges, layout, begin, end):
    def column(name):
        return np.array([settings[f"{name}_{d}"] for d in range(4)], np.int64)

    registers = ReceiverSettings(
        column("delay_slots") * 256 + column("delay_fine"),
        column("dead_slots"),
        column("gate_start"),
        column("gate_width"),
        column("late_start"),
        column("late_width"),
        column("enable"),
        bool(settings["windows"]),
        table,
    )
    return sweep(tuple(edges), registers, FrameMap.of(layout, "quantum"), begin, end, ORIGIN, True)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("seed", range(12))
def test_sweep_is_the_gateware(layout, seed):
    settings, table, edges, slots = random_case(np.random.default_rng(seed), layout)
    expected = golden(settings, table, edges, slots, layout)
    successes, clicks, counters, click_slots = swept(settings, table, edges, layout, 0, slots)
    (_, copied), *_ = expected.counters
    assert dict(zip(COUNTERS, counters.tolist(), strict=True)) == copied | {"outcome_0": 0}
    word, place = np.nonzero(expected.success >= 0)
    items = expected.success[word, place]
    records = unpack_records(RecordKind.SUCCESS, successes)
    assert records["slot"].tolist() == (ORIGIN + 4 * word + (items & 3)).tolist()
    assert records["pattern"].tolist() == (items >> 2 & 255).tolist()
    assert records["outcome"].tolist() == (items >> 10 & 15).tolist()
    word, place = np.nonzero(expected.clicks >= 0)
    items = expected.clicks[word, place]
    records = unpack_records(RecordKind.CLICK, clicks)
    assert records["slot"].tolist() == (ORIGIN + 4 * word + (items & 3)).tolist()
    assert records["fine"].tolist() == (items >> 2 & 255).tolist()
    assert records["detector"].tolist() == (items >> 10 & 15).tolist()
    assert len(click_slots) == sum(copied[f"clicks_{d}"] for d in range(4))


@pytest.mark.parametrize("seed", range(6))
def test_parts_of_a_sweep_add_up(seed):
    """Edges before a part start its dead times; nothing is counted twice or lost at a border."""
    layout = LAYOUTS["mixed"]
    settings, table, edges, slots = random_case(np.random.default_rng(100 + seed), layout)
    whole = swept(settings, table, edges, layout, 0, slots)
    borders = [0, 1000, 1001, 2500, slots]
    parts = [swept(settings, table, edges, layout, a, b) for a, b in pairwise(borders)]
    np.testing.assert_array_equal(sum(part[2] for part in parts), whole[2])
    for k in (0, 3):
        np.testing.assert_array_equal(np.concatenate([part[k] for part in parts]), whole[k])


def test_detector_is_blind_after_a_click_and_light_goes_first():
    none = np.full(4, -1)
    light = np.array([10, 12, 20, 40])
    dark = np.array([12, 13, 20, 41])
    edges, after = detect(light, light * 256 + 64, np.array([-1, -1, 7777, -1]), (dark, dark * 256 + 192, none), 2)
    assert edges.tolist() == [10 * 256 + 64, 13 * 256 + 192, 20 * 256 + 64, 40 * 256 + 64]
    assert after.tolist() == [7777]
    edges, _ = detect(light, light * 256 + 64, none, (dark, dark * 256 + 192, none), 0)
    assert edges.tolist() == [e * 256 + f for e, f in ((10, 64), (12, 64), (13, 192), (20, 64), (40, 64), (41, 192))]


@pytest.mark.parametrize("kind", SEGMENT_KINDS)
def test_slots_of_a_kind_are_counted_and_found(kind):
    layout = LAYOUTS["mixed"]
    frame = FrameMap.of(layout, kind)
    slots = np.arange(5 * layout.slots, dtype=np.uint64)
    of_kind = np.flatnonzero(layout.kind_of(slots, 0) == SEGMENT_KINDS.index(kind))
    np.testing.assert_array_equal(to_slots(frame, np.arange(len(of_kind)), 0), of_kind)
    np.testing.assert_array_equal(to_slots(frame, np.arange(len(of_kind) - 20), 20), of_kind[20:])
    for slot in (0, 1, 16, 17, 63, 96, 100, 333):
        assert count_before(frame, slot) == np.count_nonzero(of_kind < slot)
