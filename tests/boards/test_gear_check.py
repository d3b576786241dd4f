"""Gearboxes whose bins are constant, shared or unread, on netlists made for the purpose."""

import json

import pytest

from qrelay_boards import boards
from qrelay_boards.gear_check import broken_gears


def cell(kind, inputs, outputs):
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    connections = {port: [net] for port, net in (inputs | outputs).items()}
    return {"type": kind, "port_directions": directions, "connections": connections}


def buffer(pad, **sides):
    made = cell("TRELLIS_IO", {"B": pad} | {k: v for k, v in sides.items() if k == "I"}, {"O": sides.get("O", "x")})
    made["port_directions"]["B"] = "inout"
    return made


BINS = {
    "line_0": (100, 101, 102, 103),
    "line_1": (110, 111, 112, 113),
    "start_out": (120, 120, 120, 120),
    "probe": (130, 130, 131, 131),
}


class Netlist:
    """Two lines, start and probe as the station drives them, and two inputs."""

    def __init__(self):
        self.cells = {}
        self.ports = {}
        for number, (pin, bins) in enumerate(BINS.items()):
            pad, delayed, geared = 10 + number, 20 + number, 30 + number
            self.ports[f"{pin}_0__io"] = {"bits": [pad]}
            self.cells |= {
                f"{pin}_buffer": buffer(pad, I=delayed),
                f"{pin}_delay": cell("DELAYF", {"A": geared}, {"Z": delayed}),
                f"{pin}_gear": cell("ODDRX2F", {f"D{i}": net for i, net in enumerate(bins)}, {"Q": geared}),
            }
            self.cells |= {f"{net}_TRELLIS_FF_Q": cell("TRELLIS_FF", {"DI": "0"}, {"Q": net}) for net in bins}
        for number, pin in enumerate(("detector_0", "start_in")):
            pad, level, first = 50 + number, 60 + number, 200 + 10 * number
            self.ports[f"{pin}_0__io"] = {"bits": [pad]}
            self.cells |= {
                f"{pin}_buffer": buffer(pad, O=level),
                f"{pin}_gear": cell("IDDRX2F", {"D": level}, {f"Q{i}": first + i for i in range(4)}),
            }
            for i in range(4):
                self.cells[f"{pin}_{i}"] = cell("TRELLIS_FF", {"DI": first + i}, {"Q": first + 100 + i})

    def connect(self, name, **nets):
        self.cells[name]["connections"] |= {port: [net] for port, net in nets.items()}


@pytest.fixture
def netlist():
    return Netlist()


@pytest.fixture
def broken(netlist, tmp_path):
    def sentences():
        file = tmp_path / "top.json"
        top = {"attributes": {"top": "1"}, "ports": netlist.ports, "cells": netlist.cells}
        file.write_text(json.dumps({"modules": {"IDDRX2F": {"cells": {}}, "top": top}}))
        return broken_gears(file, BINS, ("detector_0", "start_in"))

    return sentences


DRIVE, READ = (
    f"connect what should {do} it (synthesis may have removed that), or take the pin out of the board file"
    for do in ("drive", "read")
)


def test_whole_gears_pass(broken):
    """Bins of one pin may be the same, as those of start and probe are."""
    assert broken() == []


def test_constant_bins_are_named(netlist, broken):
    netlist.connect("line_1_gear", D0="0", D1="0", D2="0", D3="0")
    netlist.connect("probe_gear", D2="1")
    assert broken() == [
        f"output line_1 is constant in some bins (D0, D1, D2, D3 of its gearbox): {DRIVE}",
        f"output probe is constant in some bins (D2 of its gearbox): {DRIVE}",
    ]


def test_a_net_that_nothing_drives_is_constant(netlist, broken):
    del netlist.cells["102_TRELLIS_FF_Q"]
    netlist.cells["line_1_gear"]["connections"]["D3"] = []
    assert [sentence.split(":")[0] for sentence in broken()] == [
        "output line_0 is constant in some bins (D2 of its gearbox)",
        "output line_1 is constant in some bins (D3 of its gearbox)",
    ]


@pytest.mark.parametrize("bins", [{"D0": 100, "D1": 101, "D2": 102, "D3": 103}, {"D1": 103}])
def test_outputs_that_show_the_same_are_named(netlist, broken, bins):
    netlist.connect("line_1_gear", **bins)
    assert broken() == [
        "outputs line_0 and line_1 share bins: give each words of its own, or take one pin out of the board file"
    ]


@pytest.mark.parametrize(("name", "port"), [("line_0_buffer", "I"), ("line_0_delay", "A")])
def test_an_output_without_its_gearbox_is_named(netlist, broken, name, port):
    """Its pad shows the level of a flip-flop, as a lamp does."""
    netlist.connect(name, **{port: 100})
    assert broken() == [f"output line_0 has no gearbox behind its pad: {DRIVE}"]


def test_an_output_without_a_buffer_is_named(netlist, broken):
    del netlist.cells["line_0_buffer"]
    del netlist.ports["line_1_0__io"]
    assert [sentence.split(" behind")[0] for sentence in broken()] == [
        "output line_0 has no gearbox",
        "output line_1 has no gearbox",
    ]


def test_unread_bins_are_named(netlist, broken):
    for i in (1, 3):
        del netlist.cells[f"detector_0_{i}"]
    netlist.connect("start_in_buffer", O=100)
    unread = "is not read in some bins"
    assert broken() == [
        f"input detector_0 {unread} (Q1, Q3 of its gearbox): {READ}",
        f"input start_in {unread} (Q0, Q1, Q2, Q3 of its gearbox): {READ}",
    ]


@pytest.mark.parametrize("name", boards())
def test_each_board_has_its_fast_pins_checked(name):
    """Detectors with a chain have no gearbox: `chain_check` follows the chain from the pad."""
    board = boards()[name]
    assert board.geared_outputs == tuple(board.wiring.outputs)
    assert {*board.geared_inputs, *board.chains} == {*board.wiring.inputs}
    assert not {*board.geared_inputs} & {*board.chains}
