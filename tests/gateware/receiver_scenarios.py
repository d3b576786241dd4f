"""Whole-receiver scenarios: settings, table, words and hits; their port columns; the comparison with the model."""

import dataclasses

import numpy as np
from amaranth.lib import data
from receiver_cases import Case, assert_columns, hit_bits, split_bits, tick_bits
from test_clicks import detector_bits
from test_counters import MOST_CLEARS, assert_copies, scanned_addresses

from qrelay.protocol.registers import DETECTORS, OUTCOMES
from qrelay_gateware.counters import Counters
from qrelay_gateware.layouts import WordRecords, config_layout
from qrelay_gateware.rate import RateMeter
from qrelay_gateware.receiver import Receiver
from qrelay_gateware.reference import ReferenceCounters
from qrelay_sim.golden.receiver import ReceiverInput, receiver, receiver_config

__all__ = ["OUTPUTS", "PREAMBLE", "exactly_one_per_node", "quiet", "scenario", "settings_of_all", "with_hits"]

_CONFIG = data.Layout.cast(config_layout("receiver"))
_REFERENCE = data.Layout.cast(config_layout("reference"))
_RECORDS = data.Layout.cast(WordRecords)
PREAMBLE = 256 + 4
"""Words in which the success table is written and the settings settle; no run."""
POSTAMBLE = Receiver.latch_latency + len(scanned_addresses(0, rounds=1)) + MOST_CLEARS + 3
"""Words in which the last counters are copied and read; no run."""
OUTPUTS = (
    "success",
    "clicks",
    "clicks_beyond_four",
    "frame",
    "frame_valid",
    "reference",
    "reference_valid",
    "reference_lost",
    "hit_bits",
    "click_bits",
    "success_bits",
    "copies.value",
    "status",
)
RATE_LATE_WORDS = 1 + RateMeter.latency - 1
"""Words from a hit to the clock in which the rate meter adds it."""


def exactly_one_per_node():
    """Table of the relay: exactly one click of detectors 0, 1 and exactly one of 2, 3; outcome 1 + 2 * i + j."""
    table = np.zeros(256, np.uint8)
    for i in range(2):
        for j in range(2):
            table[1 << i | 4 << j] = 1 + 2 * i + j
    return table


def settings_of_all(**settings):
    """Per-detector settings from one value or four."""
    return {
        f"{name}_{d}": np.broadcast_to(value, DETECTORS)[d].item() for name, value in settings.items() for d in range(4)
    }


