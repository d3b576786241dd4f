"""What `keyrate` and `design` do; the models of `qrelay_sim` are loaded only here."""

import csv as csv_module
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .errors import ConfigError
from .json_output import print_json
from .json_output import print_template as print_file

if TYPE_CHECKING:
    from qrelay_sim.keyrate import Point
    from qrelay_sim.parameters import RelayParameters
    from qrelay_sim.protocols import Block

__all__ = ["keyrate", "print_parameters", "print_protocols", "print_template"]

_ALL = "0:400:10"
_ONE = "300"


@contextmanager
def as_config_errors() -> Iterator[None]:
    """The models refuse bad values with ValueError, whose text names value, limit and remedy."""
    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


@contextmanager
def progress_bar(what: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the time left on standard error; on a terminal only."""
    console = Console(file=sys.stderr, quiet=quiet)
    if not console.is_terminal:
        yield _plain_progress(what, quiet=quiet)
        return
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plain_progress(what: str, *, quiet: bool) -> Callable[[int, int], None]:
    shown = -1

    def report(done: int, total: int) -> None:
        nonlocal shown
        quarter = 4 * done // total
        if not quiet and total > 24 and quarter > shown:
            shown = quarter
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return report


def block_of(slots: float | None, epsilon: float | None) -> "Block | None":
    """The finite block that the options ask for."""
    from qrelay_sim.chernoff import Epsilon
    from qrelay_sim.protocols import Block

    if slots is None:
        if epsilon is not None:
            raise ConfigError(f"epsilon {epsilon:g} belongs to a finite key; give --finite N_SLOTS as well")
        return None
    return Block(slots, Epsilon.of_total(1e-10 if epsilon is None else epsilon))


def check_output(path: Path | None, option: str, suffixes: Sequence[str]) -> None:
    """Refuse an output that cannot be written before the work is done, not after."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise ConfigError(f"{option} {path}: suffix {path.suffix!r} is no format; use {', '.join(suffixes)}")
    if not path.resolve().parent.is_dir():
        raise ConfigError(f"{option} {path}: folder {path.resolve().parent} does not exist; make it first")


PLOTS = (".png", ".svg", ".pdf")


def keyrate(
    protocol: str,
    preset: str,
    distance: str | None,
    *,
    slots: float | None,
    epsilon: float | None,
    plot: Path | None,
    csv: Path | None,
    workers: int | None,
    as_json: bool,
) -> int:
    """Compute, show and store key rates."""
    check_output(plot, "plot", PLOTS)
    check_output(csv, "csv", (".csv",))
    with as_config_errors():
        from qrelay_sim.keyrate import parse_distances, sweep
        from qrelay_sim.parameter_file import read_parameters

        relay = read_parameters(preset)
        block = block_of(slots, epsilon)
        names = protocol_names(protocol)
        distances = parse_distances(distance or (_ALL if plot or csv else _ONE))
        with progress_bar("key rates", quiet=as_json) as report:
            points = sweep(names, relay, distances, block, workers=workers, on_progress=report)
        if csv is not None:
            write_csv(points, csv)
        if plot is not None:
            from qrelay_sim.keyrate_plot import plot_key_rates

            plot_key_rates(points, plot, relay.name)
    if as_json:
        print_json([point.as_json() for point in points])
        return 0
    _print_points(points, relay, len(distances))
    for path in (plot, csv):
        if path is not None:
            print(f"written: {path}")
    return 0


def protocol_names(text: str) -> list[str]:
    """Names of a comma-separated list; `all` is every protocol and bound."""
    from qrelay_sim.protocols import CURVES

    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"protocol {text!r} names none; give `all` or some of {', '.join(CURVES)}")
    return list(dict.fromkeys(name for entry in names for name in (CURVES if entry == "all" else (entry,))))


