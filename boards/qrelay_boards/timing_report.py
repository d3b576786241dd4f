"""Read the place-and-route report and hold it against the rules of the board.

The tool itself passes a path between two clocks whatever its delay, and a clock without constraint: both fail here.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .board import Crossing

__all__ = ["ClockTiming", "CriticalPath", "TimingError", "TimingReport", "check_cells", "clock_names", "netlist_cells"]


class TimingError(RuntimeError):
    """The placed design breaks a rule; the message lists every one that is broken."""


@dataclass(frozen=True)
class ClockTiming:
    """Highest frequency of a clock and its constraint, in MHz."""

    clock: str
    achieved_mhz: float
    constraint_mhz: float

    @property
    def margin(self) -> float:
        """Achieved over constraint; below 1 is a failure."""
        return self.achieved_mhz / self.constraint_mhz


@dataclass(frozen=True)
class CriticalPath:
    """Longest path from one clock to another (or the same); `route` names its cells and delays."""

    source: str
    target: str
    delay_ns: float
    first: str
    last: str
    route: tuple[tuple[str, str, float], ...] = field(repr=False, default=())


@dataclass(frozen=True)
class TimingReport:
    """What one place-and-route run reached."""

    clocks: dict[str, ClockTiming]
    paths: tuple[CriticalPath, ...]
    used: dict[str, tuple[int, int]]
    """Resource -> (used, available)."""

    @classmethod
    def read(cls, path: Path, names: Mapping[str, str]) -> "TimingReport":
        """Read nextpnr's ``--report`` file; `names` gives the clock behind a net, see `clock_names`."""
        raw: dict[str, Any] = json.loads(path.read_text())
        clocks = {}
        for net, entry in raw.get("fmax", {}).items():
            name = _clock_name(net, names)
            clocks[name] = ClockTiming(name, entry["achieved"], entry["constraint"])
        paths = tuple(_path(entry, names) for entry in raw.get("critical_paths", []))
        used = {
            kind: (entry["used"], entry["available"]) for kind, entry in raw["utilization"].items() if entry["used"]
        }
        return cls(clocks, paths, used)

    @property
    def crossings(self) -> tuple[CriticalPath, ...]:
        """Paths between different clocks."""
        return tuple(path for path in self.paths if path.source != path.target)

    def broken(self, expected_mhz: Mapping[str, float], crossings: Iterable[Crossing]) -> list[str]:
        """Sentences on every clock and crossing that breaks a rule.

        `expected_mhz` gives the clocks of the plan; a constraint more than 0.1 % below that was lost on the way.
        """
        sentences = []
        for clock in self.clocks.values():
            if clock.achieved_mhz < clock.constraint_mhz:
                worst = next((p for p in self.paths if p.source == p.target == clock.clock), None)
                where = f", from {worst.first} to {worst.last} in {worst.delay_ns:.2f} ns" if worst else ""
                sentences.append(
                    f"clock {clock.clock} reaches {clock.achieved_mhz:.2f} MHz of {clock.constraint_mhz:.2f} MHz{where}"
                )
            wanted = expected_mhz.get(clock.clock)
            if wanted is None:
                sentences.append(f"clock {clock.clock} is not in the clock plan; there are: {', '.join(expected_mhz)}")
            elif clock.constraint_mhz < 0.999 * wanted:
                sentences.append(
                    f"clock {clock.clock} is constrained to {clock.constraint_mhz:.2f} MHz, the plan has "
                    f"{wanted:.2f} MHz"
                )
        absent = [clock for clock in expected_mhz if clock not in self.clocks]
        if absent:
            sentences.append(
                f"no timing for {', '.join(absent)}: the clocks that were found are {', '.join(self.clocks)}"
            )
        limits = {(c.source, c.target): c for c in crossings}
        for path in self.crossings:
            limit = limits.get((path.source, path.target))
            between = f"{path.source} to {path.target} ({path.first} to {path.last}, {path.delay_ns:.2f} ns)"
            if limit is None:
                sentences.append(
                    f"undeclared crossing {between}; declare it with a limit in the board file or remove it"
                )
            elif path.delay_ns > limit.limit_ns:
                sentences.append(f"crossing {between} exceeds its limit of {limit.limit_ns:g} ns: {limit.why}")
        return sentences

    def facts(self) -> dict[str, Any]:
        """Plain values for manifests."""
        return {
            "clocks": {
                c.clock: {
                    "achieved_mhz": round(c.achieved_mhz, 3),
                    "constraint_mhz": round(c.constraint_mhz, 3),
                    "margin": round(c.margin, 3),
                }
                for c in self.clocks.values()
            },
            # Both edges of a clock have their own entry in the report; the longer delay counts.
            "crossings_ns": {
                f"{p.source} -> {p.target}": round(p.delay_ns, 3)
                for p in sorted(self.crossings, key=lambda p: p.delay_ns)
            },
        }


