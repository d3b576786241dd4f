"""The tables of a run folder: made from a spool and read again in bounded memory, however long the run was."""

from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import STATIONS
from .errors import RunFolderError
from .protocol.records import RecordKind
from .record_arrays import DTYPES, RecordArray, unpack_records
from .sifting import Announcements
from .spool import SpoolReader

__all__ = [
    "announcements_in_spool",
    "announcements_in_table",
    "reference_in_spool",
    "reference_in_table",
    "write_event_tables",
]

_ROWS = 1 << 20
"""Rows that are sorted and written together."""
_SLOT_MASK = np.uint64((1 << 48) - 1)
_EVENT = np.dtype(
    [
        ("slot", np.uint64),
        ("kind", np.uint8),
        ("station", np.uint8),
        ("pattern_or_fine", np.uint8),
        ("outcome_or_detector", np.uint8),
        ("flags", np.uint8),
    ]
)


def write_event_tables(spool: Path, events: Path, frames: Path, reference: Path) -> str | None:
    """Write success and click records in order of slots, frame and reference records as they came, into Parquet files.

    Each file appears as a whole or not at all. Returns the damage of the spool, of which the tables hold what is sound;
    None if all of it is. Raises OSError if the disk does not take a file.
    """
    with (
        SpoolReader(spool) as reader,
        _Table(frames, DTYPES[RecordKind.FRAME], "frame") as frame_table,
        _Table(reference, DTYPES[RecordKind.REFERENCE], "frame") as reference_table,
        _Table(events, _EVENT, "slot") as event_table,
    ):
        _write_events(reader, _index(reader, frame_table, reference_table), event_table)
        return reader.damage


class _Index:
    """Blocks of events by the lowest slot in them."""

    def __init__(self) -> None:
        self.lowest, self.position, self.count = array("Q"), array("Q"), array("L")
        self.station, self.kind = array("B"), array("B")


def _index(reader: SpoolReader, frames: "_Table", reference: "_Table") -> _Index:
    """Note where events are; frame and reference records go straight to their tables."""
    index = _Index()
    for block in reader:
        if block.kind == RecordKind.FRAME:
            frames.write(unpack_records(block.kind, block.words))
        elif block.kind == RecordKind.REFERENCE:
            reference.write(unpack_records(block.kind, block.words))
        elif block.kind in (RecordKind.SUCCESS, RecordKind.CLICK) and len(block.words):
            index.lowest.append(int((block.words & _SLOT_MASK).min()))
            index.position.append(block.position)
            index.count.append(len(block.words))
            index.station.append(block.station)
            index.kind.append(block.kind)
    return index


def _write_events(reader: SpoolReader, index: _Index, table: "_Table") -> None:
    """Blocks reach back behind each other a little: rows before all blocks that are still to come are in order."""
    waiting: list[RecordArray] = []
    rows = 0
    limit = _ROWS
    for k in np.argsort(np.asarray(index.lowest, np.uint64), kind="stable").tolist():
        if rows >= limit:
            joined = _in_order(waiting)
            ready = int(np.searchsorted(joined["slot"], index.lowest[k]))
            table.write(joined[:ready])
            waiting, rows = [joined[ready:].copy()], len(joined) - ready
            limit = rows + _ROWS
        words = reader.words(index.position[k], index.count[k])
        waiting.append(_events(RecordKind(index.kind[k]), index.station[k], words))
        rows += len(words)
    table.write(_in_order(waiting))


def _events(kind: RecordKind, station: int, words: NDArray[np.uint64]) -> RecordArray:
    records = unpack_records(kind, words)
    low, high = ("pattern", "outcome") if kind == RecordKind.SUCCESS else ("fine", "detector")
    events = np.empty(len(words), _EVENT)
    events["slot"], events["kind"], events["station"] = records["slot"], int(kind), station
    events["pattern_or_fine"], events["outcome_or_detector"] = records[low], records[high]
    events["flags"] = records["flags"]
    return events