def write_csv(points: Sequence["Point"], path: Path) -> None:
    """One row per point; intensities and provenance as JSON in a cell."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [point.as_json() for point in points]
        writer = csv_module.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {key: json.dumps(value) if isinstance(value, dict) else value for key, value in row.items()}
            )


def _print_points(points: Sequence["Point"], relay: "RelayParameters", distances: int) -> None:
    from qrelay_sim.protocols import CURVES

    finite = next((point.finite for point in points if point.finite), None)
    size = f"finite, {finite['slots']:.3g} slots, epsilon {finite['epsilon']:.3g}" if finite else "asymptotic"
    head = f"model, preset {relay.name}, {size}, {relay.slot_rate_hz * relay.duty / 1e6:.6g} million slots/s"
    if distances == 1:
        print(f"{head}, {points[0].distance_km:g} km")
        print_table(("", "bit/slot", "bit/s", "QBER", "phase error"), [_row(point) for point in points])
        print("best settings, and where they were searched:")
        for point in points:
            if point.intensities:
                found = ", ".join(f"{name} {value:.3g}" for name, value in point.intensities.items())
                print(f"  {CURVES[point.protocol].short:<5} {found}; {_constraints(point)}")
    else:
        print(f"{head}; secret key in bit/s")
        names = list(dict.fromkeys(point.protocol for point in points))
        rates = {(point.protocol, point.distance_km): point.rate_bit_per_s for point in points}
        lengths = dict.fromkeys(point.distance_km for point in points)
        rows = [[f"{km:g}", *(_rate_text(rates[name, km]) for name in names)] for km in lengths]
        print_table(("km", *(CURVES[name].short for name in names)), rows)
    for name, review in dict.fromkeys((p.protocol, p.provenance["review"]) for p in points):
        if review:
            print(f"{name}: {review}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; the first to the left if it holds names."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        first = f"{row[0]:<{widths[0]}}" if not head[0] else f"{row[0]:>{widths[0]}}"
        cells = [first, *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())


def _row(point: "Point") -> list[str]:
    shares = ("" if share is None else f"{share:.2%}" for share in (point.qber, point.phase_error))
    return [point.protocol, _rate_text(point.rate_bit_per_slot), _rate_text(point.rate_bit_per_s), *shares]


def _constraints(point: "Point") -> str:
    limits = point.provenance["constraints"].items()
    return ", ".join(f"{name} in {low:g}..{high:g}" for name, (low, high) in limits)


def _rate_text(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:.3g}" if rate else "0"


def print_protocols(*, as_json: bool) -> int:
    """List protocols and bounds."""
    from qrelay_sim.protocols import CURVES

    if as_json:
        print_json(
            [
                {"name": c.name, "title": c.title, "kind": c.kind, "section": c.section, "source": c.source}
                | {"review": c.review}
                for c in CURVES.values()
            ]
        )
        return 0
    for curve in CURVES.values():
        review = f"; {curve.review}" if curve.review else ""
        print(f"{curve.name:<34} {curve.kind:<9} {curve.title} [{curve.source}{review}]")
    return 0


def print_template(preset: str, *, as_json: bool) -> int:
    """Print a parameter file to start from."""
    with as_config_errors():
        from qrelay_sim.parameter_file import PRESETS, preset_text

        if preset not in PRESETS:
            raise ConfigError(f"--preset {preset!r}: --template prints one of the presets {', '.join(PRESETS)}")
        return print_file(preset_text(preset), as_json=as_json)


def print_parameters(preset: str, *, as_json: bool) -> int:
    """Print every number and its source."""
    with as_config_errors():
        from qrelay_sim.parameter_file import read_parameters

        relay = read_parameters(preset)
    rows = []
    for name, source in relay.provenance.items():
        owner, _, key = name.rpartition(".")
        value = getattr(getattr(relay, owner) if owner else relay, key)
        rows.append({"name": name, "value": value, "provenance": source})
    if as_json:
        print_json({"name": relay.name, "parameters": rows})
        return 0
    print(f"preset {relay.name}")
    for row in rows:
        value = row["value"]
        shown = "-" if value is None else ", ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
        print(f"  {row['name']:<28} {shown!s:<22} {row['provenance']}")
    return 0
