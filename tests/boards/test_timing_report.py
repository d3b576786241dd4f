"""Rules on clocks, crossings and cells, on reports made for the purpose."""

import json

import pytest

from qrelay_boards.board import Crossing
from qrelay_boards.timing_report import TimingReport, check_cells, clock_names, netlist_cells

NAMES = {"a.clk": "word_clock", "b.clk": "gear_clock"}
EXPECTED = {"word_clock": 76.13, "gear_clock": 152.26}
CROSSINGS = (Crossing("word_clock", "gear_clock", 4.9, "captured half a word later"),)


def path(source, target, *delays):
    steps = [
        {
            "type": "routing",
            "from": {"cell": f"c{i}", "port": "Q"},
            "to": {"cell": f"c{i + 1}", "port": "D"},
            "delay": d,
        }
        for i, d in enumerate(delays)
    ]
    return {"from": source, "to": target, "path": steps}


def report(tmp_path, **changes):
    content = {
        "fmax": {
            "$glbnet$a.clk": {"achieved": 100.0, "constraint": 76.13},
            "$glbnet$b.clk": {"achieved": 200.0, "constraint": 152.3},
        },
        "critical_paths": [
            path("posedge $glbnet$a.clk", "posedge $glbnet$a.clk", 4.0, 6.0),
            path("posedge $glbnet$a.clk", "negedge $glbnet$b.clk", 0.5, 0.7),
        ],
        "utilization": {"TRELLIS_FF": {"used": 3, "available": 10}, "DCUA": {"used": 0, "available": 2}},
    }
    file = tmp_path / "report.json"
    file.write_text(json.dumps(content | changes))
    return TimingReport.read(file, NAMES)


def test_a_sound_report(tmp_path):
    sound = report(tmp_path)
    assert sound.broken(EXPECTED, CROSSINGS) == []
    assert sound.clocks["word_clock"].margin == pytest.approx(100 / 76.13)
    assert sound.used == {"TRELLIS_FF": (3, 10)}
    assert sound.facts()["crossings_ns"] == {"word_clock -> gear_clock": 1.2}


def test_missed_constraint(tmp_path):
    fmax = {
        "$glbnet$a.clk": {"achieved": 76.0, "constraint": 76.13},
        "$glbnet$b.clk": {"achieved": 200.0, "constraint": 152.3},
    }
    assert report(tmp_path, fmax=fmax).broken(EXPECTED, CROSSINGS) == [
        "clock word_clock reaches 76.00 MHz of 76.13 MHz, from c0 to c2 in 10.00 ns"
    ]


def test_lost_constraint(tmp_path):
    fmax = {
        "$glbnet$a.clk": {"achieved": 100.0, "constraint": 12.0},
        "$glbnet$b.clk": {"achieved": 200.0, "constraint": 152.3},
    }
    assert report(tmp_path, fmax=fmax).broken(EXPECTED, CROSSINGS) == [
        "clock word_clock is constrained to 12.00 MHz, the plan has 76.13 MHz"
    ]


def test_clock_without_timing(tmp_path):
    fmax = {"$glbnet$a.clk": {"achieved": 100.0, "constraint": 76.13}}
    assert report(tmp_path, fmax=fmax).broken(EXPECTED, CROSSINGS) == [
        "no timing for gear_clock: the clocks that were found are word_clock"
    ]


def test_unknown_clock(tmp_path):
    fmax = {
        "$glbnet$a.clk": {"achieved": 100.0, "constraint": 76.13},
        "$glbnet$b.clk": {"achieved": 200.0, "constraint": 152.3},
        "ring": {"achieved": 100.0, "constraint": 12.0},
    }
    assert report(tmp_path, fmax=fmax).broken(EXPECTED, CROSSINGS) == [
        "clock ring is not in the clock plan; there are: word_clock, gear_clock"
    ]


def test_undeclared_crossing(tmp_path):
    paths = [path("posedge $glbnet$b.clk", "posedge $glbnet$a.clk", 1.0)]
    assert report(tmp_path, critical_paths=paths).broken(EXPECTED, CROSSINGS) == [
        "undeclared crossing gear_clock to word_clock (c0 to c1, 1.00 ns); declare it with a limit in the board file "
        "or remove it"
    ]


def test_slow_crossing(tmp_path):
    paths = [path("posedge $glbnet$a.clk", "posedge $glbnet$b.clk", 5.0)]
    assert report(tmp_path, critical_paths=paths).broken(EXPECTED, CROSSINGS) == [
        "crossing word_clock to gear_clock (c0 to c1, 5.00 ns) exceeds its limit of 4.9 ns: captured half a word later"
    ]


@pytest.fixture
def netlist(tmp_path):
    cells = {
        "pll": {"type": "EHXPLLL", "connections": {"CLKOS": [5]}},
        "buffer": {"type": "TRELLIS_IO", "connections": {"B": [2], "O": [6]}},
        "idle": {"type": "TRELLIS_IO", "connections": {"B": [3], "I": ["0"]}},
        "register": {"type": "TRELLIS_FF", "connections": {"CLK": [5]}},
        "ram": {"type": "DP16KD", "connections": {"CLKA": [5], "CLKB": [6]}},
        "fixed": {"type": "DP16KD", "connections": {"CLKA": [5], "CLKB": ["0"]}},
    }
    module = {
        "attributes": {"top": "1"},
        "ports": {"line_0_0__io": {"bits": [2]}, "line_1_0__io": {"bits": [3]}},
        "cells": cells,
        "netnames": {"x.clk": {"bits": [5]}, "y.clk": {"bits": [5]}, "wide": {"bits": [5, 6]}, "pad": {"bits": [6]}},
    }
    file = tmp_path / "top.json"
    file.write_text(json.dumps({"modules": {"top": module, "EHXPLLL": {"attributes": {}}}}))
    return file


def test_removed_parts_are_noticed(netlist):
    cells = netlist_cells(netlist)
    assert check_cells(cells, {"EHXPLLL": 1}, ["line_0"]) == []
    assert check_cells(cells, {"EHXPLLL": 1, "IDDRX2F": 5}, ["line_0", "line_1"]) == [
        "0 cells IDDRX2F in the netlist, at least 5 expected: part of the design was removed",
        "pad line_1 is not connected to logic",
    ]


SOURCES = {"word_clock": ("EHXPLLL", "CLKOS"), "reference_clock": ("pad", "line_0_0__io")}


def test_cells_by_their_clock(netlist):
    cells = netlist_cells(netlist, SOURCES)
    assert {kind: count for kind, count in cells.items() if "clock:" in kind} == {
        "word_clock:TRELLIS_FF": 1,
        "word_clock:DP16KD": 2,
        "reference_clock:DP16KD": 1,
    }
    assert check_cells(cells, {"word_clock:DP16KD": 2, "usb_clock:TRELLIS_FF": 500}, []) == [
        "0 cells usb_clock:TRELLIS_FF in the netlist, at least 500 expected: part of the design was removed"
    ]


def test_clocks_by_their_source(netlist):
    assert clock_names(netlist, SOURCES) == {"x.clk": "word_clock", "y.clk": "word_clock", "pad": "reference_clock"}
