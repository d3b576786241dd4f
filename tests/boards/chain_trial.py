"""Carry chains alone, placed and routed: channels from pad to words of hits, without a station around them.

``python chain_trial.py ULX3S 8 FOLDER SEED...`` does so for as many channels; it takes some minutes a seed.
"""

import json
import os
import sys
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.lib.cdc import FFSynchronizer

from qrelay.protocol.tdc import TAPS
from qrelay_boards.build import PLACER
from qrelay_boards.chain_check import broken_chains
from qrelay_boards.ecp5_ram_registers import absorb_output_registers
from qrelay_boards.ecp5_tdc import BLACK_BOX, CARRY_CELL, UNSEAL, CarryChain, FreeOscillator
from qrelay_boards.toolchain import run_tool
from qrelay_gateware.tdc_channel import TdcChannel

ULX3S = ("--85k", "--package", "CABGA381", "--speed", "6")
ECPIX5 = ("--um5g-85k", "--package", "CABGA554", "--speed", "8")
SMALL = ("--25k", "--package", "CABGA381", "--speed", "6")


def trial(channels, taps=TAPS):
    """Channels with their settings from, and their hits to, a shift register."""
    m = _with_clocks()
    data_in, select, data_out = Signal(name="din"), Signal(name="sel"), Signal(name="dout")
    pads = [Signal(name=f"detector_{d}_io") for d in range(channels)]
    m.submodules.oscillator = oscillator = FreeOscillator()
    shift = Signal(40)
    m.d.sync += shift.eq(Cat(data_in, shift))
    capture = Signal()
    m.d.gear += capture.eq(~capture)
    results = []
    for d, pad in enumerate(pads):
        m.submodules[f"chain_{d}"] = chain = CarryChain(taps)
        m.submodules[f"channel_{d}"] = channel = TdcChannel(taps)
        m.submodules[f"buffer_{d}"] = Instance("IB", i_I=pad, o_O=chain.pad)
        m.submodules[f"select_{d}"] = FFSynchronizer(select, chain.use_oscillator, o_domain="osc")
        own_capture = Signal(name=f"capture_{d}")
        m.d.gear += own_capture.eq(~capture)
        capture = own_capture
        m.d.comb += [
            chain.oscillator.eq(oscillator.level),
            channel.taps.eq(chain.taps),
            channel.capture.eq(own_capture),
            channel.config.eq(shift),
            channel.table.address.eq(shift[15:]),
            channel.table.value.eq(shift[24:]),
            channel.table.enable.eq(shift[33]),
        ]
        result = Signal(len(channel.word.as_value()) + len(channel.density.as_value()), name=f"result_{d}")
        m.d.sync += result.eq(Cat(channel.word, channel.density))
        results.append(result)
    m.d.comb += data_out.eq(parity(m, m.d.sync, Cat(*results)))
    return m, [*CLOCKS.values(), data_in, select, data_out, *pads]


def chains_alone(channels, taps):
    """Chains whose flip-flops are read by nothing but a parity."""
    m = _with_clocks()
    select, data_out = Signal(name="sel"), Signal(name="dout")
    pads = [Signal(name=f"detector_{d}_io") for d in range(channels)]
    m.submodules.oscillator = oscillator = FreeOscillator()
    chains = []
    for d, pad in enumerate(pads):
        m.submodules[f"chain_{d}"] = chain = CarryChain(taps)
        m.submodules[f"buffer_{d}"] = Instance("IB", i_I=pad, o_O=chain.pad)
        m.submodules[f"select_{d}"] = FFSynchronizer(select, chain.use_oscillator, o_domain="osc")
        m.d.comb += chain.oscillator.eq(oscillator.level)
        chains.append(chain.taps)
    m.d.comb += data_out.eq(parity(m, m.d.gear, Cat(*chains)))
    return m, [*CLOCKS.values(), select, data_out, *pads]


CLOCKS = {name: Signal(name=f"{name}_clk") for name in ("gear", "sync", "osc")}
GEAR_CLOCK = ("pad", "gear_clk")
CLOCKS_MHZ = {"gear": 152.26, "sync": 76.13, "osc": 25.0}


def _with_clocks():
    m = Module()
    for name, clock in CLOCKS.items():
        m.domains += ClockDomain(name, reset_less=True)
        m.d.comb += ClockSignal(name).eq(clock)
    return m


def parity(m, domain, bits):
    """Parity of bits, four at a time and registered."""
    while len(bits) > 1:
        layer = Signal(-(-len(bits) // 4), name=f"parity_of_{len(bits)}")
        domain += layer.eq(Cat(bits[n : n + 4].xor() for n in range(0, len(bits), 4)))
        bits = layer
    return bits


def synthesise(folder, design, *, cell=CARRY_CELL):
    """Netlist ``top.json`` in `folder`. Chains survive as `cell` CARRY_CELL; CCU2C shows what becomes of them else."""
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    m, ports = design
    text = rtlil.convert(m, name="top", ports=ports, emit_src=False)
    (folder / "top.il").write_text(text.replace(CARRY_CELL, cell))
    (folder / "carry.v").write_text(BLACK_BOX)
    synth = "synth_ecp5 -top top -nowidelut"
    script = (
        f"read_verilog -lib carry.v; read_rtlil top.il; {synth} -run begin:map_ffs; clean -purge; "
        f"{synth} -run map_ffs:; {UNSEAL}; write_json top.json"
    )
    run_tool("yosys", ["-q", "-p", script], folder, "yosys.log")
    absorb_output_registers(folder / "top.json")


def place_and_route(folder, device, seed=1):
    """Place and route; returns the report. The placed netlist is ``placed.json``."""
    (folder / "top.lpf").write_text(
        "".join(f'FREQUENCY PORT "{name}_clk" {mhz} MHZ;\n' for name, mhz in CLOCKS_MHZ.items())
    )
    run_tool(
        "nextpnr-ecp5",
        [
            *device,
            *("--json", "top.json", "--lpf", "top.lpf", "--lpf-allow-unconstrained", "--textcfg", "top.config"),
            *("--seed", str(seed), "--report", "report.json", "--write", "placed.json", "--timing-allow-fail"),
            *PLACER,
        ],
        folder,
        "nextpnr.log",
    )
    return json.loads((folder / "report.json").read_text())


def main(device, channels, folder, seeds):
    """Print the frequencies that so many channels reach with each seed, and what is wrong with their chains."""
    options = {"ULX3S": ULX3S, "ECPIX5": ECPIX5, "SMALL": SMALL}[device]
    folder.mkdir(parents=True, exist_ok=True)
    synthesise(folder, trial(channels))
    worst = {}
    for seed in seeds:
        for net, clock in place_and_route(folder, options, seed)["fmax"].items():
            name, margin = net.split("$")[-2], clock["achieved"] / clock["constraint"]
            worst[name] = min(margin, worst.get(name, margin))
            print(f"seed {seed}: {name} {clock['achieved']:.1f} MHz of {clock['constraint']:.1f} MHz, {margin:.2f}x")
        broken = broken_chains(folder / "placed.json", {f"detector_{d}": TAPS for d in range(channels)}, GEAR_CLOCK)
        print(f"seed {seed}:", "; ".join(broken) or "every chain is whole", flush=True)
    print("worst:", ", ".join(f"{name} {margin:.2f}x" for name, margin in worst.items()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), [int(seed) for seed in sys.argv[4:]])
