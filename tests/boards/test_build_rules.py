"""What a build makes of what its tools give: prepared files in place of the tools."""

import dataclasses
import hashlib
import json
from itertools import pairwise

import pytest

from qrelay_boards import boards
from qrelay_boards import build as builder
from qrelay_boards.board import Block
from qrelay_boards.build import best_seed, build
from qrelay_boards.timing_report import ClockTiming, TimingError, TimingReport
from qrelay_boards.toolchain import ToolError

CLOCKS_MHZ = {"word_clock": 76.13, "gear_clock": 152.26, "osc_clock": 25.0, "reference_clock": 76.13}
MARGINS = dict.fromkeys(CLOCKS_MHZ, 1.5)
BITSTREAM = "qrelay-ulx3s-85f.bit"


def without_rules(name="ulx3s-85f", **rules):
    """A board whose netlist may be empty, but for `rules`."""
    nothing = {"minimum_cells": {}, "pads": (), "pad_cells": 0, "blocks": (), "geared_outputs": (), "geared_inputs": ()}
    return dataclasses.replace(boards()[name], **(nothing | rules))


class Tools:
    """In place of the tools. They note what was called and write what they are told to."""

    def __init__(self):
        self.called = []
        self.netlist = {"attributes": {"top": "1"}, "ports": {}, "cells": {}, "netnames": {}}
        self.clocks_mhz = dict(CLOCKS_MHZ)
        self.margins = {}
        """By seed, where it is not `MARGINS`."""
        self.used = {"TRELLIS_FF": 3}

    def __call__(self, tool, arguments, folder, log, stop=None):
        self.called.append(tool)
        getattr(self, tool.replace("-", "_"))(arguments, folder, log)
        return 1.0

    def yosys(self, arguments, folder, log):
        (folder / "top.json").write_text(json.dumps({"modules": {"top": self.netlist}}))

    def nextpnr_ecp5(self, arguments, folder, log):
        options = dict(pairwise(arguments))
        margins = self.margins.get(int(options["--seed"]), MARGINS)
        fmax = {c: {"achieved": margins[c] * mhz, "constraint": mhz} for c, mhz in self.clocks_mhz.items()}
        used = {kind: {"used": number, "available": 300} for kind, number in self.used.items()}
        report = {"fmax": fmax, "critical_paths": [], "utilization": used}
        (folder / options["--report"]).write_text(json.dumps(report))
        (folder / options["--textcfg"]).write_text(f".device LFE5U-85F\narc: REFCLK0 JREFCLK0_3\n{options['--seed']}\n")
        (folder / log).write_text("Info: done\n")
        if "--write" in options:
            (folder / options["--write"]).write_text(json.dumps({"modules": {"top": {"ports": {}, "cells": {}}}}))

    def ecppack(self, arguments, folder, log):
        options = dict(pairwise(arguments))
        (folder / options["--bit"]).write_bytes((folder / options["--input"]).read_bytes())


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.setattr(builder, "run_tool", made := Tools())
    monkeypatch.setattr(builder, "_elaborate", lambda *arguments: (0x0123456789ABCDEF, 0.0))
    return made


@pytest.fixture
def earlier(tmp_path):
    """The files of an earlier build."""
    files = [tmp_path / BITSTREAM, tmp_path / "manifest.json"]
    for file in files:
        file.write_text("{}")
    return files


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def assert_failed(folder, broken_rules, seeds):
    """The manifest tells of these rules and of no bitstream, and there is none."""
    told = manifest(folder)
    assert (told["passed"], told["broken_rules"], told["seeds"]) == (False, broken_rules, seeds)
    assert [told[key] for key in ("bitstream", "bitstream_sha256", "bitstream_seed")] == [None] * 3
    assert list(folder.glob("*.bit")) == []


def test_a_sound_build(tools, tmp_path):
    result = build(without_rules(), out_dir=tmp_path)
    told = manifest(tmp_path)
    assert (told["passed"], told["broken_rules"], told["seeds"], told["bitstream"]) == (True, [], [1], BITSTREAM)
    assert told["bitstream_sha256"] == hashlib.sha256(result.bitstream.read_bytes()).hexdigest()
    assert tools.called == ["yosys", "nextpnr-ecp5", "ecppack"]


def test_a_broken_rule_leaves_no_bitstream(tools, tmp_path, earlier):
    tools.margins[2] = MARGINS | {"gear_clock": 0.99}
    with pytest.raises(TimingError, match=r"misses its rules \(see manifest.json\): seed 2: clock gear_clock reaches"):
        build(without_rules(), out_dir=tmp_path, seeds=2)
    assert_failed(tmp_path, ["seed 2: clock gear_clock reaches 150.74 MHz of 152.26 MHz"], [1, 2])
    assert "ecppack" not in tools.called


