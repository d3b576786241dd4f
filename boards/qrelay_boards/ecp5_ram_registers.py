"""Move flip-flops behind block RAMs into the output registers that the block RAMs have.

Yosys infers block RAMs without them. A register in the RAM saves a flip-flop and a wire per bit, and gives the data to
the fabric four times as fast after the clock edge.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["absorb_output_registers", "plain_read_ports"]

_WIDTH = 18
Bit = int | str
"""A net of the netlist, or a constant."""


def absorb_output_registers(netlist: Path) -> int:
    """Rewrite a netlist of Yosys with output registers in its DP16KD; returns the number of flip-flops saved.

    A port gets its registers if every data bit in use goes to one flip-flop and nothing else, and all these flip-flops
    have the clock of the port, one clock enable or none, and no reset. What the design does is the same in every clock,
    but for the first one: like the flip-flops, the registers start from 0.
    """
    design = json.loads(netlist.read_text())
    saved = 0
    for module in design["modules"].values():
        if module.get("attributes", {}).get("top"):
            saved += _absorb(module)
    if saved:
        netlist.write_text(json.dumps(design))
    return saved


def plain_read_ports(netlist: Path) -> list[str]:
    """Read ports of block RAMs, as ``CELL.A`` or ``CELL.B``, whose data are used and have no output register."""
    ports = []
    for module in json.loads(netlist.read_text())["modules"].values():
        if module.get("attributes", {}).get("top"):
            loads, outside = _loads(module)
            for name, cell in module["cells"].items():
                if cell["type"] == "DP16KD":
                    ports += [
                        f"{name}.{side}"
                        for side in "AB"
                        if cell["parameters"][f"REGMODE_{side}"] == "NOREG"
                        and any(bit in loads or bit in outside for bit in _data(cell, side))
                    ]
    return sorted(ports)


def _loads(module: Mapping[str, Any]) -> tuple[dict[Bit, list[tuple[str, str]]], set[Bit]]:
    """Inputs of cells on each net, and the nets that leave the design."""
    loads: dict[Bit, list[tuple[str, str]]] = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    loads[bit].append((name, port))
    return loads, {bit for port in module["ports"].values() for bit in port["bits"]}


def _data(ram: Mapping[str, Any], side: str) -> list[Bit]:
    return [bit for number in range(_WIDTH) for bit in ram["connections"].get(f"DO{side}{number}", [])]


def _absorb(module: dict[str, Any]) -> int:
    cells: dict[str, Any] = module["cells"]
    loads, outside = _loads(module)

    absorbed: list[str] = []
    renamed: dict[Bit, Bit] = {}
    """Net of the RAM's output -> net of the flip-flop's output, which takes its place."""
    for ram in [cell for cell in cells.values() if cell["type"] == "DP16KD"]:
        for side in "AB":
            registers = _registers(ram, side, cells, loads, outside)
            if not registers:
                continue
            first = cells[registers[0]]
            ram["parameters"][f"REGMODE_{side}"] = "OUTREG"
            ram["connections"][f"OCE{side}"] = list(_enable(first))
            ram["port_directions"][f"OCE{side}"] = "input"
            for name in registers:
                wires = cells[name]["connections"]
                renamed[wires["DI"][0]] = wires["Q"][0]
            absorbed += registers
    for name in absorbed:
        del cells[name]
    for cell in cells.values():
        if cell["type"] == "DP16KD":
            for port, bits in cell["connections"].items():
                if port.startswith("DO"):
                    cell["connections"][port] = [renamed.get(bit, bit) for bit in bits]
    return len(absorbed)


def _registers(
    ram: Mapping[str, Any],
    side: str,
    cells: Mapping[str, Any],
    loads: Mapping[Bit, list[tuple[str, str]]],
    outside: set[Bit],
) -> list[str]:
    """Names of the flip-flops that the registers of this port can replace; none if one bit is used otherwise."""
    parameters, wires = ram["parameters"], ram["connections"]
    plain = parameters[f"REGMODE_{side}"] == "NOREG" and parameters[f"CLK{side}MUX"] == f"CLK{side}"
    if not plain or wires.get(f"RST{side}", ["0"]) != ["0"]:
        return []
    clock = wires[f"CLK{side}"]
    names = []
    for bit in _data(ram, side):
        if bit in outside:
            return []
        users = loads.get(bit, [])
        if not users:
            continue
        if len(users) > 1 or users[0][1] != "DI":
            return []
        names.append(users[0][0])
    fitting = all(cells[name]["type"] == "TRELLIS_FF" and _is_plain(cells[name], clock) for name in names)
    return names if fitting and len({_enable(cells[name]) for name in names}) == 1 else []


def _is_plain(flip_flop: Mapping[str, Any], clock: list[Bit]) -> bool:
    parameters, wires = flip_flop["parameters"], flip_flop["connections"]
    return (
        wires["CLK"] == clock
        and parameters.get("CLKMUX", "CLK") == "CLK"
        and parameters.get("REGSET", "RESET") == "RESET"
        and wires.get("LSR", ["0"]) == ["0"]
        and parameters.get("LSRMUX", "LSR") == "LSR"
        and parameters.get("CEMUX", "CE").strip() in ("1", "CE")
    )


def _enable(flip_flop: Mapping[str, Any]) -> tuple[Bit, ...]:
    """Clock enable of a flip-flop, a constant where there is none."""
    if flip_flop["parameters"].get("CEMUX", "CE").strip() == "1":
        return ("1",)
    return tuple(flip_flop["connections"].get("CE", ["1"]))
