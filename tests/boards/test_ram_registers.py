"""Output registers of block RAMs: on netlists of the real synthesis tool."""

import json

import pytest
from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Module, Signal
from amaranth.lib.memory import Memory

from qrelay_boards.ecp5_ram_registers import absorb_output_registers, plain_read_ports
from qrelay_boards.toolchain import run_tool

BLOCK_RAM = {"rom_style": "block", "ram_style": "block"}


def netlist(folder, *, also_read_directly=False, enable=None, late_clock=False, reset=False):
    """A table of 256 bytes with a register behind it, through synthesis: (path of the netlist, its modules)."""
    m = Module()
    m.domains.sync = sync = ClockDomain(reset_less=not reset)
    m.domains.late = late = ClockDomain(reset_less=True)
    address = Signal(8)
    data = Signal(8)
    direct = Signal(8)
    enables = Signal(2, init=3)
    m.submodules.table = table = Memory(
        shape=8, depth=256, init=[(37 * n + 11) % 256 for n in range(256)], attrs=BLOCK_RAM
    )
    read = table.read_port()
    m.d.comb += read.addr.eq(address)
    domain = m.d.late if late_clock else m.d.sync
    if enable is None:
        domain += data.eq(read.data)
    else:
        for half in range(2):
            with m.If(enables[half if enable == "two" else 0]):
                domain += data.word_select(half, 4).eq(read.data.word_select(half, 4))
    if also_read_directly:
        m.d.comb += direct.eq(read.data ^ address)
    ports = [address, data, direct, enables, late.clk, sync.clk, *([sync.rst] if reset else [])]
    (folder / "top.il").write_text(rtlil.convert(m, ports=ports, emit_src=False))
    script = "read_rtlil top.il; synth_ecp5 -top top; write_json top.json"
    run_tool("yosys", ["-q", "-p", script], folder, "yosys.log")
    return folder / "top.json"


def parts(path):
    """The RAM, the flip-flops and the bits of the output of a netlist."""
    top = next(m for m in json.loads(path.read_text())["modules"].values() if m["attributes"].get("top"))
    cells = top["cells"].values()
    (ram,) = [cell for cell in cells if cell["type"] == "DP16KD"]
    return ram, [cell for cell in cells if cell["type"] == "TRELLIS_FF"], top["ports"]


@pytest.mark.parametrize("enable", [None, "one"])
def test_registers_move_into_the_ram(tmp_path, enable):
    path = netlist(tmp_path, enable=enable)
    before, flip_flops, ports = parts(path)
    assert len(flip_flops) == 8
    assert plain_read_ports(path) == ["table.0.0.A"]
    d_of_q = {ff["connections"]["Q"][0]: ff["connections"]["DI"][0] for ff in flip_flops}
    outputs = [bit for n in range(18) for bit in before["connections"][f"DOA{n}"]]
    assert absorb_output_registers(path) == 8
    after, left, _ = parts(path)
    assert left == []
    assert plain_read_ports(path) == []
    assert (after["parameters"]["REGMODE_A"], after["parameters"]["REGMODE_B"]) == ("OUTREG", "NOREG")
    assert after["connections"]["OCEA"] == (["1"] if enable is None else [ports["enables"]["bits"][0]])
    # Bit n of the output still comes from where the flip-flop of bit n took it.
    now = [bit for n in range(18) for bit in after["connections"][f"DOA{n}"]]
    for bit in ports["data"]["bits"]:
        assert now.index(bit) == outputs.index(d_of_q[bit])
    assert {k: v for k, v in after["connections"].items() if not k.startswith(("DOA", "OCEA"))} == {
        k: v for k, v in before["connections"].items() if not k.startswith(("DOA", "OCEA"))
    }


@pytest.mark.parametrize(
    "difference", [{"also_read_directly": True}, {"enable": "two"}, {"late_clock": True}, {"reset": True}]
)
def test_other_registers_stay(tmp_path, difference):
    """Data also used without the register, two enables, another clock, a reset: nothing is changed."""
    path = netlist(tmp_path, **difference)
    before = path.read_bytes()
    assert absorb_output_registers(path) == 0
    assert path.read_bytes() == before
    assert len(parts(path)[1]) == 8
    assert plain_read_ports(path) == ["table.0.0.A"]
