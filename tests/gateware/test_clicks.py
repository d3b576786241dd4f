"""Compaction of clicks and successes into records."""

import numpy as np
import pytest
from receiver_cases import Case, assert_columns, group_by_word, split_bits
from stepping import step_words

from benches import run_bench
from qrelay_gateware.clicks import ClickRecords, SuccessRecords
from qrelay_sim.golden.clicks import click_records, success_records

PREFIXES = (0, 1, 3, 7, 15)


def assert_items(seen_valid, seen_items, expected, latency):
    """`expected`: items [words, 4], -1 where none."""
    valid = np.asarray(seen_valid)
    assert set(valid.tolist()) <= set(PREFIXES)
    bits = split_bits(valid, 1, 4)
    assert_columns(np.where(bits, split_bits(seen_items, 14, 4), -1) + 1, expected + 1, latency, "items")


def detector_bits(columns, width):
    """Column of a port with `width` bits per slot and four detectors, from [detectors, slots]."""
    by_detector = [group_by_word(column, width).tolist() for column in columns]
    return [sum(part << 4 * width * d for d, part in enumerate(parts)) for parts in zip(*by_detector, strict=True)]


def click_case(name, clicks, fines, items=None):
    inputs = {"clicks": detector_bits(clicks, 1), "fines": detector_bits(fines, 8)}

    def check(seen):
        model, count, beyond = click_records(clicks, fines)
        assert_items(seen["valid"], seen["items"], model, ClickRecords.latency)
        assert_columns(seen["count"], count, ClickRecords.latency, "count")
        assert_columns(seen["beyond"], beyond, ClickRecords.latency, "beyond")
        assert_columns(seen["bits"], inputs["clicks"], ClickRecords.latency, "bits")
        if items is not None:
            assert [(i & 3, i >> 2 & 255, i >> 10) for i in model[2] if i >= 0] == items

    return Case(name, inputs, ("valid", "items", "count", "beyond", "bits"), check)


def click_cases():
    random = np.random.default_rng(6)
    for density in (0.01, 0.1, 0.3, 0.7, 1.0):
        fines = random.integers(0, 256, (4, 4 * 300))
        yield click_case(f"random_{density}", random.random((4, 4 * 300)) < density, fines.astype(np.uint8))
    clicks = np.zeros((4, 40), bool)
    fines = np.arange(160, dtype=np.uint8).reshape(4, 40)
    for lane, detector in ((0, 3), (1, 2), (3, 0), (3, 1), (3, 3)):
        clicks[detector, 8 + lane] = True
    items = [(0, 128, 3), (1, 89, 2), (3, 11, 0), (3, 51, 1)]
    yield click_case("order_is_slot_then_detector", clicks, fines, items=items)


def success_case(name, patterns, outcomes):
    inputs = {
        "success": group_by_word(outcomes > 0, 1),
        "patterns": group_by_word(patterns, 8),
        "outcomes": group_by_word(outcomes, 4),
    }

    def check(seen):
        model = success_records(patterns, outcomes)
        assert_items(seen["valid"], seen["items"], model, SuccessRecords.latency)
        assert_columns(seen["count"], (model >= 0).sum(axis=1), SuccessRecords.latency, "count")

    return Case(name, inputs, ("valid", "items", "count"), check)


def success_cases():
    random = np.random.default_rng(7)
    for density in (0.02, 0.5, 1.0):
        outcomes = random.integers(1, 16, 4 * 300) * (random.random(4 * 300) < density)
        yield success_case(f"random_{density}", random.integers(0, 256, 4 * 300), outcomes)


SUCCESS_CASES = list(success_cases())
CASES = list(click_cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_clicks_equal_the_model(case):
    case.check(step_words(ClickRecords, case.inputs, case.outputs))


@pytest.mark.parametrize("case", SUCCESS_CASES, ids=str)
def test_successes_equal_the_model(case):
    case.check(step_words(SuccessRecords, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(ClickRecords(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_clicks"})
