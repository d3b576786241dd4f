"""The `bench` command of `qrelay`."""

from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: qrelay bench /dev/ttyUSB0 --seconds 10; qrelay bench --twin")(bench)


def bench(
    urls: Annotated[list[str] | None, typer.Argument(help="stations whose link to measure; they are disarmed")] = None,
    twin: Annotated[bool, typer.Option("--twin", help="measure a simulated station, too")] = False,
    seconds: Annotated[float, typer.Option(min=0.1, help="time of each measurement")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")] = False,
) -> int:
    """Show how many events per second each board's link sustains: computed, and measured on given stations."""
    from . import commands_bench

    return commands_bench.bench(urls or [], twin=twin, seconds=seconds, as_json=as_json)
