"""Counters and their copies, by themselves; the bench of the receiver has them with all that feeds them."""

import numpy as np
import pytest
from receiver_cases import Case
from stepping import step_words

from benches import run_bench
from qrelay.protocol.registers import DETECTORS, GROUPS
from qrelay_gateware.command import SETTLE_CLOCKS
from qrelay_gateware.counters import Counters
from qrelay_gateware.csr import WRITE_LATENCY
from qrelay_gateware.receiver import Receiver
from qrelay_sim.golden.counters import copies

__all__ = ["assert_copies", "scanned_addresses", "spaced"]

GROUP = next(group for group in GROUPS if group.name == "counters")
READ_CLOCKS = 2
MOST_CLEARS = 1
"""In one round, in the cases here."""


def scanned_addresses(words, rounds=None):
    """Addresses of all copies in turn, one a word; as many as `words`, or as `rounds` need."""
    return [word % GROUP.words for word in range(words if rounds is None else rounds * GROUP.words)]


def spaced(latch, words=Counters.round_words + 3):
    """Only those latches that come `words` after the last one; a clear between may make a round longer."""
    kept = np.zeros_like(latch)
    last = -words
    for word in np.flatnonzero(latch):
        if word - last >= words:
            kept[word] = True
            last = word
    return kept


def assert_copies(values, latches, delay=0):
    """Each value read is that of the last latch, or, while its copies are written, of the one before.

    Before the first latch the copies may hold anything: memories outlive a reset.
    `latches` are those of the golden model, (word, counters by name), which come `delay` words later to the counters;
    `values` those of `scanned_addresses`.
    """
    names = [register.name for register in GROUP.registers]
    before = after = None
    written = 0
    coming = list(latches)
    checked = set()
    for word in range(READ_CLOCKS, len(values)):
        asked = word - READ_CLOCKS
        while coming and coming[0][0] + delay <= asked:
            before, (latched, after) = after, coming.pop(0)
            written = latched + delay + Counters.latency + MOST_CLEARS
            checked = set()
        address = asked % GROUP.words
        shown = (after,) if asked >= written else (before, after)
        if None in shown:
            continue
        if asked >= written:
            checked.add(address)
        expected = {counters[names[address // 2]] >> 32 * (address % 2) & 0xFFFFFFFF for counters in shown}
        assert int(values[word]) in expected, f"{names[address // 2]}, word {word}"
    assert not latches or len(checked) == GROUP.words, "the last copies were not read"


def case(name, seed, words, rates, latch, clear):
    random = np.random.default_rng(seed)
    tail = Counters.latency + GROUP.words + READ_CLOCKS + 1
    latch = np.concatenate((latch, np.arange(tail) == 0))
    clear = np.concatenate((clear, np.zeros(tail, bool)))
    clear[0] = True
    total = words + tail
    busy = random.random(total) < rates["words"]

    def bits(*shape):
        return (random.random((total, *shape)) < rates["bits"]) & busy.reshape(-1, *[1] * len(shape))

    counted = random.random(total) < 0.9
    live = bits(4)
    hits = bits(DETECTORS, 4)
    extra = bits(DETECTORS, 4) & (np.arange(4) == 0) & hits.any(axis=2, keepdims=True)
    passed = bits(DETECTORS, 4) & hits
    clicks = bits(DETECTORS, 4) & passed
    double, vetoed = bits(4), bits(4)
    outcomes = np.where(bits(4), random.integers(1, 16, (total, 4)), 0)

    def ones(array):
        return array.sum(axis=-1).astype(np.int64)

    steps = {
        "slots": 4 * counted.astype(np.int64),
        "live_slots": ones(live) * counted,
        "doubles": ones(double),
        "vetoed": ones(vetoed),
        **{f"outcome_{k}": ones(outcomes == k) for k in range(1, 16)},
    }
    for d in range(DETECTORS):
        steps[f"singles_{d}"] = ones(hits[:, d]) + ones(extra[:, d])
        steps[f"dead_{d}"] = ones(hits[:, d] & ~passed[:, d]) + ones(extra[:, d])
        steps[f"gated_out_{d}"] = ones(passed[:, d] & ~clicks[:, d])
        steps[f"clicks_{d}"] = ones(clicks[:, d])

    def packed(array, width=1):
        flat = np.asarray(array).reshape(total, -1).astype(object)
        return [sum(int(value) << width * place for place, value in enumerate(row)) for row in flat]

    inputs = {
        "latch": latch.astype(int).tolist(),
        "clear": clear.astype(int).tolist(),
        "counted": counted.astype(int).tolist(),
        "live": packed(live),
        "hits": packed(hits),
        "extra": packed(extra),
        "passed": packed(passed),
        "clicks": packed(clicks),
        "doubles": packed(double),
        "vetoed": packed(vetoed),
        "outcomes": packed(outcomes, 4),
        "copies.address": scanned_addresses(total),
    }

    def check(seen):
        assert_copies(seen["copies.value"], copies(steps, latch, clear))

    return Case(name, inputs, ("copies.value",), check)


def at(words, *places):
    return np.isin(np.arange(words), places)


def cases():
    full = {"words": 1.0, "bits": 1.0}
    none = np.zeros(200, bool)
    yield case("every_counter_at_its_most", 1, 3000, full, spaced(at(3000, 150, 1000)), np.zeros(3000, bool))
    for seed in range(6):
        random = np.random.default_rng(100 + seed)
        words = 2000
        rates = {"words": random.choice([0.02, 0.5, 1.0]), "bits": random.choice([0.1, 0.5, 0.9])}
        # Clears in the word of a latch, a few words before and a few words behind it.
        latch = spaced(random.random(words) < 0.01, 60)
        clear = np.zeros(words, bool)
        for word in np.flatnonzero(latch):
            if random.random() < 0.7:
                clear[np.clip(word + random.integers(-40, 41), 0, words - 1)] = True
        yield case(f"random_{seed}", seed, words, rates, latch, clear)
    yield case("latches_as_near_as_may_be", 9, 200, full, at(200, 30, 30 + Counters.round_words), none)
    yield case("latch_and_clear_in_a_word", 10, 200, full, at(200, 50), at(200, 50))
    for distance in (1, 5, Counters.round_words - 2, Counters.round_words - 1, Counters.round_words):
        yield case(f"latch_{distance}_after_clear", 11, 200, full, at(200, 50 + distance), at(200, 50))
        yield case(f"clear_{distance}_after_latch", 12, 200, full, at(200, 50), at(200, 50 + distance))
    yield case("clears_in_a_row", 13, 200, full, at(200, 60), at(200, 40, 41, 45, 58))


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(Counters, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Counters(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_counters"})


def test_a_latch_within_a_round_is_not_seen():
    inputs = {
        "counted": [1] * 200,
        "latch": at(200, 50, 50 + Counters.round_words - 1).astype(int).tolist(),
        "copies.address": [0] * 200,
    }
    seen = step_words(Counters, inputs, ("copies.value",))
    assert seen["copies.value"][-1] == 4 * 50


def test_a_latch_has_done_its_work_when_it_is_answered():
    assert WRITE_LATENCY + Receiver.latch_latency < SETTLE_CLOCKS