def quiet(words, *, frame_words=16, segments=(2,), running=None, start_word=1000):
    """Words without hits or strobes, in frames of `frame_words` whose word k is of kind segments[k % len]."""
    running = np.ones(words, bool) if running is None else running
    running = np.concatenate((np.zeros(PREAMBLE, bool), running, np.zeros(POSTAMBLE, bool)))
    total = len(running)
    # Words since the start of their run.
    index = np.arange(total)
    started = running & ~np.concatenate(([False], running[:-1]))
    age = index - np.maximum.accumulate(np.where(started, index, 0))
    return ReceiverInput(
        running=running,
        slot_word=np.where(running, age + start_word, 0),
        segment=np.where(running, np.array(segments)[age % len(segments)], 3),
        frame=np.where(running, age // frame_words, 0),
        frame_last=running & (age % frame_words == frame_words - 1),
        latch=index == total - POSTAMBLE,
        clear=index == 0,
        valid=np.zeros((DETECTORS, 4 * total), bool),
        fine=np.zeros((DETECTORS, 4 * total), np.uint8),
        phase=np.where(running, age // 2 % 3, 0),
    )


def with_hits(stimulus, *hits):
    """Hits (detector, slot of the first run counted from its start, fine) added."""
    valid = stimulus.valid.copy()
    fine = stimulus.fine.copy()
    for detector, slot, place in hits:
        valid[detector, 4 * PREAMBLE + slot] = True
        fine[detector, 4 * PREAMBLE + slot] = place
    return dataclasses.replace(stimulus, valid=valid, fine=fine)


def columns(settings, table, stimulus, reference):
    total = len(stimulus.running)
    by_detector = [hit_bits(v, f).tolist() for v, f in zip(stimulus.valid, stimulus.fine, strict=True)]
    rest = [0] * (total - 256)
    ticks = ("running", "slot_word", "segment", "phase", "frame", "frame_last")
    return {
        "config": [_CONFIG.const(receiver_config(settings)).as_value().value] * total,
        "reference_config": [_REFERENCE.const(reference).as_value().value] * total,
        "success_table.enable": [1] * 256 + rest,
        "success_table.address": [*range(256), *rest],
        "success_table.value": [*table.tolist(), *rest],
        "tick": tick_bits(**{name: getattr(stimulus, name) for name in ticks}),
        "hits": [sum(part << 36 * d for d, part in enumerate(parts)) for parts in zip(*by_detector, strict=True)],
        "latch": stimulus.latch.astype(int).tolist(),
        "clear": stimulus.clear.astype(int).tolist(),
        "copies.address": scanned_addresses(total),
    }


def assert_records(seen, model, slot_word, latency, name):
    """Items, and the slot of the words that have any."""
    bits = {field: [int(word) >> _RECORDS[field].offset for word in seen] for field in ("slot_word", "valid", "items")}
    valid = split_bits(bits["valid"], 1, 4)
    items = split_bits(bits["items"], 14, 4)
    assert_columns(np.where(valid, items, -1) + 1, model + 1, latency, name)
    some = valid.any(axis=1)
    words = np.array([word & (1 << 46) - 1 for word in bits["slot_word"]])
    np.testing.assert_array_equal(words[some], slot_word[np.flatnonzero(some) - latency], f"{name} slot_word")


def assert_equal(seen, settings, table, stimulus, reference):
    """All outputs of all words equal the model's."""
    model = receiver(settings, table, stimulus, RATE_LATE_WORDS, reference)
    latency = Receiver.latency
    assert_records(seen["success"], model.success, stimulus.slot_word, latency, "success")
    assert_records(seen["clicks"], model.clicks, stimulus.slot_word, latency, "clicks")
    assert_columns(seen["clicks_beyond_four"], model.clicks_beyond_four, latency, "clicks_beyond_four")
    assert_columns(seen["hit_bits"], detector_bits(model.hit_bits, 1), latency, "hit_bits")
    assert_columns(seen["click_bits"], detector_bits(model.click_bits, 1), latency, "click_bits")
    successes = (model.outcomes > 0).reshape(-1, 4)
    assert_columns(split_bits(seen["success_bits"], 1, 4), successes, latency, "success_bits")

    ends = np.flatnonzero(seen["frame_valid"])
    frames = [(int(w) - Receiver.frame_latency, seen["frame"][w]) for w in ends]
    assert frames == [frame for frame in model.frames if frame[0] + Receiver.frame_latency < len(seen["frame"])]

    sent = np.flatnonzero(seen["reference_valid"])
    latency = Receiver.reference_latency + ReferenceCounters.latency
    sets = [(word + latency + n, record) for word, records in model.reference for n, record in enumerate(records)]
    found = [(int(w), seen["reference"][w]) for w in sent]
    assert found == [entry for entry in sets if entry[0] < len(seen["reference"])]
    lost = [int(word) - Receiver.reference_latency - 1 for word in np.flatnonzero(seen["reference_lost"])]
    late = Receiver.reference_latency + 1
    assert lost == [word for word in model.reference_missed if word + late < len(seen["reference"])]

    assert_copies(seen["copies.value"], model.counters, Receiver.latch_latency - Counters.latency)
    for _, counters in model.counters:
        for d in range(DETECTORS):
            parts = sum(counters[f"{name}_{d}"] for name in ("dead", "gated_out", "clicks"))
            assert counters[f"singles_{d}"] == parts
        assert counters["live_slots"] <= counters["slots"]
        assert counters["live_slots"] >= sum(counters[f"outcome_{k}"] for k in range(1, OUTCOMES))

    interval = max(receiver_config(settings)["rate_words"], 2)
    rates = split_bits(seen["status"], 32, DETECTORS)
    by_word = np.repeat(np.concatenate((np.zeros((1, DETECTORS), int), model.rates.T)), interval, axis=0)
    np.testing.assert_array_equal(rates, by_word[: len(rates)], "rates")
    return model


def scenario(name, stimulus, settings=None, table=None, expect=None, reference=None):
    """A case; `expect(model)` checks by hand what the words of a named corner case must give."""
    settings = {"enable": 1, "rate_words": 100} | (settings or {})
    table = exactly_one_per_node() if table is None else table
    reference = {"mode": 1, "bins": 3, "sum_frames": 1} | (reference or {})

    def check(seen):
        model = assert_equal(seen, settings, table, stimulus, reference)
        if expect is not None:
            expect(model)

    return Case(name, columns(settings, table, stimulus, reference), OUTPUTS, check)
