"""The whole build on a small station: tools, rules and manifest, without the hours of a full design."""

import dataclasses
import hashlib
import json

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from stand_in import StandIn

from qrelay.bitstream_file import bitstream_build_id
from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.identity import Capability, Entropy
from qrelay_boards import boards
from qrelay_boards.board import Block
from qrelay_boards.build import build
from qrelay_boards.ecp5_rings import RING_LENGTHS
from qrelay_boards.ecp5_variants import with_rings, with_serial_number
from qrelay_boards.timing_report import TimingError
from qrelay_boards.toolchain import ToolError, run_tool
from qrelay_boards.ulpi_pins import USB_CELLS

BOARD = boards()["ulx3s-85f"]
FACTS = BOARD.facts(BOARD.clock_plan())
SMALL = {"station": StandIn, "minimum_blocks": ()}
"""A build of the stand-in, which has none of the station's blocks."""
PINS = {
    "ulx3s-85f": (10, 5),
    "ecpix5-85f": (10, 5),
    "butterstick-85f": (10, 5),
    "orangecrab-85f": (5, 2),
    "ecpix5-85f-usb": (10, 5),
    "butterstick-85f-usb": (10, 5),
    "ulx3s-85f-sdram": (10, 5),
}
"""Output pins with gearboxes: lines, start and probe; input pins: detectors and start."""
CORNERS = {
    "orangecrab-85f": "UR",
    "ecpix5-85f-usb": "UR",
    "butterstick-85f-usb": "LL",
    "ulx3s-85f-sdram": "UR",
}
"""Place of the PLL: the corner of the die to which the reference pin leads."""
FREE_PPB = 550_046


# All of an ECPIX-5 or ButterStick but the UART is in its build with USB, all of a ULX3S in that with SDRAM and rings.
BUILDS = [
    ("ulx3s-85f", True, False),
    ("ulx3s-85f-sdram", False, True),
    ("ecpix5-85f-usb", False, False),
    ("butterstick-85f-usb", False, False),
    ("orangecrab-85f", False, False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "free_running", "rings"), BUILDS)
def test_build(tmp_path, name, free_running, rings):
    board = with_rings(boards()[name]) if rings else boards()[name]
    said = []
    result = build(
        board,
        out_dir=tmp_path,
        free_running=free_running,
        progress=said.append,
        **SMALL,
    )
    manifest = json.loads(result.manifest.read_text())
    assert manifest["passed"]
    assert manifest["protocol_hash"] == f"{PROTOCOL_HASH:#018x}"
    assert manifest["bitstream_sha256"] == hashlib.sha256(result.bitstream.read_bytes()).hexdigest()
    assert f"{bitstream_build_id(result.bitstream):016x}" == manifest["build_id"]
    assert manifest["clock_plan"]["external"] is not free_running
    assert manifest["rings"] == (list(RING_LENGTHS) if rings else [])
    marks = ("-free-running" if free_running else "") + ("-rings" if rings else "")
    assert result.bitstream.name == f"qrelay-{name}{marks}.bit"
    assert manifest["clock_plan"]["error_ppb"] == (FREE_PPB if free_running else 0)
    assert any("internal clock" in line for line in said) is free_running
    assert result.bitstream.stat().st_size > 50_000
    assert (result.cells["ODDRX2F"], result.cells["IDDRX2F"]) == PINS[name]
    assert result.cells["DELAYF"] == PINS[name][0]
    # Flip-flops of the key bits from outside sit at their pads, beside the gearboxes.
    used = manifest["resources"]
    at_pads = sum(used[kind]["used"] for kind in ("IOLOGIC", "SIOLOGIC") if kind in used)
    at_memory = 37 if name == "ulx3s-85f-sdram" else 0
    assert at_pads == sum(PINS[name]) + 5 * (name != "orangecrab-85f") + (name == "butterstick-85f-usb") + at_memory
    # The words cross with room to spare even in a small design.
    crossings = manifest["timing"]["1"]["crossings_ns"]
    assert crossings["word_clock -> gear_clock"] < 4.9
    assert crossings["gear_clock -> word_clock"] < 4.9
    # The reference goes to the PLL in the corner of its own pin; that it does so directly is a rule of the build.
    if not free_running:
        assert f"EHXPLL_{CORNERS[name]}" in (tmp_path / "seed1.log").read_text()
    # No absolute path of this machine in what is kept.
    for kept in (result.manifest, tmp_path / "seed1.report.json"):
        assert str(tmp_path) not in kept.read_text()


@pytest.mark.parametrize("name", PINS)
def test_identity_tells_what_is_wired(name):
    board = boards()[name]
    identity = board.facts(board.clock_plan()).identity
    assert identity.board == name
    assert (identity.lines, identity.detectors) == ((4, 1) if name == "orangecrab-85f" else (8, 4))
    assert identity.link_baud == (480_000_000 if name.endswith("-usb") else 3_000_000)
    wired = Capability.SENDER | Capability.RECEIVER | Capability.FINE_DELAY
    assert identity.capabilities == wired | Capability.EXTERNAL_REFERENCE
    free = board.facts(board.clock_plan(free_running=True)).identity
    assert free.capabilities == wired


