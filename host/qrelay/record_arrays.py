"""NumPy views of the 64-bit records, made from `qrelay.protocol.records`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qrelay.bit_arrays import pack_fields, unpack_fields
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
    for name, values in unpack_fields(RECORDS[kind], words).items():
        out[name] = values
    return out


def pack_records(records: RecordArray, kind: RecordKind) -> NDArray[np.uint64]:
    """64-bit words of a structured array, the inverse of `unpack_records`."""
    return pack_fields(RECORDS[kind], **{field.name: records[field.name] for field in RECORDS[kind].fields})
