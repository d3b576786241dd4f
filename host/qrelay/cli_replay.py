"""The `replay` command of `qrelay`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog="Example: qrelay replay runs/20260102-030405-demo")(replay)


def replay(
    folder: Annotated[Path, typer.Argument(help="run folder")],
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")] = False,
) -> int:
    """Make the result of a run folder anew and hold it against result.json; where that is missing, write it.

    The exit code is 1 where the result differs. A run that was interrupted while it ended has no result yet.
    """
    from .commands_replay import replay_run

    return replay_run(folder, as_json=as_json)