def test_removed_logic_fails(tmp_path):
    """A station whose hits go nowhere loses its input gearboxes in synthesis; those of still outputs remain."""

    class Silent(StandIn):
        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.tx.valid.eq(self.clock_locked)
            return m

    with pytest.raises(TimingError, match="0 cells IDDRX2F in the netlist, at least 5 expected"):
        build(BOARD, out_dir=tmp_path, **SMALL | {"station": Silent})
    rules = " ".join(json.loads((tmp_path / "manifest.json").read_text())["broken_rules"])
    assert "cells ODDRX2F" not in rules
    for pin in BOARD.wiring.outputs:
        assert f"output {pin} is constant in some bins (D0, D1, D2, D3 of its gearbox)" in rules


class Ticker(Elaboratable):
    """Eight flip-flops that count, and one that tells of every round."""

    def __init__(self):
        self.tick = Signal()

    def elaborate(self, platform):
        m = Module()
        count = Signal(8)
        m.d.sync += Cat(count, self.tick).eq(count + 1)
        return m


def test_removed_block_fails(tmp_path):
    """Of two blocks that are the same, one has an effect; synthesis removes the other, and the build says which."""

    class Forgetful(StandIn):
        def elaborate(self, platform):
            m = super().elaborate(platform)
            m.submodules.heard = heard = Ticker()
            m.submodules.unheard = Ticker()
            with m.If(heard.tick):
                m.d.comb += self.tx.valid.eq(0)
            return m

    blocks = [Block(f"station.{name}", 9, 0, 0, f"ticks {name}") for name in ("heard", "unheard")]
    with pytest.raises(TimingError, match=r"^station.unheard holds 0 flip-flops, at least 9 expected"):
        build(BOARD, out_dir=tmp_path, station=Forgetful, minimum_blocks=blocks)
    assert len(json.loads((tmp_path / "manifest.json").read_text())["broken_rules"]) == 1


def test_serial_number():
    board = with_serial_number(boards()["ecpix5-85f-usb"], "A7")
    assert (board.name, board.wiring.ulpi.serial_number) == ("ecpix5-85f-usb", "A7")
    with pytest.raises(ValueError, match=r"^ulx3s-85f has a UART; only boards with their link by USB have"):
        with_serial_number(BOARD, "A7")


def test_removed_usb_device_fails(tmp_path):
    """A station that neither sends nor listens leaves the USB device nothing to carry."""

    class Deaf(StandIn):
        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.running.eq(self.clock_locked)
            return m

    board = boards()["ecpix5-85f-usb"]
    with pytest.raises(TimingError, match=r"[0-3] cells usb_clock:DP16KD in the netlist, at least 4 expected"):
        build(board, out_dir=tmp_path, **SMALL | {"station": Deaf}, minimum_cells=USB_CELLS)


def test_seeds_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="seeds 0: at least one is needed"):
        BOARD.build(out_dir=tmp_path, seeds=0)


def test_missing_tool(tmp_path, monkeypatch):
    monkeypatch.setenv("YOSYS", "no-such-yosys")
    with pytest.raises(ToolError, match="YOSYS names 'no-such-yosys', which is not there"):
        run_tool("yosys", [], tmp_path, "log")


def test_failing_tool(tmp_path, monkeypatch):
    monkeypatch.setenv("YOSYS", "sh -c 'echo first; echo ERROR: no such module; exit 3'")
    with pytest.raises(ToolError, match=r"^yosys ended with status 3: ERROR: no such module$"):
        run_tool("yosys", [], tmp_path, "log")


@pytest.mark.slow
def test_reference_through_the_fabric_fails(tmp_path):
    """Without the command that keeps it off the clock network the reference leaves its own way to the PLL."""
    board = dataclasses.replace(BOARD, external_synthesis="")
    with pytest.raises(TimingError, match="seed 1: the reference reaches the PLL through the fabric, not from its pad"):
        build(board, out_dir=tmp_path, **SMALL)
    assert not json.loads((tmp_path / "manifest.json").read_text())["passed"]


def test_identity_tells_of_rings():
    board = with_rings(BOARD)
    identity = board.facts(board.clock_plan()).identity
    assert (identity.board, identity.entropy) == (BOARD.name, Entropy.RING_OSCILLATOR)
    assert FACTS.identity.entropy == Entropy.HOST
    assert sum(board.rings) == 80


def test_broken_ring_fails(tmp_path):
    """The design has one ring fewer than the rules of the board."""
    board = dataclasses.replace(with_rings(BOARD), rings=(*RING_LENGTHS, 19))
    with pytest.raises(TimingError, match=r"^ring 8 has 0 of its 19 inverters in the netlist$"):
        build(board, out_dir=tmp_path, **SMALL)
