"""The folder of a run: everything needed to reproduce its result, keys apart."""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import RunFolderError
from .event_tables import (
    announcements_in_spool,
    announcements_in_table,
    reference_in_spool,
    reference_in_table,
    write_event_tables,
)
from .record_arrays import RecordArray
from .sifting import Announcements
from .spool import Spool

__all__ = [
    "RecordedAnnouncements",
    "RecordedReference",
    "RunFolder",
    "read_announcements",
    "write_json",
    "write_secret",
]

_SPOOL = "events.spool"
_EVENTS = "events.parquet"
_FRAMES = "frames.parquet"
_REFERENCE = "reference.parquet"
_RESERVE = "reserve"
_RESERVE_BYTES = 1 << 20
"""Room for manifest, result and log of a run that filled the disk."""


class RunFolder:
    """A run folder being written.

    Records go to a spool that survives a crash; `write_tables` turns it into Parquet files and removes it. JSON files
    are replaced as a whole, so that a reader never sees half of one. Until `release_reserve` a file of no meaning keeps
    some space of the disk, so that a run that fills it can still say what it did.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Random, as a file system may keep no space for zeros.
        (path / _RESERVE).write_bytes(os.urandom(_RESERVE_BYTES))
        self.spool = Spool(path / _SPOOL)
        # Unbuffered: what a full disk does not take must not come back when the file is closed.
        self._log = (path / "log.jsonl").open("ab", buffering=0)
        self._log_end = self._log.tell()
        self._lines_lost = 0

    @classmethod
    def create(cls, output: Path | str, name: str, config_text: str) -> "RunFolder":
        """Make a new folder ``output/<UTC time>-<name>`` with ``config.toml`` in it."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for attempt in range(1000):
            path = Path(output) / (f"{stamp}-{name}" + (f"-{attempt}" if attempt else ""))
            try:
                path.mkdir(parents=True)
                (path / "config.toml").write_text(config_text, encoding="utf-8")
                return cls(path)
            except FileExistsError:
                continue
            except OSError as error:
                with suppress(OSError):
                    (path / _RESERVE).unlink(missing_ok=True)
                raise RunFolderError(f"cannot make {path}: {error.strerror}; choose another output folder") from error
        raise RunFolderError(f"{output} holds a thousand runs of this second already")

    def log(self, event: str, **values: Any) -> None:
        """Append one line to ``log.jsonl``; a full disk must not stop the run because of it.

        Lines that were lost meanwhile are counted in the next one that is written.
        """
        lost = {"lines_lost_before": self._lines_lost} if self._lines_lost else {}
        line = (json.dumps({"time": time.time(), "event": event, **values, **lost}) + "\n").encode()
        try:
            if self._log.write(line) < len(line):
                raise OSError
        except OSError:
            self._lines_lost += 1
            with suppress(OSError):
                os.ftruncate(self._log.fileno(), self._log_end)
            return
        self._log_end += len(line)
        self._lines_lost = 0

    def release_reserve(self) -> None:
        """Free the space that was kept for the end of the run."""
        with suppress(OSError):
            (self.path / _RESERVE).unlink(missing_ok=True)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write ``name`` (manifest.json, result.json) in one step."""
        write_json(self.path / name, value)

    def write_secret(self, name: str, content: bytes) -> None:
        """Write key material to its own file, readable by its owner only from the first moment on."""
        write_secret(self.path / name, content)

    def write_tables(self) -> None:
        """Turn the spool into events, frames and reference ``.parquet``; the spool goes once all are on disk.

        Of a damaged spool the tables hold what is sound, the spool is kept, and RunFolderError tells it.
        """
        spool = self.path / _SPOOL
        try:
            self.spool.close()
            damage = write_event_tables(spool, self.path / _EVENTS, self.path / _FRAMES, self.path / _REFERENCE)
        except OSError as error:
            raise RunFolderError(
                f"cannot write the tables of {self.path}: {error}; the records are kept in {_SPOOL}"
            ) from error
        if damage is not None:
            raise RunFolderError(f"{spool} is damaged: {damage}; the tables hold what is sound, and the spool is kept")
        spool.unlink()

    def close(self) -> None:
        """Close the files. Never raises: an error on the way here says more than one of closing."""
        self.release_reserve()
        for close in (self.spool.close, self._log.close):
            with suppress(OSError):
                close()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a document in one step. Raises RunFolderError if the disk does not take it; what was there then stays."""
    _replace(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode(), 0o644)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file in one step, readable by its owner only from the first moment on. Raises as `write_json`."""
    _replace(path, content, 0o600)


def _replace(path: Path, content: bytes, mode: int) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise RunFolderError(f"cannot write {path}: {error.strerror}; free some space") from error


class RecordedAnnouncements:
    """Successes of a run folder, part by part in order of slots, read anew by each iteration.

    They come from the folder's table or, after a crash, from its spool, whose damage is told to `on_warning`. Raises
    RunFolderError naming a table that is missing or damaged.
    """

    def __init__(self, folder: Path | str, on_warning: Callable[[str], None] = warnings.warn) -> None:
        self.folder = Path(folder)
        self._on_warning = on_warning

    def __iter__(self) -> Iterator[Announcements]:
        spool = self.folder / _SPOOL
        if not (self.folder / _EVENTS).exists() and spool.exists():
            yield announcements_in_spool(spool, self._on_warning)
        else:
            yield from announcements_in_table(self.folder / _EVENTS)


class RecordedReference:
    """Reference records of a run folder, part by part as they came, read anew by each iteration.

    They come from the folder's table or, where that was not written, from its spool, whose damage is told to
    `on_warning`. Raises RunFolderError naming a table that is missing or damaged.
    """

    def __init__(self, folder: Path | str, on_warning: Callable[[str], None] = warnings.warn) -> None:
        self.folder = Path(folder)
        self._on_warning = on_warning

    def __iter__(self) -> Iterator[RecordArray]:
        spool = self.folder / _SPOOL
        if not (self.folder / _REFERENCE).exists() and spool.exists():
            yield from reference_in_spool(spool, self._on_warning)
        else:
            yield from reference_in_table(self.folder / _REFERENCE)


def read_announcements(folder: Path | str, on_warning: Callable[[str], None] = warnings.warn) -> Announcements:
    """Slots and outcomes of the successes of a run folder, all at once, see `RecordedAnnouncements`."""
    return Announcements.joined(list(RecordedAnnouncements(folder, on_warning)))
