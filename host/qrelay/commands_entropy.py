"""What `qrelay entropy` does; loaded only when it runs."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from .bench import describe_identity
from .board import Board
from .entropy_health import health_cutoffs
from .errors import ConfigError, QrelayError, RunError
from .json_output import print_json
from .station_entropy import StationEntropy

__all__ = ["record_samples", "show_health"]


def show_health(
    url: str, min_entropy: float | None, false_alarm: float, sample_words: int, *, as_json: bool = False
) -> int:
    """Show the health tests of a station; exit code 1 where they failed."""
    with Board.open(url) as board:
        entropy = StationEntropy(board)
        if min_entropy is not None:
            entropy.start_up(health_cutoffs(min_entropy, false_alarm), sample_words)
        health = entropy.health()
        group = board.read_group("entropy")
        shown = {
            "station": board.identity.board,
            "entropy": board.identity.entropy.name.lower(),
            **asdict(health),
            **{name: group[name] for name in ("sample_words", "repetition_cutoff", "proportion_cutoff")},
            "key_places": entropy.places(),
        }
    if as_json:
        print_json(shown)
    else:
        for name, value in shown.items():
            print(f"{name.replace('_', ' ')}: {value}")
    return 1 if health.failures else 0


def record_samples(url: str, samples: int, out: Path, sample_words: int | None, *, as_json: bool = False) -> int:
    """Record raw samples to `out` and their description to its name with .json behind it. What was taken is kept."""
    if out.suffix.lower() == ".json":
        raise ConfigError(
            f"--out {out}: .json is for the description beside the samples; give another name, such as "
            f"{out.with_suffix('.bin')}"
        )
    description = Path(f"{out}.json")
    with Board.open(url) as board:
        entropy = StationEntropy(board)
        if sample_words is not None:
            board.write("entropy.sample_words", sample_words)
        about: dict[str, Any] = {
            "station": describe_identity(board.identity),
            "sample_words": board.read("entropy.sample_words"),
            "format": "one byte per sample, value 0 or 1, consecutive",
            "samples": 0,
            "ones": 0,
        }
        try:
            file = out.open("wb")
        except OSError as error:
            raise _not_written(out, error) from error
        try:
            with file, Progress(console=Console(stderr=True), disable=as_json) as progress:
                task = progress.add_task("raw samples", total=samples)
                for part in entropy.record(samples):
                    file.write(part.tobytes())
                    file.flush()  # what is counted is on disk
                    about["samples"] += len(part)
                    about["ones"] += int(part.sum())
                    progress.update(task, completed=about["samples"])
        except OSError as error:
            full = _not_written(out, error)
            _describe(description, about, full)
            raise full from error
        except BaseException as error:
            _describe(description, about, error)
            raise
        _describe(description, about, None)
    if as_json:
        print_json(about | {"file": str(out), "description": str(description)})
    else:
        print(f"{about['samples']} raw samples in {out}, {about['ones']} of them 1; what they are: {description}")
    return 0


def _not_written(path: Path, error: OSError) -> RunError:
    return RunError(f"{path}: {error.strerror or error}; choose another file with --out")


def _describe(path: Path, about: Mapping[str, Any], first: BaseException | None) -> None:
    """Write the description of samples that are on disk.

    Raises RunError if that fails, with what had ended the recording before (`first`) at its head.
    """
    try:
        path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        trouble = f"{path}: {error.strerror or error}, so that {about['samples']} raw samples have no description"
        if first is None:
            raise RunError(f"{trouble}; choose another file with --out") from error
        if not isinstance(first, QrelayError):  # an interrupt stays one
            first.add_note(trouble)
            return
        raise RunError(f"{first}; and {trouble}") from first
