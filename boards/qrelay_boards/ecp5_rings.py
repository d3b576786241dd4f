"""Ring oscillators of instantiated look-up tables: the noise source of ECP5 boards, and the proof that it was built.

A ring is an odd number of inverters in a circle. Its edges wander by thermal noise against the word clock, and the
station samples it so seldom that much wander has added up. Written as logic, synthesis would remove it, and place and
route stops at a loop; cells that are instantiated and kept survive both (`--ignore-loops`).

How much entropy a sample has on silicon is unknown until raw samples of a board have been assessed.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import Out

__all__ = ["RING_LENGTHS", "RingOscillators", "check_rings"]

RING_LENGTHS = (3, 5, 7, 9, 11, 13, 15, 17)
"""Inverters of each ring: all different, so that no two rings run at one frequency and lock to each other."""

_INVERTER = 0x5555
"""Truth table of an LUT4 that inverts its input A."""
_RING = "qrelay_ring"
_STAGE = "qrelay_stage"
_TABLES = {"LUT4": ("Z", "INIT"), "TRELLIS_COMB": ("F", "INITVAL")}
"""A look-up table in netlists of Yosys and of nextpnr: its type, its output and the parameter with its truth table."""


class RingOscillators(wiring.Component):
    """Free-running rings, each sampled in every clock, their samples added modulo 2.

    The sum is at least as unpredictable as the best of the rings, whatever the others do.

    Latency: `latency` clocks from the pins of the rings to `noise`.  Reset: rings cannot be stopped.  Overflow: none.

    Parameters
    ----------
    lengths : tuple of odd int
        Inverters of each ring.

    Ports
    -----
    noise : Out(1)
    """

    noise: Out(1)

    latency = 3

    def __init__(self, lengths: tuple[int, ...] = RING_LENGTHS):
        for length in lengths:
            if length % 2 == 0 or length < 3:
                raise ValueError(
                    f"ring of {length} inverters does not oscillate as meant; give an odd number from 3 on"
                )
        self._lengths = lengths
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        samples = []
        for ring, length in enumerate(self._lengths):
            nodes = [Signal(name=f"ring_{ring}_{stage}") for stage in range(length)]
            for stage, node in enumerate(nodes):
                m.submodules[f"ring_{ring}_{stage}"] = Instance(
                    "LUT4",
                    ("a", "keep", 1),
                    ("a", _RING, ring),
                    ("a", _STAGE, stage),
                    ("p", "INIT", _INVERTER),
                    ("i", "A", nodes[stage - 1]),
                    ("i", "B", 0),
                    ("i", "C", 0),
                    ("i", "D", 0),
                    ("o", "Z", node),
                )
            sample = Signal(name=f"sample_{ring}")
            m.submodules[f"sampler_{ring}"] = FFSynchronizer(nodes[0], sample)
            samples.append(sample)
        m.d.sync += self.noise.eq(Cat(samples).xor())
        return m


def check_rings(netlist: Path, lengths: tuple[int, ...]) -> list[str]:
    """What is wrong with the rings in a netlist of Yosys or, placed, of nextpnr; empty if each is whole.

    A whole ring has all its inverters, joined in one circle, with nothing else in it, and a flip-flop that samples it
    and from which the sample comes to the station.
    """
    if not lengths:
        return []
    modules = json.loads(netlist.read_text())["modules"].values()
    top = next((module for module in modules if "top" in module.get("attributes", {})), {"ports": {}, "cells": {}})
    rings: dict[int, dict[int, Any]] = {}
    loads: dict[int | str, list[str]] = defaultdict(list)
    for name, cell in top["cells"].items():
        attributes = cell.get("attributes", {})
        if cell["type"] in _TABLES and _RING in attributes:
            rings.setdefault(_number(attributes[_RING]), {})[_number(attributes[_STAGE])] = cell
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    loads[bit].append(name)
    outside = {bit for port in top["ports"].values() for bit in port["bits"]}
    wrong = []
    for ring, length in enumerate(lengths):
        inverters = rings.get(ring, {})
        if sorted(inverters) != list(range(length)):
            wrong.append(f"ring {ring} has {len(inverters)} of its {length} inverters in the netlist")
            continue
        broken = [
            stage
            for stage in range(length)
            if inverters[stage]["connections"]["A"] != _output(inverters[(stage - 1) % length])
            or _number(inverters[stage]["parameters"][_TABLES[inverters[stage]["type"]][1]]) != _INVERTER
        ]
        if broken:
            wrong.append(f"ring {ring} is broken at inverter {broken[0]}")
        samplers = [
            name for bit in _output(inverters[0]) for name in loads[bit] if top["cells"][name]["type"] == "TRELLIS_FF"
        ]
        if not samplers:
            wrong.append(f"no flip-flop samples ring {ring}")
        elif not any(_reaches_station(top["cells"], loads, outside, name) for name in samplers):
            wrong.append(f"the samples of ring {ring} do not reach the station")
    return wrong


def _reaches_station(
    cells: Mapping[str, Any], loads: Mapping[int | str, list[str]], outside: set[int | str], start: str
) -> bool:
    """Whether a way leads from a flip-flop over others and tables to a cell of the station, or out of the design."""
    seen = {start}
    ahead = [start]
    while ahead:
        name = ahead.pop()
        if name.startswith("station."):
            return True
        cell = cells[name]
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "output":
                for bit in bits:
                    if bit in outside:
                        return True
                    ahead += (new := set(loads.get(bit, ())) - seen)
                    seen |= new
    return False


def _output(table: Mapping[str, Any]) -> list[int | str]:
    bits: list[int | str] = table["connections"][_TABLES[table["type"]][0]]
    return bits


def _number(value: str | int) -> int:
    """Parameters and attributes in a netlist are texts of binary digits."""
    return value if isinstance(value, int) else int(value, 2)