def test_a_netlist_that_lacks_something_leaves_no_bitstream(tools, tmp_path, earlier):
    with pytest.raises(TimingError, match=r"^0 cells OSCG in the netlist"):
        build(without_rules(minimum_cells={"OSCG": 1}), out_dir=tmp_path)
    (sentence,) = manifest(tmp_path)["broken_rules"]
    assert sentence.startswith("0 cells OSCG in the netlist, at least 1 expected")
    assert_failed(tmp_path, [sentence], [])
    assert tools.called == ["yosys"]


def test_a_failing_tool_leaves_no_earlier_bitstream(tools, tmp_path, earlier, monkeypatch):
    def failing(*arguments, **options):
        raise ToolError("yosys ended with status 1")

    monkeypatch.setattr(tools, "yosys", failing)
    with pytest.raises(ToolError):
        build(without_rules(), out_dir=tmp_path)
    assert not any(file.exists() for file in earlier)


def test_nothing_of_an_earlier_build_is_packed(tools, tmp_path, monkeypatch):
    """A place and route that ends well and writes no design."""
    build(without_rules(), out_dir=tmp_path)
    whole = tools.nextpnr_ecp5

    def without_a_design(arguments, folder, log):
        whole([{"seed1.config": "elsewhere"}.get(argument, argument) for argument in arguments], folder, log)

    monkeypatch.setattr(tools, "nextpnr_ecp5", without_a_design)
    with pytest.raises(FileNotFoundError):
        build(without_rules(), out_dir=tmp_path)
    assert list(tmp_path.glob("*.bit")) == []


def test_tools_of_a_killed_build_cannot_reach_the_next(tools, tmp_path, monkeypatch):
    """Place and route of a build goes on and writes its design just before the next build, in its place, packs its own.

    The first build stands still meanwhile, like one that was killed.
    """
    whole, pack = tools.nextpnr_ecp5, tools.ecppack
    said = []

    def orphan(arguments, folder, log):
        def late(*packing):
            (folder / "seed1.config").write_text("the design of the first build")
            pack(*packing)

        monkeypatch.setattr(tools, "nextpnr_ecp5", whole)
        monkeypatch.setattr(tools, "ecppack", late)
        build(without_rules(), out_dir=tmp_path, progress=said.append)
        raise ToolError("the first build ends")

    monkeypatch.setattr(tools, "nextpnr_ecp5", orphan)
    with pytest.raises(ToolError, match="the first build ends"):
        build(without_rules(), out_dir=tmp_path)
    assert manifest(tmp_path)["passed"]
    assert "JREFCLK0_3" in (tmp_path / BITSTREAM).read_text()
    assert "is left of a build that was killed, or of one that still runs" in said[0]


def test_the_files_of_a_build_end_up_in_its_folder(tools, tmp_path):
    build(without_rules(), out_dir=tmp_path, seeds=2)
    names = {f"seed{seed}.{what}" for seed in (1, 2) for what in ("log", "report.json", "config")}
    assert {file.name for file in tmp_path.iterdir()} == names | {"manifest.json", BITSTREAM, "top.json"}


def test_bitstreams_of_other_kinds_stay(tools, tmp_path, earlier):
    """A folder may hold the bitstream with the reference and the free-running one, each from a build of its own."""
    del tools.clocks_mhz["reference_clock"]
    build(without_rules(), out_dir=tmp_path, free_running=True)
    assert manifest(tmp_path)["bitstream"] == "qrelay-ulx3s-85f-free-running.bit"
    assert (tmp_path / BITSTREAM).read_text() == "{}"


def test_a_flip_flop_away_from_its_pad_fails(tools, tmp_path):
    """The wide and the narrow cells of the pads count together; `test_board_build` has what the real tools report."""
    tools.used |= {"IOLOGIC": 15, "SIOLOGIC": 5}
    build(without_rules(pad_cells=20), out_dir=tmp_path)
    with pytest.raises(TimingError):
        build(without_rules(pad_cells=21), out_dir=tmp_path)
    assert_failed(tmp_path, ["seed 1: 20 gearboxes and flip-flops sit at their pads, at least 21 expected"], [1])


def test_chains_are_held_against_the_placed_netlist(tools, tmp_path):
    board = without_rules("ulx3s-85f-tdc")
    with pytest.raises(TimingError):
        build(board, out_dir=tmp_path)
    broken = [f"seed 1: carry chain of detector_{d}: the pad is not connected" for d in range(4)]
    assert_failed(tmp_path, broken, [1])


