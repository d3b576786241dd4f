"""Options of `qrelay entropy`; the work is in `commands_entropy`."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]

_entropy = typer.Typer(
    name="entropy",
    help="Look at a station's noise source: its health tests, its raw samples. A board needs a bitstream with rings "
    "(qrelay build --rings).",
    epilog="Example: qrelay entropy health /dev/ttyUSB0",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Url = Annotated[str, typer.Argument(help="serial port, socket://host:port or pseudo-terminal")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document on standard output")]


@_entropy.command(epilog="Example: qrelay entropy health /dev/ttyUSB0 --min-entropy 0.5 --false-alarm-log2 -40")
def health(
    url: Url,
    min_entropy: Annotated[
        float | None, typer.Option(help="run the start-up test anew for this min-entropy, in bit per raw sample")
    ] = None,
    false_alarm_log2: Annotated[float, typer.Option(help="binary logarithm of the false-alarm probability")] = -40,
    sample_words: Annotated[int, typer.Option(min=2, max=65535, help="words from sample to sample")] = 4096,
    as_json: AsJson = False,
) -> int:
    """Show what the health tests (SP 800-90B 4.4) have seen; with --min-entropy, start them anew."""
    from .commands_entropy import show_health

    return show_health(url, min_entropy, 2.0**false_alarm_log2, sample_words, as_json=as_json)


@_entropy.command(epilog="Example: qrelay entropy record /dev/ttyUSB0 --samples 1000000 --out raw.bin")
def record(
    url: Url,
    samples: Annotated[int, typer.Option(min=1, help="consecutive raw samples to record")] = 1_000_000,
    out: Annotated[
        Path, typer.Option(help="file to write: a byte of value 0 or 1 per sample; beside it OUT.json")
    ] = Path("raw.bin"),
    sample_words: Annotated[
        int | None, typer.Option(min=2, max=65535, help="words from sample to sample; as set, if left out")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Record raw samples for assessment (SP 800-90B 3.1.3), and in OUT.json what they are."""
    from .commands_entropy import record_samples

    return record_samples(url, samples, out, sample_words, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add `qrelay entropy` to the command."""
    app.add_typer(_entropy)
