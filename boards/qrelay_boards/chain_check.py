"""Hold what place and route made of the carry chains against what they must be.

A chain that lost its taps still passes timing. So the final netlist is walked from each detector pad along the
carry, tap by tap, and every tap must have its flip-flop in its own slice: elsewhere the wire to it, not the chain,
would decide what it captures. A chain that lost its other source, the oscillator on the die, still shows clicks but can
have no table of times; so the start cell's inputs and the truth tables of all cells are looked at too.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .ecp5_tdc import START_TABLES, START_TAPS, TAP_TABLE

__all__ = ["broken_chains"]

Bit = int | str


def broken_chains(placed: Path, chains: Mapping[str, int], clock_source: tuple[str, str]) -> list[str]:
    """Sentences on every chain that is not whole.

    Parameters
    ----------
    placed : Path
        Netlist that nextpnr wrote after place and route (``--write``).
    chains : mapping
        Name of a pad, as its port begins, to the number of taps that it feeds.
    clock_source : tuple of str
        Type and port of the cell that drives the clock of all taps, or ("pad", name of the port), as in
        `Board.clock_sources`.
    """
    netlist = _Netlist(next(iter(json.loads(placed.read_text())["modules"].values())))
    sentences = []
    for pad, taps in chains.items():
        try:
            netlist.check(pad, taps, clock_source)
        except _Broken as reason:
            sentences.append(f"carry chain of {pad}: {reason}")
    return sentences


class _Broken(Exception):
    """Why a chain is not whole."""


class _Netlist:
    def __init__(self, module: Mapping[str, Any]):
        self.ports: Mapping[str, Any] = module["ports"]
        self.cells: Mapping[str, Any] = module["cells"]
        self.loads: dict[Bit, list[tuple[str, str]]] = defaultdict(list)
        self.drivers: dict[Bit, tuple[str, str]] = {}
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                for bit in bits:
                    if cell["port_directions"][port] == "input":
                        self.loads[bit].append((name, port))
                    else:
                        self.drivers[bit] = (name, port)

    def check(self, pad: str, taps: int, clock_source: tuple[str, str]) -> None:
        """Walk the chain of `pad` over all its taps."""
        half, port = self.only_load(self.pad_net(pad), "the pad")
        if self.cells[half]["type"] != "TRELLIS_COMB" or not self.is_carry(half) or port != "A":
            raise _Broken(f"the pad feeds {half}.{port}, which is no start of a carry chain")
        halves = [half]
        clocks = set()
        for place in range(1, START_TAPS + taps):
            what = f"the carry before tap {place - START_TAPS}" if place >= START_TAPS else "the start cell"
            half, port = self.only_load(self.net(half, "FCO", what), what)
            if not self.is_carry(half) or port != "FCI":
                raise _Broken(f"{what} leads to {half}.{port}, no carry cell")
            halves.append(half)
            if place >= START_TAPS:
                clocks.add(self.flip_flop(half, place - START_TAPS))
        if len(clocks) != 1:
            raise _Broken(f"its flip-flops have {len(clocks)} clocks, not one")
        kind, port = self.source(clocks.pop())
        if (kind, port) != clock_source:
            raise _Broken(f"its flip-flops have a clock from {kind}.{port}, not {'.'.join(clock_source)}")
        self.check_sources(*halves[:START_TAPS])
        self.check_tables(halves)

    def check_sources(self, first: str, second: str) -> None:
        """Hold the start cell's inputs against what they must come from: oscillator, and one flip-flop for both."""
        oscillator = self.source(self.net(second, "A", "the start cell's input for the oscillator"))
        if oscillator != ("OSCG", "OSC"):
            raise _Broken(f"its other source is {'.'.join(oscillator)}, not the oscillator on the die")
        choices = [self.net(half, "B", f"input B of {half}") for half in (first, second)]
        if choices[0] != choices[1]:
            raise _Broken("the halves of its start cell are switched by different nets")
        switch = self.source(choices[0])
        if switch != ("TRELLIS_FF", "Q"):
            raise _Broken(f"its source is chosen by {'.'.join(switch)}, not by a flip-flop")

    def check_tables(self, halves: list[str]) -> None:
        """Hold the truth tables of all cells, the start cell's first, against what they must compute."""
        for place, half in enumerate(halves):
            wanted = START_TABLES[place] if place < START_TAPS else TAP_TABLE
            table = int(self.cells[half]["parameters"]["INITVAL"], 2)
            if table != wanted:
                raise _Broken(f"{half} has the truth table {table:#06x}, not {wanted:#06x}")

    def source(self, net: Bit) -> tuple[str, str]:
        """Type and port of the cell that drives a net, before the buffer of a clock network; of a pad its port."""
        name, port = self.drivers.get(net, ("nothing", str(net)))
        cell = self.cells.get(name)
        if cell is None:
            return name, port
        if cell["type"] == "DCCA":
            return self.source(cell["connections"]["CLKI"][0])
        if cell["type"] == "TRELLIS_IO":
            pad = cell["connections"].get("B", [])
            return "pad", next((p for p, outside in self.ports.items() if outside["bits"] == pad), port)
        return cell["type"], port

    def pad_net(self, pad: str) -> Bit:
        """Net that comes from a pad."""
        outside = {bit for name, port in self.ports.items() if name.startswith(f"{pad}_") for bit in port["bits"]}
        for cell in self.cells.values():
            if cell["type"] == "TRELLIS_IO" and outside.intersection(cell["connections"].get("B", [])):
                bits = cell["connections"].get("O", [])
                if bits:
                    net: Bit = bits[0]
                    return net
        raise _Broken("the pad is not connected")

    def is_carry(self, name: str) -> bool:
        return bool(self.cells[name]["parameters"].get("MODE") == "CCU2")

    def net(self, name: str, port: str, what: str) -> Bit:
        bits = self.cells[name]["connections"].get(port, [])
        if not bits:
            raise _Broken(f"{what} leads nowhere")
        net: Bit = bits[0]
        return net

    def only_load(self, net: Bit, what: str) -> tuple[str, str]:
        loads = self.loads[net]
        if len(loads) != 1:
            raise _Broken(f"{what} has {len(loads)} loads, not one: {', '.join(name for name, _ in loads[:3])}")
        return loads[0]

    def flip_flop(self, half: str, tap: int) -> Bit:
        """Check the flip-flop of a tap; returns its clock."""
        name, port = self.only_load(self.net(half, "F", f"tap {tap}"), f"tap {tap}")
        cell = self.cells[name]
        if cell["type"] != "TRELLIS_FF" or port != "DI":
            raise _Broken(f"tap {tap} is not captured, but feeds {name}.{port}")
        here, there = self.cells[half]["attributes"]["NEXTPNR_BEL"], cell["attributes"]["NEXTPNR_BEL"]
        # Half K of a slice has the flip-flop FF of the same number.
        if there != f"{here[:-2]}FF{here[-1]}":
            raise _Broken(f"tap {tap} is at {here}, but its flip-flop at {there}, outside its slice")
        if not any(self.loads[bit] for bit in cell["connections"].get("Q", [])):
            raise _Broken(f"nothing reads the flip-flop of tap {tap}")
        return self.net(name, "CLK", f"the clock input of {name}")