def netlist_cells(netlist: Path, sources: Mapping[str, tuple[str, str]] | None = None) -> dict[str, int]:
    """Cells of the synthesised netlist by type, and pads that are connected as ``pad:NAME``.

    With `sources`, as for `clock_names`, also flip-flops and block RAMs by their clock, as ``CLOCK:TYPE``.
    """
    top = _top(netlist)
    clock_of = _clock_nets(top, sources or {})
    count: dict[str, int] = {}
    buffers: dict[int, list[int | str]] = {}
    for cell in top["cells"].values():
        count[cell["type"]] = count.get(cell["type"], 0) + 1
        nets = (net for port in ("CLK", "CLKA", "CLKB") for net in cell["connections"].get(port, ()))
        for clock in {clock_of[net] for net in nets if net in clock_of}:
            count[f"{clock}:{cell['type']}"] = count.get(f"{clock}:{cell['type']}", 0) + 1
        if cell["type"] in ("TRELLIS_IO", "IB", "OB", "OBZ", "BB"):
            bits = [bit for side in cell["connections"].values() for bit in side]
            buffers |= {bit: bits for bit in bits if isinstance(bit, int)}
    for name, port in top["ports"].items():
        for bit in port["bits"]:
            # A pad counts where its buffer has a net, not a constant, on the other side.
            if any(isinstance(other, int) and other != bit for other in buffers.get(bit, ())):
                count[f"pad:{name}"] = count.get(f"pad:{name}", 0) + 1
    return count


def clock_names(netlist: Path, sources: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Each name that the netlist has for the net of a clock -> that clock.

    Synthesis picks one of the many names that a clock has across the hierarchy, so a clock is found by what drives it:
    `sources` has for each clock the type and port of the cell, or ``("pad", port)`` for what a pad's buffer gives.
    """
    top = _top(netlist)
    clock_of = _clock_nets(top, sources)
    return {
        name: clock_of[net["bits"][0]]
        for name, net in top["netnames"].items()
        if len(net["bits"]) == 1 and net["bits"][0] in clock_of
    }


def _clock_nets(top: Mapping[str, Any], sources: Mapping[str, tuple[str, str]]) -> dict[int | str, str]:
    clock_of: dict[int | str, str] = {}
    for clock, (kind, port) in sources.items():
        for cell in top["cells"].values():
            sides = cell["connections"]
            if kind == "pad" and "O" in sides and port in top["ports"] and top["ports"][port]["bits"][0] in _pad(sides):
                clock_of[sides["O"][0]] = clock
            elif cell["type"] == kind and sides.get(port):
                clock_of[sides[port][0]] = clock
    return clock_of


def _pad(sides: Mapping[str, Any]) -> list[int | str]:
    """Pad side of an input buffer: port B of the family's own buffer, port I of the generic one."""
    return [*sides.get("B", []), *sides.get("I", [])]


def _top(netlist: Path) -> dict[str, Any]:
    modules: dict[str, Any] = json.loads(netlist.read_text())["modules"]
    return next(m for m in modules.values() if m.get("attributes", {}).get("top"))


def check_cells(cells: Mapping[str, int], minimum: Mapping[str, int], pads: Iterable[str]) -> list[str]:
    """Sentences on cells and pads that must be in the netlist and are not: synthesis removes what has no effect."""
    sentences = [
        f"{cells.get(kind, 0)} cells {kind} in the netlist, at least {least} expected: part of the design was removed"
        for kind, least in minimum.items()
        if cells.get(kind, 0) < least
    ]
    for pad in pads:
        if not any(name.startswith(f"pad:{pad}_") for name in cells):
            sentences.append(f"pad {pad} is not connected to logic")
    return sentences


def _clock_name(net: str, names: Mapping[str, str]) -> str:
    if net in ("<async>", "async"):
        return "async"
    # Prefix of nets on the clock network, suffix of the edge clock's branches to the banks.
    bare = net.removeprefix("$glbnet$").split("$eclk")[0]
    return names.get(bare, bare)


def _path(entry: Mapping[str, Any], names: Mapping[str, str]) -> CriticalPath:
    route = tuple(
        (step["type"], f"{step['to']['cell']}.{step['to']['port']}", float(step["delay"])) for step in entry["path"]
    )
    # Ends are written "posedge NET"; both edges of a clock are one domain here.
    return CriticalPath(
        source=_clock_name(entry["from"].split(" ", 1)[-1], names),
        target=_clock_name(entry["to"].split(" ", 1)[-1], names),
        delay_ns=sum(float(step["delay"]) for step in entry["path"]),
        first=entry["path"][0]["from"]["cell"] if entry["path"] else "",
        last=entry["path"][-1]["to"]["cell"] if entry["path"] else "",
        route=route,
    )
