"""The tables of the boards' README, made from the board files and from the record of builds.

``python -m qrelay_boards.document`` writes them anew; ``python -m qrelay_boards.document build/NAME/manifest.json``
takes the builds of these manifests into the record beforehand.
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.usb import link_name

from . import boards
from .board import Board
from .ecp5_board import LAMPS

__all__ = ["boards_table", "main", "record", "timing_table", "wiring_table", "with_tables"]

FOLDER = Path(__file__).parents[1]
KEPT = (
    "board",
    "gateware_version",
    "protocol_hash",
    "clock_plan",
    "tools",
    "seeds",
    "cpu_seconds",
    "resources",
    "timing",
)
"""What the record takes from a manifest."""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def boards_table(known: Iterable[Board]) -> str:
    """Name, device, what is wired, clocks and link of each board."""
    return _table(
        ("board", "FPGA", "lines", "detectors", "clocks", "free-running", "link"),
        (
            (
                f"`{board.name}`",
                f"{board.wiring.device}-{board.wiring.speed_grade}",
                str(len(board.wiring.lines)),
                str(len(board.wiring.detectors)),
                f"{float(board.reference_hz) / 1e6:g} MHz reference input",
                f"from {float(board.oscillator_hz) / 1e6:g} MHz, {board.clock_plan(True).error_ppb / 1000:+.0f} ppm",
                ("serial port, " if board.wiring.ulpi is None else "") + link_name(board.wiring.link_bps),
            )
            for board in known
        ),
    )


def wiring_table(known: Iterable[Board]) -> str:
    """Header pin and FPGA pin of each use, boards side by side.

    Boards with the same wiring share a column, whatever their links: it has the pins of each. Those of an SDRAM, which
    nobody wires, are left out.
    """
    known = list(known)
    names: list[str] = []
    shared: list[dict[str, str]] = []
    columns: list[dict[str, str]] = []
    for board in known:
        wiring = board.wiring
        uses = {**wiring.outputs, **wiring.inputs, "reference": wiring.reference, **wiring.slow()}
        memory = wiring.sdram.uses if wiring.sdram else {}
        column = {use: _place(board, pin) for use, pin in uses.items() if use not in memory}
        common = {use: place for use, place in column.items() if use not in wiring.link_pins}
        for number, other in enumerate(columns):
            if common == shared[number] and all(other.get(use, place) == place for use, place in column.items()):
                names[number] += f", `{board.name}`"
                other |= column
                break
        else:
            names.append(f"`{board.name}`")
            shared.append(common)
            columns.append(column)
    order = [
        *(f"line_{i}" for i in range(max(len(b.wiring.lines) for b in known))),
        *(f"detector_{i}" for i in range(max(len(b.wiring.detectors) for b in known))),
        *("start_out", "start_in", "probe", "reference"),
        *dict.fromkeys(use for b in known for use in b.wiring.external),
        *("oscillator", "uart_rx", "uart_tx"),
        *dict.fromkeys(use for b in known if b.wiring.ulpi for use in b.wiring.link_pins),
        *(f"lamp_{lamp}" for lamp in LAMPS),
    ]
    rows = ((use.replace("_", " "), *(column.get(use, "") for column in columns)) for use in order)
    return _table(("use", *names), rows)


def _place(board: Board, pin: str) -> str:
    place = board.wiring.place(pin)
    return place if place == pin else f"**{pin}** {place}"


def timing_table(builds: Iterable[Mapping[str, Any]]) -> str:
    """Worst frequency over the seeds of each build, resources and processor time.

    Builds of another protocol are marked as earlier ones.
    """
    rows = []
    for build in builds:
        used = build["resources"]
        routed = build["cpu_seconds"]["place_and_route"].values()
        rows.append(
            (
                f"`{build['board']}`"
                + (" rings" if build.get("rings") else "")
                + ("" if build["protocol_hash"] == f"{PROTOCOL_HASH:#018x}" else " (earlier)")
                + ("" if build["clock_plan"]["external"] else " free-running"),
                str(len(build["seeds"])),
                *(_worst(build, clock) for clock in ("word_clock", "gear_clock")),
                *(_share(used, kind) for kind in ("TRELLIS_COMB", "TRELLIS_FF", "DP16KD")),
                f"{build['cpu_seconds']['synthesis']:.0f}",
                f"{max(routed):.0f}",
            )
        )
    head = ("board", "seeds", "word clock", "gear clock", "LUT4", "flip-flops", "block RAMs")
    return _table((*head, "synthesis, s", "a seed, s"), rows)


def _worst(build: Mapping[str, Any], clock: str) -> str:
    worst = min((seed["clocks"][clock] for seed in build["timing"].values()), key=lambda timing: timing["margin"])
    return f"{worst['achieved_mhz']:.1f} MHz, {worst['margin']:.2f}x"


def _share(used: Mapping[str, Any], kind: str) -> str:
    count = used.get(kind, {"used": 0, "available": 1})
    return f"{count['used']} ({100 * count['used'] / count['available']:.0f} %)"


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """`text` with what stands between the marks of each table replaced. Raises ValueError where a mark is missing."""
    for name, table in tables.items():
        begin, end = f"<!-- {name} table -->", f"<!-- end of {name} table -->"
        pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"no lines {begin!r} and {end!r} in the text; put them where the table shall be")
        text = pattern.sub(lambda _, b=begin, t=table, e=end: f"{b}\n{t}\n{e}", text, count=1)
    return text


def record(builds: list[dict[str, Any]], manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The record with a build in place of an earlier one of that board, kind of clock and noise source.

    Raises ValueError for a build that broke rules.
    """
    if not manifest["passed"]:
        raise ValueError(f"the build of {manifest['board']} broke rules: {'; '.join(manifest['broken_rules'])}")

    def key(build: Mapping[str, Any]) -> tuple[str, bool, bool]:
        return build["board"], not build["clock_plan"]["external"], bool(build.get("rings"))

    entry = {name: manifest[name] for name in KEPT}
    if manifest.get("rings"):
        entry["rings"] = manifest["rings"]
    return sorted([build for build in builds if key(build) != key(entry)] + [entry], key=key)


def tables(builds: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """All tables of the README by name."""
    known = list(boards().values())
    return {"boards": boards_table(known), "wiring": wiring_table(known), "timing": timing_table(builds)}


def main(manifests: list[str], folder: Path = FOLDER) -> None:
    """Record the builds of `manifests` and write the tables."""
    file, readme = folder / "timing.json", folder / "README.md"
    builds = json.loads(file.read_text(encoding="utf-8"))
    for manifest in manifests:
        builds = record(builds, json.loads(Path(manifest).read_text(encoding="utf-8")))
    if manifests:
        file.write_text(json.dumps(builds, indent=2) + "\n", encoding="utf-8")
    readme.write_text(with_tables(readme.read_text(encoding="utf-8"), tables(builds)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
