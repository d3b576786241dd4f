"""Encoder of a carry chain: against its model, and what the model promises about real edges."""

import numpy as np
import pytest
from stepping import step_words
from tdc_cases import TAPS, EncoderCase, integers

from benches import run_bench
from qrelay_gateware.tdc_encoder import TdcEncoder, tdc_config
from qrelay_sim.golden.tdc import encode
from qrelay_sim.tap_chain import CAPTURE_PS, TapChain


def ones_up_to(*numbers, taps=TAPS):
    """One capture for each number: so many taps are high."""
    return np.arange(taps) < np.array(numbers)[:, np.newaxis]


@pytest.mark.parametrize("kind", ["long", "short", "noise"])
@pytest.mark.parametrize("seed", [0, 1])
def test_captures_against_the_model(kind, seed):
    case = EncoderCase(kind, seed, captures=120)
    encoder = TdcEncoder()
    seen = step_words(encoder, {"taps": integers(case.taps)}, ["hit"], config=case.config)["hit"]
    case.check(seen, encoder.latency)
    assert case.model().valid.sum() > 8


@pytest.mark.parametrize(("taps", "latency"), [(64, 8), (96, 8), (128, 9), (320, 10)])
def test_other_lengths(taps, latency):
    case = EncoderCase("noise", 3, captures=60, taps=taps)
    encoder = TdcEncoder(taps)
    assert encoder.latency == latency
    seen = step_words(encoder, {"taps": integers(case.taps)}, ["hit"], config=case.config)["hit"]
    case.check(seen, latency)


@pytest.mark.parametrize("taps", [32, 280, 544])
def test_refuses_other_lengths(taps):
    message = f"taps {taps}: a chain has a multiple of 32 taps, 64 to 512"
    with pytest.raises(ValueError, match=message):
        TdcEncoder(taps)


def test_every_code_is_the_number_of_taps_passed():
    numbers = np.arange(4, TAPS - 4)
    captures = np.zeros((2 * len(numbers), TAPS), bool)
    captures[1::2] = ones_up_to(*numbers)
    hits = encode(captures, last_level=False)
    np.testing.assert_array_equal(hits.valid, np.arange(len(captures)) % 2 == 1)
    np.testing.assert_array_equal(hits.code[1::2], numbers - 4)
    assert not hits.extra.any()


def test_bubbles_within_three_taps_count_as_ones():
    random = np.random.default_rng(5)
    for number in range(8, TAPS - 8):
        capture = ones_up_to(0, number)
        capture[1, number - 3 : number + 3] = random.permutation(capture[1, number - 3 : number + 3])
        hits = encode(capture, last_level=False)
        assert hits.valid[1]
        assert hits.code[1] == number - 4


@pytest.mark.parametrize("seed", range(4))
def test_each_edge_of_long_pulses_is_seen_once(seed):
    """Pulses longer than two slots, settings of a chain that is not calibrated."""
    case = EncoderCase("long", seed, captures=3000)
    hits = case.model()
    assert hits.valid.sum() == (len(case.toggles) + 1) // 2
    assert not hits.extra.any()
    captures = np.flatnonzero(hits.valid)
    # The entry of an edge lies in its capture's period or, where its first taps are still low, in the one before.
    ages = (captures + 1) * CAPTURE_PS - case.toggles[::2]
    assert ages.min() > 0
    assert ages.max() < CAPTURE_PS + 400
    expected = np.searchsorted(np.sort(case.chain.reaches), ages) - 4
    # Codes of edges with jitter of 4 ps and of taps with 2 ps, ordered by 33 ps: rarely off by more than two.
    assert np.abs(hits.code[captures] - expected).max() <= 4


@pytest.mark.parametrize("seed", range(4))
def test_no_edge_of_short_pulses_is_lost(seed):
    """Pulses and gaps of 0.6 to 4.6 ns: several edges in a capture are counted, one is placed."""
    case = EncoderCase("short", seed, captures=3000)
    hits = case.model()
    assert hits.valid.sum() + hits.extra.sum() == (len(case.toggles) + 1) // 2
    assert hits.extra.any()


def test_idle_high_is_no_hit_and_stuck_input_is_one():
    high = np.ones((5, TAPS), bool)
    assert not encode(high).valid.any()
    stuck = np.vstack((ones_up_to(0, 100), high))
    assert encode(stuck).valid.tolist() == [False, True, False, False, False, False, False]
    encoder = TdcEncoder()
    seen = step_words(encoder, {"taps": integers(np.vstack((high, high, high)))}, ["hit"], config=tdc_config())
    assert not any(value & 1 for value in seen["hit"])


def test_span_of_the_timing_model():
    for grade, spare in (("6", 50), ("8", 20)):
        chain = TapChain.random(np.random.default_rng(1), grade=grade)
        assert np.searchsorted(chain.delays, CAPTURE_PS) < TAPS - spare


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(TdcEncoder(), "bench_tdc_encoder", tmp_path)
