"""Clock plans: exact numbers, ranges, messages."""

from fractions import Fraction

import pytest

from qrelay_boards import boards
from qrelay_boards.clock_plan import ClockPlan, ClockPlanError, solve


def test_external_reference_is_exact():
    plan = solve(76_130_000, external=True)
    assert plan.vco_hz == 609_040_000
    assert plan.edge_clock_hz == 304_520_000
    assert plan.gear_clock_hz == 152_260_000
    assert plan.word_clock_hz == 76_130_000
    assert plan.error_ppb == 0
    assert plan.word_is_feedback
    assert (plan.reference_divider, plan.feedback_divider, plan.feedback_output_divider) == (1, 1, 8)


@pytest.mark.parametrize("divisor", [2, 4, 8, 10])
def test_other_exact_references(divisor):
    plan = solve(Fraction(304_520_000, divisor), external=True)
    assert plan.edge_clock_hz == 304_520_000


@pytest.mark.parametrize(("oscillator_mhz", "ppm"), [(25, 550), (30, -769), (48, 313), (100, 84)])
def test_free_running_error(oscillator_mhz, ppm):
    """Best errors of the ECP5's dividers, found by a search over all of them as an independent check."""
    plan = solve(oscillator_mhz * 10**6, external=False)
    assert round(plan.error_ppb / 1000) == ppm
    best = min(
        abs(Fraction(oscillator_mhz * total, divider) / Fraction(60904, 100) - 1)
        for divider in range(1, 129)
        if oscillator_mhz / divider >= 3.125
        for total in range(1, 2000)
    )
    assert abs(plan.error_ppb) == round(best * 10**9)


def test_plan_prints_itself():
    text = str(solve(25_000_000, external=False))
    assert text.startswith("clock plan: internal clock, not for joint operation, +550.046 ppm\n")
    assert "609.375 MHz" in text
    assert "exact" in str(solve(76_130_000, external=True))


def test_another_slot_rate():
    plan = solve(Fraction(125_000_000), external=True, slot_rate_hz=Fraction(250_000_000))
    assert plan.edge_clock_hz == 250_000_000
    assert plan.word_clock_hz == 62_500_000


def test_too_large_an_error():
    with pytest.raises(ClockPlanError) as error:
        solve(10_000_000, external=True)
    assert str(error.value) == (
        "slot rate 305 MHz from a reference of 10 MHz misses 304.52 MHz by +1576.251 ppm; the limit is 0 ppm. Use a "
        "reference that divides the slot rate (152.26 MHz, 76.13 MHz, 38.065 MHz, 30.452 MHz), or build free-running "
        "for tests"
    )


def test_vco_out_of_range():
    plan = ClockPlan(Fraction(76_130_000), Fraction(304_520_000), True, 1, 1, 12, 3)
    with pytest.raises(ClockPlanError, match=r"VCO at 913.56 MHz: the ECP5 PLL runs from 400 MHz to 800 MHz"):
        plan.check(0)


@pytest.mark.parametrize(
    ("reference_hz", "slot_rate_hz", "message"),
    [
        (25_000_000, 900_000_000, "no VCO from 400 MHz to 800 MHz is a whole multiple of the slot rate 900 MHz"),
        (5_000_000, 304_520_000, "reference 5 MHz: the PLL input takes 8 MHz to 400 MHz"),
        (80_000_000, 320_000_000, "edge clock 320 MHz: x2 gearing of the -6 grade ends at 312 MHz"),
    ],
)
def test_ranges(reference_hz, slot_rate_hz, message):
    with pytest.raises(ClockPlanError) as error:
        solve(reference_hz, external=False, slot_rate_hz=Fraction(slot_rate_hz))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "error_ppb"),
    [("ulx3s-85f", 550_046), ("ecpix5-85f", 83_589), ("butterstick-85f", -769_361), ("orangecrab-85f", 313_229)],
)
def test_board_offers_both_plans(name, error_ppb):
    board = boards()[name]
    assert board.clock_plan().external
    assert board.clock_plan().word_is_feedback
    assert board.facts(board.clock_plan()).clock_error_ppb == 0
    assert not board.clock_plan(free_running=True).external
    assert board.facts(board.clock_plan(free_running=True)).clock_error_ppb == error_ppb
