"""Options of the commands that need no station: `keyrate` and `design`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

_Preset = Annotated[str, typer.Option(metavar="A|B|C|FILE", help="parameter set; --template prints a file to edit")]
_Finite = Annotated[
    float | None, typer.Option("--finite", metavar="N_SLOTS", help="finite key of so many signal slots, such as 1e13")
]
_Epsilon = Annotated[float | None, typer.Option(help="failure probability of the key, 1e-10 by default")]
_Workers = Annotated[int | None, typer.Option(min=1, help="processes, one per core by default")]
_Plot = Annotated[Path | None, typer.Option(metavar="out.png|svg|pdf", help="draw to this file")]
_Csv = Annotated[Path | None, typer.Option(metavar="out.csv", help="write a table to this file")]
_AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: qrelay keyrate --distance 0:400:10 --plot rates.png; "
        "qrelay keyrate --protocol relay-phase-matching,plob --preset C --distance 300 --finite 1e14"
    )(keyrate)
    app.command(epilog="Example: qrelay design --preset C --distance 300 --finite 1e13 --plot design.png")(design)


def keyrate(
    protocol: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="protocols and bounds, `all` by default; --list names them")
    ] = "all",
    preset: _Preset = "A",
    distance: Annotated[
        str | None, typer.Option(metavar="KM|FIRST:LAST:STEP", help="300 by default, 0:400:10 with a plot or CSV")
    ] = None,
    finite: _Finite = None,
    epsilon: _Epsilon = None,
    plot: _Plot = None,
    csv: _Csv = None,
    workers: _Workers = None,
    template: Annotated[bool, typer.Option("--template", help="print a parameter file to start from")] = False,
    parameters: Annotated[
        bool, typer.Option("--parameters", help="print the parameters and where each comes from")
    ] = False,
    names: Annotated[bool, typer.Option("--list", help="print the protocols and bounds there are")] = False,
    as_json: _AsJson = False,
) -> int:
    """Key rate of the relay and of other protocols against distance, by the model."""
    from . import commands_physics

    if template:
        return commands_physics.print_template(preset, as_json=as_json)
    if names:
        return commands_physics.print_protocols(as_json=as_json)
    if parameters:
        return commands_physics.print_parameters(preset, as_json=as_json)
    return commands_physics.keyrate(
        protocol,
        preset,
        distance,
        slots=finite,
        epsilon=epsilon,
        plot=plot,
        csv=csv,
        workers=workers,
        as_json=as_json,
    )


def design(
    protocol: Annotated[str, typer.Option(metavar="NAME", help="one protocol")] = "relay-phase-matching",
    preset: _Preset = "A",
    distance: Annotated[float, typer.Option(min=0, metavar="KM", help="fibre from Alice to Bob")] = 300.0,
    finite: Annotated[
        float, typer.Option("--finite", metavar="N_SLOTS", help="signal slots of the run; 1e13 are 9.1 h")
    ] = 1e13,
    epsilon: _Epsilon = None,
    plot: _Plot = None,
    workers: _Workers = None,
    as_json: _AsJson = False,
) -> int:
    """What g2, overlap, brightness, dark counts or run time a finite key needs, and which of them limits.

    With --plot also a map of the key rate over g2 and overlap.
    """
    from . import commands_design

    return commands_design.design(
        protocol, preset, distance, slots=finite, epsilon=epsilon, plot=plot, workers=workers, as_json=as_json
    )
