"""The `histogram` command of `qrelay`."""

from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: qrelay histogram /dev/ttyUSB0 --seconds 10 --fine clicks --lag 0 --lag 2 --json")(
        histogram
    )


def histogram(
    url: Annotated[str, typer.Argument(help="station with detectors whose link is free; a run on it goes on")],
    seconds: Annotated[float, typer.Option(min=0.001, max=10, help="time to count")] = 1.0,
    fine: Annotated[str, typer.Option(help="off, hits (before the gate) or clicks (gated)")] = "hits",
    lag: Annotated[list[int] | None, typer.Option(help="detector of the pairs for g2: give it twice, a and b")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")] = False,
) -> int:
    """Count on board: hits by place in the slot, and pairs of clicks by distance. Starts the station if it is idle."""
    from .commands_histogram import take_histograms

    return take_histograms(url, seconds=seconds, fine=fine, lag=lag or [], as_json=as_json)
