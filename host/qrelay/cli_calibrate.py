"""The `calibrate` command of `qrelay`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        epilog="Example: qrelay calibrate /dev/ttyUSB0 --out tdc.json; qrelay calibrate /dev/ttyUSB0 --load tdc.json"
    )(calibrate)


def calibrate(
    url: Annotated[str, typer.Argument(help="station with carry chains at its detectors")],
    detector: Annotated[list[int] | None, typer.Option(min=0, help="only this detector; may be repeated")] = None,
    hits: Annotated[
        int | None,
        typer.Option(min=200_000, help="hits per detector; 4 million, 100 thousand on a simulated station"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="keep the calibration in this file")] = None,
    load: Annotated[Path | None, typer.Option(help="load this file instead of measuring")] = None,
    bitstream: Annotated[
        Path | None, typer.Option(help="bitstream of the board, whose hash goes with the file")
    ] = None,
    wire: Annotated[
        list[str] | None,
        typer.Option(metavar="LINE:DETECTOR", help="cable by which the offset is measured, kept under the bitstream"),
    ] = None,
    cable_ns: Annotated[float, typer.Option(help="delay of the cables")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")] = False,
) -> int:
    """Calibrate the time-to-digital converters of a station by code density, and load their tables."""
    from .commands_calibrate import calibrate_station

    return calibrate_station(
        url,
        detectors=detector or [],
        hits=hits,
        out=out,
        load=load,
        bitstream=bitstream,
        wires=wire or [],
        cable_ns=cable_ns,
        as_json=as_json,
    )
