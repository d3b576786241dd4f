"""The end of every run, whoever took its records: tables, result, sifted keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .analysis import analyse
from .choice_keys import SENDERS
from .config import RunConfig
from .run_folder import RecordedAnnouncements, RecordedReference, RunFolder
from .sifting import Announcements, DrawsChoices

__all__ = ["RunOutcome", "conclude"]


@dataclass(frozen=True)
class RunOutcome:
    """What came of a run."""

    result: dict[str, Any]
    manifest: dict[str, Any]
    folder: str
    trouble: str | None
    """Why the run ended before its time, in words; None if it did not or was stopped by hand."""


def conclude(
    folder: RunFolder,
    config: RunConfig,
    manifest: dict[str, Any],
    choices: Mapping[str, DrawsChoices],
    announcements: Callable[[], Announcements | RecordedAnnouncements],
    on_message: Callable[[str], None] = lambda _: None,
) -> RunOutcome:
    """Tables, result and sifted keys of a run that is over."""
    folder.write_json("manifest.json", manifest)
    records = sum(kind["received"] for kinds in manifest["accounting"].values() for kind in kinds.values())
    on_message(f"run over; tables and result of {records:,} records")
    folder.write_tables()
    result, sifted = analyse(config, manifest, announcements(), choices, RecordedReference(folder.path))
    for name in SENDERS:
        folder.write_secret(f"{name}.sifted-key", np.packbits(sifted[name]).tobytes())
    folder.write_json("result.json", result)
    folder.log("done", sifted=result["sifted"], trouble=manifest["trouble"])
    return RunOutcome(result, manifest, str(folder.path), manifest["trouble"])
