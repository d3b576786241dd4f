"""The file that takes records while a run goes on: appended to, whole up to the last complete block, cheap to recover.

A block is a header (magic, station, kind, number of records, CRC-32 of the records) and the records, 64 bits each.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .closing import ClosedAtExit
from .errors import RunFolderError
from .protocol.records import RecordKind

__all__ = ["Spool", "SpoolBlock", "SpoolContent", "SpoolReader", "read_spool"]

_MAGIC = 0x4C505351
_HEADER = struct.Struct("<IBBxxII")


@dataclass
class SpoolContent:
    """Records of a spool by (station, kind), and what was wrong with its end."""

    records: dict[tuple[int, RecordKind], NDArray[np.uint64]] = field(default_factory=dict)
    damage: str | None = None
    """Byte offset and nature of the damage behind which nothing was read; None if the file is whole."""


class Spool(ClosedAtExit):
    """Append records to a file. A block that could not be written whole is cut off again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise RunFolderError(f"cannot write {path}: {error.strerror}; choose another output folder") from error
        self._end = self._file.tell()

    def append(self, station: int, kind: RecordKind, words: NDArray[np.uint64]) -> None:
        """Add records. Raises RunFolderError if the disk does not take them; what was there before stays."""
        if len(words) == 0:
            return
        body = words.astype("<u8").tobytes()
        block = _HEADER.pack(_MAGIC, station, kind, len(words), zlib.crc32(body)) + body
        try:
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            self._cut()
            raise RunFolderError(
                f"cannot write {self.path}: {error.strerror}; free some space, what was recorded before is kept"
            ) from error
        self._end += len(block)

    def _cut(self) -> None:
        # A device such as /dev/full cannot be cut; a half block at the end is recognised when reading.
        try:
            os.ftruncate(self._file.fileno(), self._end)
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class SpoolBlock(NamedTuple):
    """A block of records: where its records begin in the file, whose they are, and the records."""

    position: int
    station: int
    kind: RecordKind
    words: NDArray[np.uint64]


class SpoolReader(ClosedAtExit):
    """Blocks of a spool in the order in which they were written, read one by one.

    Iteration stops at the end of the file or at its first damaged block; `damage` then says where and what. Raises
    RunFolderError if the file cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage: str | None = None
        """Byte offset and nature of the damage behind which nothing was read; None if there was none so far."""
        try:
            self._file = path.open("rb")
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise RunFolderError(f"cannot read {path}: {error.strerror}") from error

    def __iter__(self) -> Iterator[SpoolBlock]:
        position = 0
        while position < self._size:
            start = position + _HEADER.size
            if start > self._size:
                self.damage = f"byte {position}: the file ends inside a block header"
                return
            magic, station, code, count, checksum = _HEADER.unpack(self._bytes(position, _HEADER.size))
            if magic != _MAGIC or code not in set(RecordKind):
                self.damage = f"byte {position}: no block header"
                return
            kind = RecordKind(code)
            body = self._bytes(start, 8 * count)
            if len(body) < 8 * count:
                self.damage = f"byte {position}: {kind.name} block of station {station} is cut after " + (
                    f"{len(body) // 8} of {count} records"
                )
                return
            if zlib.crc32(body) != checksum:
                self.damage = f"byte {position}: {kind.name} block of station {station} has a wrong checksum"
                return
            yield SpoolBlock(start, station, kind, np.frombuffer(body, "<u8").astype(np.uint64))
            position = start + 8 * count

    def words(self, position: int, count: int) -> NDArray[np.uint64]:
        """Records of a block met before, by its `SpoolBlock.position`."""
        return np.frombuffer(self._bytes(position, 8 * count), "<u8").astype(np.uint64)

    def _bytes(self, position: int, size: int) -> bytes:
        try:
            self._file.seek(position)
            return self._file.read(size)
        except OSError as error:
            raise RunFolderError(f"cannot read {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_spool(path: Path) -> SpoolContent:
    """Read a whole spool up to its end or its first damaged block. Raises RunFolderError if it cannot be opened."""
    parts: dict[tuple[int, RecordKind], list[NDArray[np.uint64]]] = {}
    with SpoolReader(path) as reader:
        for block in reader:
            parts.setdefault((block.station, block.kind), []).append(block.words)
        return SpoolContent({key: np.concatenate(blocks) for key, blocks in parts.items()}, reader.damage)
