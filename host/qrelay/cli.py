"""The `qrelay` command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with nothing to conclude."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import cli_bench, cli_calibrate, cli_entropy, cli_histogram, cli_physics, cli_replay, cli_selftest
from .errors import ConfigError, QrelayError

__all__ = ["app", "main"]


def _exit_with(code: int) -> None:
    """Hand the code that a command returned to the shell; of itself Typer drops it."""
    raise typer.Exit(code)


app = typer.Typer(
    name="qrelay",
    result_callback=_exit_with,
    help="Run a quantum relay: on boards, or on simulated boards that run the same gateware.",
    epilog="Example: qrelay demo; qrelay demo --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Fast = Annotated[
    bool, typer.Option("--fast", help="fast twin: draws clicks where they happen, runs no gateware; days in minutes")
]
BOARDS = (
    "ulx3s-85f, ecpix5-85f, butterstick-85f or orangecrab-85f; with carry chains ulx3s-85f-tdc, ecpix5-85f-tdc; with "
    "USB ecpix5-85f-usb, butterstick-85f-usb; with an SDRAM for key bits from outside ulx3s-85f-sdram"
)
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")]


@app.command(epilog="Example: qrelay demo --length-km 100 --seed 3; qrelay demo --fast --slots 10000000000000")
def demo(
    slots: Annotated[int | None, typer.Option(min=8, help="slots to run, 100 million by default")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="stop after this time on the wall clock")] = None,
    length_km: Annotated[float | None, typer.Option(min=0, help="fibre from Alice to Bob, 50 by default")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="seed of keys and optics")] = None,
    dead_slots: Annotated[int | None, typer.Option(min=0, max=65535, help="dead time of the detector inputs")] = None,
    output: Annotated[Path | None, typer.Option(help="folder in which the run folder is made")] = None,
    fast: Fast = False,
    reference: Annotated[bool, typer.Option("--reference", help="bright reference segments, phase from them")] = False,
    board_keys: Annotated[bool, typer.Option("--board-keys", help="Alice and Bob make their own keys")] = False,
    as_json: AsJson = False,
) -> int:
    """Run the whole relay on simulated boards and compare it with theory."""
    from .commands import run_text
    from .demo_config import demo_text

    text = demo_text(
        slots=0 if slots is None and seconds is not None else slots,
        length_km=length_km,
        seed=seed,
        dead_slots=dead_slots,
        output=None if output is None else str(output),
        fast=fast,
        reference=reference,
        board_keys=board_keys,
    )
    return run_text(text, "demo", seconds=seconds, as_json=as_json)


@app.command(epilog="Example: qrelay run --template > my-run.toml; qrelay run my-run.toml --fast --json")
def run(
    config: Annotated[Path | None, typer.Argument(help="run file")] = None,
    template: Annotated[bool, typer.Option("--template", help="print a run file to start from")] = False,
    reference: Annotated[bool, typer.Option("--reference", help="template: with reference segments")] = False,
    fast: Fast = False,
    as_json: AsJson = False,
) -> int:
    """Carry out a run from its TOML file."""
    if template:
        from .demo_config import demo_text
        from .json_output import print_template

        return print_template(demo_text(reference=reference), as_json=as_json)
    if reference:
        raise ConfigError("--reference goes with --template; a run file says itself what its frames are")
    if config is None:
        raise ConfigError("run needs a run file; `qrelay run --template` prints one to start from")
    from .commands import run_file

    return run_file(config, fast=fast, as_json=as_json)


@app.command(epilog="Example: qrelay devices --probe")
def devices(
    urls: Annotated[list[str] | None, typer.Argument(help="more URLs to try, such as socket://127.0.0.1:5000")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="open every serial port and ask who is there")] = False,
    as_json: AsJson = False,
) -> int:
    """List serial ports, and which of them are stations."""
    from . import commands

    return commands.devices(urls or [], probe=probe, as_json=as_json)


@app.command(epilog="Example: qrelay info /dev/ttyUSB0")
def info(
    url: Annotated[str | None, typer.Argument(help="serial port, socket://host:port or pseudo-terminal")] = None,
    registers: Annotated[bool, typer.Option("--registers", help="print the register map instead")] = False,
    as_json: AsJson = False,
) -> int:
    """Show who answers at a URL, and its state."""
    from . import commands

    if registers:
        return commands.registers(as_json=as_json)
    if url is None:
        raise ConfigError("info needs a URL, or --registers; `qrelay devices` lists ports")
    return commands.info(url, as_json=as_json)


@app.command(epilog="Example: qrelay build ulx3s-85f --seeds 5")
def build(
    board: Annotated[str, typer.Argument(help=BOARDS)],
    seeds: Annotated[int, typer.Option(min=1, help="place and route with this many seeds")] = 1,
    free_running: Annotated[bool, typer.Option("--free-running", help="clock from the board's oscillator")] = False,
    rings: Annotated[
        bool, typer.Option("--rings", help="add ring oscillators, so that keys can be made on board")
    ] = False,
    serial_number: Annotated[
        str | None, typer.Option(help="on USB, to tell boards of one kind apart; boards with their link by USB")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="seeds at once; by default what processors and memory allow")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder, build/BOARD by default")] = None,
    as_json: AsJson = False,
) -> int:
    """Build a board's bitstream, timing report and manifest."""
    from .commands import build_board

    return build_board(
        board,
        out=out,
        seeds=seeds,
        free_running=free_running,
        rings=rings,
        serial_number=serial_number,
        jobs=jobs,
        as_json=as_json,
    )


@app.command(epilog="Example: qrelay flash ulx3s-85f --persistent")
def flash(
    board: Annotated[str, typer.Argument(help=BOARDS)],
    bitstream: Annotated[Path | None, typer.Option(help="file, that of `qrelay build` by default")] = None,
    persistent: Annotated[bool, typer.Option("--persistent", help="keep it through power cycles")] = False,
    as_json: AsJson = False,
) -> int:
    """Load a bitstream into a board."""
    from .commands import flash_board

    return flash_board(board, bitstream, persistent=persistent, as_json=as_json)


@app.command(epilog="Example: qrelay twin my-run.toml --pty")
def twin(
    config: Annotated[
        Path | None, typer.Argument(help="run file whose [twin] table to use; the demo's if left out")
    ] = None,
    pty: Annotated[bool, typer.Option("--pty", help="pseudo-terminals instead of TCP ports")] = False,
    as_json: AsJson = False,
) -> int:
    """Serve simulated boards and print their URLs, until Ctrl-C."""
    from .commands import serve_twin

    return serve_twin(config, pty=pty, as_json=as_json)


cli_selftest.register(app)
cli_bench.register(app)
cli_histogram.register(app)
cli_calibrate.register(app)
cli_entropy.register(app)
cli_physics.register(app)
cli_replay.register(app)


def main() -> None:
    """Entry point of the command."""
    try:
        app()
    except QrelayError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except OSError as error:  # a file, the disk or the network; its text names which
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
