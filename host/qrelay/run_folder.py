"""The folder of a run: everything needed to reproduce its result, keys apart."""

import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import STATIONS
from .errors import RunFolderError
from .protocol.records import RecordKind
from .record_arrays import DTYPES, unpack_records
from .sifting import Announcements
from .spool import Spool, SpoolContent, read_spool

__all__ = ["RunFolder", "read_announcements"]

_SPOOL = "events.spool"
_EVENTS = "events.parquet"
_FRAMES = "frames.parquet"


class RunFolder:
    """A run folder being written.

    Records go to a spool that survives a crash; `write_tables` turns it into Parquet files and removes it. JSON files
    are replaced as a whole, so that a reader never sees half of one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = Spool(path / _SPOOL)
        self._log = (path / "log.jsonl").open("a", encoding="utf-8", buffering=1)

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
                raise RunFolderError(f"cannot make {path}: {error.strerror}; choose another output folder") from error
        raise RunFolderError(f"{output} holds a thousand runs of this second already")

    def log(self, event: str, **values: Any) -> None:
        """Append one line to ``log.jsonl``; a full disk must not stop the run because of it."""
        line = json.dumps({"time": time.time(), "event": event, **values})
        try:
            self._log.write(line + "\n")
        except OSError:
            return

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write ``name`` (manifest.json, result.json) in one step."""
        self._replace(self.path / name, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode(), 0o644)

    def write_secret(self, name: str, content: bytes) -> None:
        """Write key material to its own file, readable by its owner only from the first moment on."""
        self._replace(self.path / name, content, 0o600)

    def write_tables(self) -> None:
        """Turn the spool into ``events.parquet`` and ``frames.parquet``; the spool goes once both are on disk."""
        self.spool.close()
        content = read_spool(self.path / _SPOOL)
        try:
            _write_parquet(self.path / _EVENTS, _event_columns(content))
            _write_parquet(self.path / _FRAMES, _frame_columns(content))
        except OSError as error:
            raise RunFolderError(
                f"cannot write the tables of {self.path}: {error}; the records are kept in {_SPOOL}"
            ) from error
        (self.path / _SPOOL).unlink()

    def close(self) -> None:
        """Close the files."""
        self.spool.close()
        self._log.close()

    @staticmethod
    def _replace(path: Path, content: bytes, mode: int) -> None:
        part = path.with_name(path.name + ".part")
        try:
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise RunFolderError(f"cannot write {path}: {error.strerror}") from error


def _event_columns(content: SpoolContent) -> dict[str, NDArray[Any]]:
    """Success and click records, in order of slots: pattern and outcome, or fine and detector, in `low` and `high`."""
    columns: dict[str, list[NDArray[Any]]] = {
        key: [] for key in ("slot", "kind", "station", "pattern_or_fine", "outcome_or_detector", "flags")
    }
    for (station, kind), words in content.records.items():
        if kind not in (RecordKind.SUCCESS, RecordKind.CLICK):
            continue
        records = unpack_records(kind, words)
        low, high = ("pattern", "outcome") if kind == RecordKind.SUCCESS else ("fine", "detector")
        columns["slot"].append(records["slot"])
        columns["kind"].append(np.full(len(records), int(kind), np.uint8))
        columns["station"].append(np.full(len(records), station, np.uint8))
        columns["pattern_or_fine"].append(records[low])
        columns["outcome_or_detector"].append(records[high])
        columns["flags"].append(records["flags"])
    types = {"slot": np.uint64}
    joined = {
        key: np.concatenate(parts) if parts else np.zeros(0, types.get(key, np.uint8)) for key, parts in columns.items()
    }
    order = np.lexsort((joined["kind"], joined["slot"]))
    return {key: values[order] for key, values in joined.items()}


def _frame_columns(content: SpoolContent) -> dict[str, NDArray[Any]]:
    parts = [unpack_records(kind, words) for (_, kind), words in content.records.items() if kind == RecordKind.FRAME]
    records = np.concatenate(parts) if parts else np.zeros(0, DTYPES[RecordKind.FRAME])
    return {name: records[name] for name in records.dtype.names or ()}


def _write_parquet(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = path.with_name(path.name + ".part")
    # Slots rise: differences packed to their own width make the smallest file of those tried.
    encodings = {name: "DELTA_BINARY_PACKED" if name in ("slot", "frame") else "PLAIN" for name in columns}
    metadata = {"stations": ",".join(STATIONS), "kinds": ",".join(kind.name.lower() for kind in RecordKind)}
    table = pa.table({name: pa.array(values) for name, values in columns.items()}).replace_schema_metadata(metadata)
    try:
        pq.write_table(
            table, part, compression="zstd", compression_level=1, use_dictionary=False, column_encoding=encodings
        )
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def read_announcements(folder: Path | str) -> Announcements:
    """Slots and outcomes of the successes of a run folder, from its table or, after a crash, from its spool.

    Raises RunFolderError naming the file that is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / _EVENTS
    if not path.exists() and (Path(folder) / _SPOOL).exists():
        columns = _event_columns(read_spool(Path(folder) / _SPOOL))
    else:
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise RunFolderError(f"cannot read {path}: {error}; it is missing, cut or damaged") from error
        columns = {name: table[name].to_numpy() for name in table.column_names}
    successes = columns["kind"] == int(RecordKind.SUCCESS)
    return Announcements(columns["slot"][successes], columns["outcome_or_detector"][successes].astype(np.uint8))
