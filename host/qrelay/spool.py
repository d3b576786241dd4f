"""The file that takes records while a run goes on: appended to, whole up to the last complete block, cheap to recover.

A block is a header (magic, station, kind, number of records, CRC-32 of these and the records) and the records, 64 bits
each.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .closing import ClosedAtExit
from .errors import RunFolderError
from .protocol.records import RecordKind

__all__ = ["Spool", "SpoolBlock", "SpoolReader"]

_MAGIC = 0x32505351
_HEAD = struct.Struct("<IBBxxI")
_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _HEAD.size + _CHECKSUM.size
_SEARCHED = 1 << 20
"""Bytes that are searched together for the next block."""


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
        head = _HEAD.pack(_MAGIC, station, kind, len(words))
        block = head + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) + body
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

    Iteration passes over what is damaged to the next whole block; `damage` then says where and what. Raises
    RunFolderError if the file cannot be opened or read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first_damage: str | None = None
        self._passed_over = 0
        try:
            self._file = path.open("rb")
            self._size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise RunFolderError(f"cannot read {path}: {error.strerror}") from error

    @property
    def damage(self) -> str | None:
        """Byte offset and nature of the first damage, and all that could not be read; None if there was none so far."""
        if self._first_damage is None:
            return None
        return f"{self._first_damage}; {self._passed_over} of {self._size} bytes could not be read"

    def __iter__(self) -> Iterator[SpoolBlock]:
        self._first_damage, self._passed_over = None, 0
        position = 0
        while position < self._size:
            block = self._block(position)
            if isinstance(block, str):
                self._first_damage = self._first_damage or f"byte {position}: {block}"
                following = self._magic_from(position + 1)
                self._passed_over += following - position
                position = following
            else:
                yield block
                position = block.position + 8 * len(block.words)

    def _block(self, position: int) -> SpoolBlock | str:
        """The block that begins at a place, or why none does."""
        start = position + _HEADER_BYTES
        if start > self._size:
            return "the file ends inside a block header"
        header = self._bytes(position, _HEADER_BYTES)
        head = header[: _HEAD.size]
        magic, station, code, count = _HEAD.unpack(head)
        (checksum,) = _CHECKSUM.unpack(header[_HEAD.size :])
        if magic != _MAGIC or code not in set(RecordKind):
            return "no block header"
        kind = RecordKind(code)
        whole = (self._size - start) // 8
        if whole < count:
            return f"{kind.name} block of station {station} is cut after {whole} of {count} records"
        body = self._bytes(start, 8 * count)
        if zlib.crc32(body, zlib.crc32(head)) != checksum:
            return f"{kind.name} block of station {station} has a wrong checksum"
        return SpoolBlock(start, station, kind, np.frombuffer(body, "<u8").astype(np.uint64))

    def _magic_from(self, position: int) -> int:
        """Next place at which a header may begin; the end of the file if there is none."""
        magic = struct.pack("<I", _MAGIC)
        while position < self._size:
            found = self._bytes(position, _SEARCHED).find(magic)
            if found >= 0:
                return position + found
            # Its first bytes may have been the last ones here.
            position += _SEARCHED - len(magic) + 1
        return self._size

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
