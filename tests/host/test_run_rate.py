"""The rate with the model's parity fraction and with the decoy estimate's, and what is said where they differ."""

import math

import pytest

from qrelay.config import parse_config
from qrelay.decoy_estimate import ParityEstimate, estimate_parity
from qrelay.demo_config import demo_text
from qrelay.estimate import PairEstimate, Ratio
from qrelay.run_rate import KeyCounts


def counts(*, gain=(1e-6, 1e-10), qber=(0.07, 1e-5), sifted=10**6, without_offset=None):
    return KeyCounts(Ratio(*gain), Ratio(*qber), sifted, 1.1, without_offset)


def parity(value, std):
    return ParityEstimate(value, std, 1e-5, 1e-7)


def both(parity_estimate, even_model=0.116, **changes):
    counted = counts(**changes)
    return counted.results(even_model, parity_estimate, 0.3), counted.warnings(even_model, parity_estimate)


def test_rates_that_agree_need_no_warning():
    """(2/16) Q [1 - h(q) - f h(E)], and the error of q_even in that of the rate by its derivative."""
    result, warnings = both(parity(0.117, 0.001))
    h = {x: -x * math.log2(x) - (1 - x) * math.log2(1 - x) for x in (0.07, 0.116, 0.117)}
    assert result["rate_bit_per_slot"] == pytest.approx(1e-6 / 8 * (1 - h[0.116] - 1.1 * h[0.07]))
    assert result["rate_bit_per_slot_decoy"] == pytest.approx(1e-6 / 8 * (1 - h[0.117] - 1.1 * h[0.07]))
    slope = math.log2((1 - 0.117) / 0.117)
    assert result["rate_bit_per_slot_decoy_std"] == pytest.approx(1e-6 / 8 * slope * 0.001, rel=0.02)
    assert result["rate_bit_per_slot_std"] < result["rate_bit_per_slot_decoy_std"] / 50
    assert (result["rate_zero_because"], result["rate_decoy_zero_because"], warnings) == (None, None, [])


def test_a_key_by_the_model_alone_is_warned_of():
    """The decoy bound leaves less than error correction costs."""
    result, warnings = both(parity(0.1517, 0.0001))
    assert result["rate_bit_per_slot"] > 0 > result["rate_bit_per_slot_decoy_unclipped"]
    assert result["rate_bit_per_slot_decoy"] == 0
    assert result["rate_zero_because"] is None
    assert result["rate_decoy_zero_because"].endswith("the parity fraction 0.152 leaves 0.386 bit")
    assert len(warnings) == 1
    assert warnings[0].endswith("not above zero beyond 3 standard errors")


def test_a_smaller_rate_by_decoys_is_warned_of():
    result, warnings = both(parity(0.125, 0.0001))
    assert 0 < result["rate_bit_per_slot_decoy"] < result["rate_bit_per_slot"]
    assert warnings[0].endswith("below that by more than 3 standard errors")


@pytest.mark.parametrize("even", [0.0, 1.0])
def test_too_few_counts_for_decoys_give_no_key(even):
    """A bound that fluctuated down to 0 is no reason for a large rate."""
    result, warnings = both(parity(even, 4.33))
    assert result["rate_bit_per_slot"] > result["rate_bit_per_slot_decoy"] == 0
    assert result["rate_decoy_zero_because"].startswith("not enough counts for the decoy estimate")
    assert warnings[0].startswith("not enough counts for the decoy estimate")


def test_no_decoy_estimate_gives_no_key():
    result, warnings = both(None)
    assert result["rate_bit_per_slot_decoy"] == 0
    assert result["rate_decoy_zero_because"].startswith("no decoy estimate")
    assert warnings[0].startswith("no decoy estimate")
    nothing, none = both(None, sifted=0, qber=(math.nan, math.nan))
    assert nothing["rate_zero_because"] == nothing["rate_decoy_zero_because"] == "no bit was sifted"
    assert none == []


def test_bits_sifted_at_an_offset_that_was_not_seen_are_no_key():
    result, warnings = both(parity(0.117, 0.001), without_offset="the disclosed pairs show no fringe (7 counts)")
    assert result["rate_bit_per_slot"] == result["rate_bit_per_slot_as_drawn"] == result["rate_bit_per_slot_decoy"] == 0
    for name in ("rate_zero_because", "rate_decoy_zero_because"):
        assert result[name] == "the disclosed pairs show no fringe (7 counts)"
    assert warnings == ["the disclosed pairs show no fringe (7 counts): the sifted bits are no key"]


@pytest.mark.parametrize(
    ("part", "whole", "std"), [(0, 0.5, 0.7071), (1, 0.5, 2.0), (3, 2.0, 0.866), (0, 1e6, 7.07e-7)]
)
def test_a_ratio_of_expected_slots_has_an_error(part, whole, std):
    """Slots of a pair are live slots times probabilities: fewer than one, or fewer than its successes, may come."""
    found = Ratio.of(part, whole)
    assert found.value == part / whole
    assert found.std == pytest.approx(std, rel=1e-3)


def test_more_vacuum_successes_than_expected_slots_give_no_decoy_estimate():
    nothing = Ratio(math.nan, math.nan)
    pairs = [
        PairEstimate(setting, setting, slots, 2, matched, 0, nothing, nothing)
        for setting, slots, matched in ((0, 0.5, 0), (1, 100.0, 1), (2, 100.0, 1))
    ]
    assert estimate_parity(parse_config(demo_text()), pairs) is None
