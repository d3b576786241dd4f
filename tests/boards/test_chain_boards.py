"""Boards with a carry chain at each detector: their facts, their rules and what their design holds."""

import dataclasses
import json

import pytest
from stand_in import StandIn

from qrelay.protocol.identity import Phy
from qrelay.protocol.tdc import TAPS
from qrelay_boards import boards
from qrelay_boards.build import build
from qrelay_boards.ecp5_board import ecp5_board
from qrelay_boards.ecp5_detectors import CHAIN_PIN_LATENCY, HitDelay
from qrelay_boards.ecp5_tdc import CARRY_CELL
from qrelay_boards.ecp5_x2 import PIN_LATENCY
from qrelay_boards.timing_report import TimingError
from qrelay_gateware.edge_to_click import EdgeToClick

CHAINED = {"ulx3s-85f-tdc": "ulx3s-85f", "ecpix5-85f-tdc": "ecpix5-85f"}


def cells(board):
    """Kinds of the cells that the design instantiates, one entry each."""
    plan = board.clock_plan()
    files = board.platform().prepare(board.top(plan, StandIn(board.facts(plan))), "top", debug_verilog=False).files
    text = files["top.il"]
    lines = (text if isinstance(text, str) else text.decode()).splitlines()
    return [line.split()[1].removeprefix("\\") for line in lines if line.lstrip().startswith("cell \\")]


def partly_chained(chains):
    board = boards()["ulx3s-85f"]
    wiring = dataclasses.replace(board.wiring, chains=chains)
    return ecp5_board("part", "", wiring, loader=board.loader, serial_port="")


@pytest.mark.parametrize("name", CHAINED)
def test_facts_and_rules(name):
    board, plain = boards()[name], boards()[CHAINED[name]]
    identity = board.facts(board.clock_plan()).identity
    assert (identity.phy, identity.chains, identity.fine_first, identity.fine_step) == (Phy.TDC, 0b1111, 0, 1)
    assert identity.pin_latency == CHAIN_PIN_LATENCY
    assert board.chains == {f"detector_{d}": TAPS for d in range(4)}
    assert board.minimum_cells["IDDRX2F"] == plain.minimum_cells["IDDRX2F"] - 4
    board.wiring.check()
    plain_identity = plain.facts(plain.clock_plan()).identity
    assert (plain_identity.phy, plain_identity.chains) == (Phy.ECP5_X2, 0)
    assert plain.chains == {}


@pytest.mark.parametrize("chains", [(0, 1, 2, 3), (2,), ()])
def test_each_detector_has_a_chain_or_a_gearbox(chains):
    board = partly_chained(chains)
    found = cells(board)
    assert found.count(CARRY_CELL) == len(chains) * (TAPS // 2 + 1)
    # The start input has a gearbox too.
    assert found.count("IDDRX2F") == 5 - len(chains)
    assert found.count("OSCG") == bool(chains)


def test_detectors_without_a_chain_wait_for_the_others():
    assert PIN_LATENCY + EdgeToClick.latency + HitDelay.words == CHAIN_PIN_LATENCY


def test_chain_pins_need_no_gearbox():
    """A header pin on the top or bottom edge takes a chain, and is refused as gearbox input."""
    board = boards()["ulx3s-85f"]
    sites = board.wiring.pins.sites
    elsewhere = next(name for name, site in sites.items() if site.edge not in ("left", "right"))
    detectors = (elsewhere, *board.wiring.detectors[1:])
    dataclasses.replace(board.wiring, detectors=detectors, chains=(0,)).check()
    with pytest.raises(ValueError, match="detector_0 on"):
        dataclasses.replace(board.wiring, detectors=detectors, chains=(1,)).check()


def test_chain_of_no_detector_is_refused():
    with pytest.raises(ValueError, match="chain of detector 4: the 4 detectors count from 0"):
        partly_chained((4,))


@pytest.mark.slow
def test_a_build_holds_each_chain_against_its_placed_netlist(tmp_path):
    """The board wants two taps more than the design has: that alone is wrong, so the others are there and in place."""
    board = dataclasses.replace(partly_chained((0,)), chains={"detector_0": TAPS + 2})
    with pytest.raises(TimingError, match=rf"seed 1: carry chain of detector_0: tap {TAPS} "):
        build(board, out_dir=tmp_path, station=StandIn, minimum_blocks=())
    assert len(json.loads((tmp_path / "manifest.json").read_text())["broken_rules"]) == 1
    assert list(tmp_path.glob("*.bit")) == []
