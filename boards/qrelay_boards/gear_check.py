"""Hold the gearbox of each fast pin against what it must have: bins that the design fills, or bins that it reads.

A gearbox is a cell of its own, which stays when synthesis finds that all its bins are constant, or that nobody reads
them; and behind a gearbox every pad looks connected.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["broken_gears"]

Bit = int | str
Cell = Mapping[str, Any]

_GEAR_BINS = range(4)
_CONNECT = "connect what should {} it (synthesis may have removed that), or take the pin out of the board file"


def broken_gears(netlist: Path, outputs: Iterable[str], inputs: Iterable[str]) -> list[str]:
    """Sentences on the pins, given by use, whose gearbox is not whole in a netlist of Yosys.

    Each bin of an output must have a driver, and none that another output has too; within one output bins may be the
    same. Each bin of an input must be read.
    """
    modules = json.loads(netlist.read_text())["modules"].values()
    top = next(module for module in modules if module.get("attributes", {}).get("top"))
    drivers: dict[Bit, Cell] = {}
    loads: dict[Bit, list[Cell]] = defaultdict(list)
    buffers: dict[Bit, Cell] = {}
    for cell in top["cells"].values():
        for port, bits in cell["connections"].items():
            for bit in bits:
                if isinstance(bit, str):
                    continue  # A constant is no net.
                if cell["type"] == "TRELLIS_IO" and port == "B":
                    buffers[bit] = cell
                elif cell["port_directions"][port] == "input":
                    loads[bit].append(cell)
                else:
                    drivers[bit] = cell

    def buffer(pin: str) -> Cell:
        pad = top["ports"].get(f"{pin}_0__io", {"bits": ["x"]})["bits"][0]
        return buffers.get(pad, {})

    sentences = []
    shown: dict[Bit, str] = {}
    for pin in outputs:
        delay = drivers.get(_net(buffer(pin), "I"), {})
        gear = drivers.get(_net(delay, "A"), {})
        if gear.get("type") != "ODDRX2F":
            sentences.append(f"output {pin} has no gearbox behind its pad: {_CONNECT.format('drive')}")
            continue
        nets = {f"D{i}": _net(gear, f"D{i}") for i in _GEAR_BINS}
        if fixed := [port for port, net in nets.items() if net not in drivers]:
            sentences.append(
                f"output {pin} is constant in some bins ({', '.join(fixed)} of its gearbox): {_CONNECT.format('drive')}"
            )
        for other in sorted({shown[net] for net in nets.values() if net in shown}):
            sentences.append(
                f"outputs {other} and {pin} share bins: give each words of its own, or take one pin out of the board "
                f"file"
            )
        shown |= {net: pin for net in nets.values() if net in drivers}
    for pin in inputs:
        gear = next((cell for cell in loads[_net(buffer(pin), "O")] if cell["type"] == "IDDRX2F"), {})
        if unread := [f"Q{i}" for i in _GEAR_BINS if not loads[_net(gear, f"Q{i}")]]:
            sentences.append(
                f"input {pin} is not read in some bins ({', '.join(unread)} of its gearbox): {_CONNECT.format('read')}"
            )
    return sentences


def _net(cell: Cell, port: str) -> Bit:
    """Net at a port of one bit; the constant of an undefined level where there is none."""
    bits: list[Bit] = cell.get("connections", {}).get(port, [])
    return bits[0] if bits else "x"
