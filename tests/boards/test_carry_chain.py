"""Carry chains through synthesis, place and route, and the check that finds any that is not whole."""

import copy
import json

import pytest
from chain_trial import GEAR_CLOCK, SMALL, chains_alone, place_and_route, synthesise

from qrelay_boards.chain_check import broken_chains
from qrelay_boards.ecp5_tdc import CarryChain

TAPS = 32
CHAINS = {"detector_0": TAPS, "detector_1": TAPS}


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    """Placed netlist of two chains."""
    folder = tmp_path_factory.mktemp("chains")
    synthesise(folder, chains_alone(2, TAPS))
    place_and_route(folder, SMALL)
    return json.loads((folder / "placed.json").read_text())


def sentences(netlist, tmp_path, chains=CHAINS):
    path = tmp_path / "placed.json"
    path.write_text(json.dumps(netlist))
    return broken_chains(path, chains, GEAR_CLOCK)


def spoiled(placed, change):
    """A copy of the netlist after `change(cells, flip-flop of tap 0 of chain 1, half cell of that tap)`."""
    netlist = copy.deepcopy(placed)
    cells = next(iter(netlist["modules"].values()))["cells"]
    half = cells["chain_1.cell_0$CCU2_COMB0"]
    (flip_flop,) = (
        cell
        for cell in cells.values()
        if cell["type"] == "TRELLIS_FF" and cell["connections"].get("DI") == half["connections"]["F"]
    )
    change(cells, flip_flop, half)
    return netlist


def test_whole_chains_pass(placed, tmp_path):
    assert sentences(placed, tmp_path) == []


def test_every_flip_flop_counts(placed, tmp_path):
    def move(cells, flip_flop, half):
        flip_flop["attributes"]["NEXTPNR_BEL"] = "X1/Y2/SLICEB.FF0"

    bel = spoiled(placed, lambda *_: None)["modules"]
    here = next(iter(bel.values()))["cells"]["chain_1.cell_0$CCU2_COMB0"]["attributes"]["NEXTPNR_BEL"]
    assert sentences(spoiled(placed, move), tmp_path) == [
        f"carry chain of detector_1: tap 0 is at {here}, but its flip-flop at X1/Y2/SLICEB.FF0, outside its slice"
    ]


def other_half(cells, flip_flop, half):
    bel = flip_flop["attributes"]["NEXTPNR_BEL"]
    flip_flop["attributes"]["NEXTPNR_BEL"] = bel[:-1] + "1"


def unread(cells, flip_flop, half):
    flip_flop["connections"]["Q"] = []


def second_load(cells, flip_flop, half):
    cells["other"] = {**copy.deepcopy(flip_flop), "connections": {"DI": half["connections"]["F"]}}


def other_clock(cells, flip_flop, half):
    flip_flop["connections"]["CLK"] = [999_999]


def cut(cells, flip_flop, half):
    half["connections"]["FCO"] = []


def through_a_table(cells, flip_flop, half):
    half["parameters"]["MODE"] = "LOGIC"


def pad_elsewhere_too(cells, flip_flop, half):
    start = cells["chain_1.start$CCU2_COMB0"]
    cells["other"] = {**copy.deepcopy(flip_flop), "connections": {"DI": start["connections"]["A"]}}


def pad_cut_off(cells, flip_flop, half):
    cells["buffer_1"]["connections"]["O"] = []


def no_oscillator(cells, flip_flop, half):
    """Its other source comes from the switch's flip-flop."""
    start = cells["chain_1.start$CCU2_COMB1"]["connections"]
    start["A"] = start["B"]


def no_switch(cells, flip_flop, half):
    for number in (0, 1):
        cells[f"chain_1.start$CCU2_COMB{number}"]["connections"]["B"] = [999_999]


def half_a_switch(cells, flip_flop, half):
    cells["chain_1.start$CCU2_COMB1"]["connections"]["B"] = flip_flop["connections"]["Q"]


def unswitched(cells, flip_flop, half):
    cells["chain_1.start$CCU2_COMB1"]["connections"]["B"] = []


def no_choice_in_the_table(cells, flip_flop, half):
    cells["chain_1.start$CCU2_COMB1"]["parameters"]["INITVAL"] = f"{0xFFFF:016b}"


def inverted_tap(cells, flip_flop, half):
    half["parameters"]["INITVAL"] = f"{0x0000:016b}"


def slow_clock(cells, flip_flop, half):
    """All flip-flops of the chain have the clock of the switch."""
    (switch,) = cells["chain_1.start$CCU2_COMB0"]["connections"]["B"]
    (clock,) = (cell["connections"]["CLK"] for cell in cells.values() if cell["connections"].get("Q") == [switch])
    for name, cell in cells.items():
        if cell["type"] == "TRELLIS_FF" and name.startswith("chain_1.captured"):
            cell["connections"]["CLK"] = clock


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_half, "outside its slice"),
        (unread, "nothing reads the flip-flop of tap 0"),
        (second_load, "tap 0 has 2 loads, not one"),
        (other_clock, "its flip-flops have 2 clocks, not one"),
        (cut, "the carry before tap 1 leads nowhere"),
        (through_a_table, "no carry cell"),
        (pad_elsewhere_too, "the pad has 2 loads, not one"),
        (pad_cut_off, "the pad is not connected"),
        (slow_clock, "its flip-flops have a clock from pad.osc_clk, not pad.gear_clk"),
        (no_oscillator, "its other source is TRELLIS_FF.Q, not the oscillator on the die"),
        (no_switch, "its source is chosen by nothing.999999, not by a flip-flop"),
        (half_a_switch, "the halves of its start cell are switched by different nets"),
        (unswitched, "input B of chain_1.start$CCU2_COMB1 leads nowhere"),
        (no_choice_in_the_table, "chain_1.start$CCU2_COMB1 has the truth table 0xffff, not 0x77ff"),
        (inverted_tap, "chain_1.cell_0$CCU2_COMB0 has the truth table 0x0000, not 0xffff"),
    ],
)
def test_every_fault_is_found(placed, tmp_path, change, reason):
    found = sentences(spoiled(placed, change), tmp_path)
    assert len(found) == 1
    assert found[0].startswith("carry chain of detector_1: ")
    assert reason in found[0]


def test_a_chain_that_is_too_short_is_found(placed, tmp_path):
    (sentence,) = sentences(placed, tmp_path, {"detector_0": TAPS + 2})
    assert sentence.startswith(f"carry chain of detector_0: tap {TAPS} ")


def test_unknown_pad_is_found(placed, tmp_path):
    assert sentences(placed, tmp_path, {"detector_7": TAPS}) == ["carry chain of detector_7: the pad is not connected"]


@pytest.mark.slow
def test_chains_that_synthesis_understands_are_found(tmp_path):
    """Under their own name the cells are computed away, and place and route passes what is left."""
    synthesise(tmp_path, chains_alone(2, TAPS), cell="CCU2C")
    place_and_route(tmp_path, SMALL)
    assert len(broken_chains(tmp_path / "placed.json", CHAINS, GEAR_CLOCK)) == 2


@pytest.mark.parametrize("taps", [0, 3])
def test_taps_come_in_pairs(taps):
    with pytest.raises(ValueError, match=f"taps {taps}: carry cells hold two taps each; give an even number"):
        CarryChain(taps)