def ring_of_three():
    """Cells of a ring, and the flip-flop that samples it and feeds the station."""

    def cell(kind, output, attributes, **inputs):
        directions = dict.fromkeys(inputs, "input") | {output[0]: "output"}
        connections = {port: [bit] for port, bit in inputs.items()} | {output[0]: [output[1]]}
        parameters = {"INIT": f"{0x5555:016b}"}
        return {
            "type": kind,
            "attributes": attributes,
            "parameters": parameters,
            "port_directions": directions,
            "connections": connections,
        }

    stages = {
        f"rings.ring_0_{stage}": cell(
            "LUT4", ("Z", 10 + stage), {"qrelay_ring": "0", "qrelay_stage": f"{stage:b}"}, A=10 + (stage - 1) % 3
        )
        for stage in range(3)
    }
    return stages | {
        "rings.sampler_0_TRELLIS_FF_Q": cell("TRELLIS_FF", ("Q", 20), {}, DI=10),
        "station.entropy.sampler_TRELLIS_FF_Q": cell("TRELLIS_FF", ("Q", 21), {}, DI=20),
    }


def test_rings_are_held_against_the_placed_netlist(tools, tmp_path):
    tools.netlist["cells"] = ring_of_three()
    with pytest.raises(TimingError):
        build(without_rules(rings=(3,)), out_dir=tmp_path)
    assert_failed(tmp_path, ["seed 1: ring 0 has 0 of its 3 inverters in the netlist, placed"], [1])


def test_blocks_of_the_board_are_held_against_the_netlist(tools, tmp_path):
    block = Block("station.keystream", 1, 0, 0, "choices")
    board = without_rules(blocks=(block,))
    with pytest.raises(TimingError, match=r"^station.keystream holds 0 flip-flops, at least 1 expected"):
        build(board, out_dir=tmp_path)
    assert len(manifest(tmp_path)["broken_rules"]) == 1
    build(board, out_dir=tmp_path, minimum_blocks=())
    tools.netlist["cells"]["station.keystream.go_TRELLIS_FF_Q"] = {"type": "TRELLIS_FF", "connections": {}}
    build(board, out_dir=tmp_path)


def test_gears_of_the_board_are_held_against_the_netlist(tools, tmp_path):
    with pytest.raises(TimingError, match=r"^output line_3 has no gearbox .*; input detector_1 is not read"):
        build(without_rules(geared_outputs=("line_3",), geared_inputs=("detector_1",)), out_dir=tmp_path)
    assert len(manifest(tmp_path)["broken_rules"]) == 2
    assert tools.called == ["yosys"]


RAM = {
    "type": "DP16KD",
    "parameters": {"REGMODE_A": "NOREG", "REGMODE_B": "NOREG", "CLKAMUX": "CLKA", "CLKBMUX": "CLKB"},
    "connections": {"DOA0": [7], "CLKA": [5], "CLKB": [5]},
    "port_directions": {"DOA0": "output", "CLKA": "input", "CLKB": "input"},
}


def test_read_ports_without_a_register_are_listed_and_limited(tools, tmp_path):
    tools.netlist["cells"] |= {"station.table.0.0": RAM}
    tools.netlist["ports"] = {"dout": {"bits": [7]}}
    build(without_rules(plain_read_ports=1), out_dir=tmp_path)
    assert manifest(tmp_path)["plain_read_ports"] == ["station.table.0.0.A"]
    with pytest.raises(TimingError, match=r"^1 read ports of block RAMs have no output register, at most 0 expected"):
        build(without_rules(plain_read_ports=0), out_dir=tmp_path)
    assert manifest(tmp_path)["plain_read_ports"] == ["station.table.0.0.A"]


def report(**margins):
    return TimingReport({c: ClockTiming(c, 100 * margin, 100.0) for c, margin in margins.items()}, (), {})


def test_the_bitstream_is_that_of_the_seed_whose_worst_clock_is_best():
    reports = {
        1: report(word_clock=1.5, gear_clock=1.01),
        2: report(word_clock=1.2, gear_clock=1.3),
        3: report(word_clock=1.1, gear_clock=2.0),
    }
    assert best_seed(reports) == 2


def test_the_build_takes_the_best_seed(tools, tmp_path):
    tools.margins = {1: MARGINS | {"word_clock": 2.0, "gear_clock": 1.01}, 2: MARGINS | {"word_clock": 1.2}}
    result = build(without_rules(), out_dir=tmp_path, seeds=2)
    assert manifest(tmp_path)["bitstream_seed"] == 2
    assert result.bitstream.read_bytes() == (tmp_path / "seed2.config").read_bytes()
