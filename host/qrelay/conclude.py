"""The end of every run, whoever took its records: tables, result, sifted keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .analysis import analyse
from .choice_keys import SENDERS
from .config import RunConfig
from .errors import RunFolderError
from .run_folder import RecordedAnnouncements, RecordedReference, RunFolder
from .sifting import DrawsChoices

__all__ = ["RunOutcome", "conclude"]


@dataclass(frozen=True)
class RunOutcome:
    """What came of a run."""

    result: dict[str, Any]
    manifest: dict[str, Any]
    folder: str
    trouble: str | None
    """Why the run ended before its time, or what of it could not be written, in words; None if all is well."""


def conclude(
    folder: RunFolder,
    config: RunConfig,
    manifest: dict[str, Any],
    choices: Mapping[str, DrawsChoices],
    on_message: Callable[[str], None] = lambda _: None,
) -> RunOutcome:
    """Tables, result and sifted keys of a run that is over; the result is that of what stands in the folder.

    What the disk does not take is left out and told in `RunOutcome.trouble`; everything else is written, and the result
    is returned in any case. Without tables it is that of the spool.
    """
    troubles: list[str] = [] if manifest["trouble"] is None else [manifest["trouble"]]

    def attempt(write: Callable[[], None]) -> None:
        try:
            write()
        except RunFolderError as error:
            folder.log("trouble", message=str(error))
            troubles.append(str(error))

    folder.release_reserve()
    attempt(lambda: folder.write_json("manifest.json", manifest))
    records = sum(kind["received"] for kinds in manifest["accounting"].values() for kind in kinds.values())
    on_message(f"run over; tables and result of {records:,} records")
    attempt(folder.write_tables)
    damage: dict[str, None] = {}  # told at each reading
    announcements = RecordedAnnouncements(folder.path, damage.setdefault)
    reference = RecordedReference(folder.path, damage.setdefault)
    result, sifted = analyse(config, manifest, announcements, choices, reference)
    troubles += [told for told in damage if told not in troubles]
    attempt(lambda: folder.write_json("result.json", result))
    for name in SENDERS:
        attempt(partial(folder.write_secret, f"{name}.sifted-key", np.packbits(sifted[name]).tobytes()))
    trouble = "; ".join(troubles) or None
    folder.log("done", sifted=result["sifted"], trouble=trouble)
    return RunOutcome(result, manifest, str(folder.path), trouble)