def _in_order(parts: list[RecordArray]) -> RecordArray:
    joined = np.concatenate(parts) if parts else np.zeros(0, _EVENT)
    slots = joined["slot"]
    if np.all(slots[1:] > slots[:-1]):
        return joined
    return joined[np.lexsort((joined["kind"], slots))]


class _Table:
    """A Parquet file that is written group by group and takes its name when it is complete."""

    def __init__(self, path: Path, dtype: np.dtype[Any], rising: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._dtype = dtype
        names = dtype.names or ()
        metadata = {"stations": ",".join(STATIONS), "kinds": ",".join(kind.name.lower() for kind in RecordKind)}
        self._schema = pa.schema([(name, pa.from_numpy_dtype(dtype[name])) for name in names], metadata=metadata)
        try:
            self._writer = pq.ParquetWriter(
                self._part,
                self._schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=False,
                # Slots rise: differences packed to their own width make the smallest file of those tried.
                column_encoding={name: "DELTA_BINARY_PACKED" if name == rising else "PLAIN" for name in names},
            )
        except OSError:
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
            raise

    def write(self, rows: RecordArray) -> None:
        """Append rows."""
        import pyarrow as pa

        for begin in range(0, len(rows), _ROWS):
            part = rows[begin : begin + _ROWS]
            columns = {name: np.ascontiguousarray(part[name]) for name in self._schema.names}
            self._writer.write_table(pa.table(columns, schema=self._schema))

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._part.replace(self._path)
        finally:
            self._part.unlink(missing_ok=True)


def announcements_in_table(path: Path) -> Iterator[Announcements]:
    """Successes of ``events.parquet``, part by part, in order of slots. Raises RunFolderError naming the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            # Group by group: iterating over batches would keep all that was read so far.
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group, columns=["slot", "kind", "outcome_or_detector"])
                columns: Mapping[str, NDArray[Any]] = {name: rows[name].to_numpy() for name in rows.column_names}
                successes = columns["kind"] == int(RecordKind.SUCCESS)
                yield Announcements(columns["slot"][successes], columns["outcome_or_detector"][successes])
    except (OSError, pa.ArrowInvalid) as error:
        raise RunFolderError(f"cannot read {path}: {error}; it is missing, cut or damaged") from error


def reference_in_table(path: Path) -> Iterator[RecordArray]:
    """Records of ``reference.parquet``, part by part, as they came. Raises RunFolderError naming the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            for group in range(table.num_row_groups):
                rows = table.read_row_group(group)
                records = np.empty(rows.num_rows, DTYPES[RecordKind.REFERENCE])
                for name in records.dtype.names or ():
                    records[name] = rows[name].to_numpy()
                yield records
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise RunFolderError(f"cannot read {path}: {error}; it is missing, cut or damaged") from error


def announcements_in_spool(path: Path, on_warning: Callable[[str], None]) -> Announcements:
    """Successes of a spool that a crash left behind, in order of slots. Damage of the spool is told to `on_warning`."""
    parts = []
    with SpoolReader(path) as reader:
        for block in reader:
            if block.kind == RecordKind.SUCCESS:
                events = _events(block.kind, block.station, block.words)
                parts.append(Announcements(events["slot"].copy(), events["outcome_or_detector"].copy()))
        _tell_damage(path, reader, on_warning)
    return Announcements.joined(parts).ordered()


def reference_in_spool(path: Path, on_warning: Callable[[str], None]) -> Iterator[RecordArray]:
    """Reference records of a spool, part by part, as they came. Damage of the spool is told to `on_warning`."""
    with SpoolReader(path) as reader:
        for block in reader:
            if block.kind == RecordKind.REFERENCE:
                yield unpack_records(block.kind, block.words)
        _tell_damage(path, reader, on_warning)


def _tell_damage(path: Path, reader: SpoolReader, on_warning: Callable[[str], None]) -> None:
    if reader.damage is not None:
        on_warning(f"{path} is damaged: {reader.damage}; what is sound is used")
