"""Options of `qrelay selftest`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Example: qrelay selftest; qrelay selftest /dev/ttyUSB0 --wire 0:0 --wire 3:1 --cable-ns 5.1; "
        "qrelay selftest my-run.toml --station receiver --json"
    )(selftest)


def selftest(
    where: Annotated[
        str | None,
        typer.Argument(metavar="URL|CONFIG", help="a station or a run file; simulated boards if left out"),
    ] = None,
    wire: Annotated[
        list[str] | None,
        typer.Option(metavar="LINE:DETECTOR", help="cable from an output line to a detector; found if left out"),
    ] = None,
    cable_ns: Annotated[float, typer.Option(help="delay of the cables, 5.1 ns for a metre of coaxial cable")] = 0.0,
    station: Annotated[
        list[str] | None, typer.Option(help="alice, bob, source or receiver of the run file; all if left out")
    ] = None,
    offsets: Annotated[
        bool, typer.Option(help="take the kept offsets of carry chains from the detectors' delays")
    ] = True,
    bitstream: Annotated[
        Path | None, typer.Option(help="bitstream of the board; found by the station's build id if left out")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")] = False,
) -> int:
    """Send a known pattern from output lines to detector inputs; fail on any slip of a slot.

    Stops what the station does and overwrites its tables.
    """
    from . import commands_selftest

    return commands_selftest.selftest(
        where,
        wires=wire or [],
        cable_ns=cable_ns,
        stations=station or [],
        subtract=offsets,
        bitstream=bitstream,
        as_json=as_json,
    )
