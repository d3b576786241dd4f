"""Ring oscillators: they are in the netlist that the real synthesis tool makes, and the check finds what is not."""

import json

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Instance, Module, Signal
from amaranth.lib.cdc import FFSynchronizer

from qrelay_boards.ecp5_rings import RING_LENGTHS, RingOscillators, check_rings
from qrelay_boards.toolchain import run_tool


def synthesise(folder, design, noise):
    """Netlist as of a build, with the noise at a port."""
    m = Module()
    m.domains.sync = sync = ClockDomain(reset_less=True)
    m.submodules.rings = design
    out = Signal()
    m.d.comb += out.eq(noise)
    (folder / "top.il").write_text(rtlil.convert(m, ports=[out, sync.clk], emit_src=False))
    # The script of qrelay_boards.build.
    script = (
        "read_rtlil top.il; synth_ecp5 -top top -nowidelut -run begin:map_ffs; clean -purge; "
        "synth_ecp5 -top top -nowidelut -run map_ffs:; write_json top.json"
    )
    run_tool("yosys", ["-q", "-p", script], folder, "yosys.log")
    return folder / "top.json"


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    rings = RingOscillators()
    return synthesise(tmp_path_factory.mktemp("rings"), rings, rings.noise)


def test_rings_survive_synthesis(netlist):
    assert check_rings(netlist, RING_LENGTHS) == []
    (top,) = [m for m in json.loads(netlist.read_text())["modules"].values() if m["attributes"].get("top")]
    luts = [cell for cell in top["cells"].values() if cell["type"] == "LUT4"]
    # The inverters, and a few tables that add up eight samples.
    assert sum(RING_LENGTHS) < len(luts) <= sum(RING_LENGTHS) + 12


def changed(netlist, folder, change):
    design = json.loads(netlist.read_text())
    cells = next(m for m in design["modules"].values() if m["attributes"].get("top"))["cells"]
    change(cells)
    (folder / "changed.json").write_text(json.dumps(design))
    return folder / "changed.json"


def ring_cells(cells, ring):
    found = [c for c in cells.values() if int(c["attributes"].get("qrelay_ring", "11111"), 2) == ring]
    return {int(cell["attributes"]["qrelay_stage"], 2): cell for cell in found}


def remove_an_inverter(cells):
    lost = ring_cells(cells, 2)[4]
    del cells[next(name for name, cell in cells.items() if cell is lost)]


def cut_open(cells):
    ring_cells(cells, 1)[3]["connections"]["A"] = ["0"]


def make_a_buffer(cells):
    ring_cells(cells, 0)[1]["parameters"]["INIT"] = f"{0xAAAA:016b}"


def lose_the_sampler(cells):
    (node,) = ring_cells(cells, 5)[0]["connections"]["Z"]
    for cell in cells.values():
        if cell["type"] == "TRELLIS_FF":
            for port in ("DI", "M"):
                if cell["connections"].get(port) == [node]:
                    cell["connections"][port] = ["0"]


def cut_the_way_to_the_station(cells):
    """The sum of the samples is registered no more: the port gets a constant."""
    cells["out_TRELLIS_FF_Q"]["connections"]["DI"] = ["0"]


def test_samples_must_reach_the_station(netlist, tmp_path):
    found = check_rings(changed(netlist, tmp_path, cut_the_way_to_the_station), RING_LENGTHS)
    assert found == [f"the samples of ring {ring} do not reach the station" for ring in range(len(RING_LENGTHS))]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove_an_inverter, "ring 2 has 6 of its 7 inverters in the netlist"),
        (cut_open, "ring 1 is broken at inverter 3"),
        (make_a_buffer, "ring 0 is broken at inverter 1"),
        (lose_the_sampler, "no flip-flop samples ring 5"),
    ],
)
def test_check_finds_what_is_missing(netlist, tmp_path, change, message):
    assert check_rings(changed(netlist, tmp_path, change), RING_LENGTHS) == [message]


def test_rings_that_are_not_kept_are_lost_and_found_missing(tmp_path):
    """The same cells without `keep`, and nobody who looks at them: synthesis removes them, the check says so."""
    m = Module()
    nodes = [Signal(name=f"node_{n}") for n in range(3)]
    for stage, node in enumerate(nodes):
        m.submodules[f"stage_{stage}"] = Instance(
            "LUT4",
            ("a", "qrelay_ring", 0),
            ("a", "qrelay_stage", stage),
            ("p", "INIT", 0x5555),
            *(("i", port, 0) for port in "BCD"),
            ("i", "A", nodes[stage - 1]),
            ("o", "Z", node),
        )
    sample = Signal()
    m.submodules.sampler = FFSynchronizer(nodes[0], sample)
    netlist = synthesise(tmp_path, m, 0)
    assert check_rings(netlist, (3,)) == ["ring 0 has 0 of its 3 inverters in the netlist"]


@pytest.mark.parametrize("length", [0, 1, 4])
def test_rings_that_would_not_oscillate_are_refused(length):
    message = f"ring of {length} inverters does not oscillate as meant; give an odd number from 3 on"
    with pytest.raises(ValueError, match=message):
        RingOscillators.__init__(object.__new__(RingOscillators), (length,))
