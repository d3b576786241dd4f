"""NumPy views of the 64-bit records, made from `qrelay.protocol.records`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RECORDS, RecordKind

__all__ = ["DTYPES", "RecordArray", "pack_records", "unpack_records"]

RecordArray = NDArray[np.void]
"""Structured array of one record kind, one field per record field."""


def _unsigned(width: int) -> np.dtype[Any]:
    return np.dtype(next(f"<u{size}" for size in (1, 2, 4, 8) if 8 * size >= width))


DTYPES: dict[RecordKind, np.dtype[Any]] = {
    kind: np.dtype([(field.name, _unsigned(field.width)) for field in record.fields])
    for kind, record in RECORDS.items()
}
"""Structured dtype of each record kind: every field in the smallest unsigned integer that holds it."""


def unpack_records(kind: RecordKind, words: NDArray[np.uint64]) -> RecordArray:
    """Fields of `words`, the 64-bit records of one kind."""
    out = np.empty(len(words), DTYPES[kind])
    position = 0
    for field in RECORDS[kind].fields:
        mask = np.uint64((1 << field.width) - 1)
        out[field.name] = (words >> np.uint64(position)) & mask
        position += field.width
    return out


def pack_records(records: RecordArray, kind: RecordKind) -> NDArray[np.uint64]:
    """64-bit words of a structured array, the inverse of `unpack_records`."""
    words = np.zeros(len(records), np.uint64)
    position = 0
    for field in RECORDS[kind].fields:
        words |= records[field.name].astype(np.uint64) << np.uint64(position)
        position += field.width
    return words
