"""What `qrelay entropy` does; loaded only when it runs."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from .bench import describe_identity
from .board import Board
from .entropy_health import health_cutoffs
from .errors import RunError
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
    """Record raw samples to `out` and their description to the same name with .json. What was taken is kept."""
    taken = 0
    ones = 0
    with Board.open(url) as board:
        entropy = StationEntropy(board)
        if sample_words is not None:
            board.write("entropy.sample_words", sample_words)
        about = {
            "station": describe_identity(board.identity),
            "sample_words": board.read("entropy.sample_words"),
            "format": "one byte per sample, value 0 or 1, consecutive",
        }
        try:
            with out.open("wb") as file, Progress(console=Console(stderr=True), disable=as_json) as progress:
                task = progress.add_task("raw samples", total=samples)
                for part in entropy.record(samples):
                    file.write(part.tobytes())
                    taken += len(part)
                    ones += int(part.sum())
                    progress.update(task, completed=taken)
        except OSError as error:
            raise RunError(f"{out}: {error.strerror or error}; choose another file with --out") from error
        finally:
            about |= {"samples": taken, "ones": ones}
            if out.parent.is_dir():
                out.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")
    if as_json:
        print_json(about | {"file": str(out)})
    else:
        print(f"{taken} raw samples in {out}, {ones} of them 1; what they are: {out.with_suffix('.json')}")
    return 0
