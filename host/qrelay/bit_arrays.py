"""Arrays of words of named bit fields, packed and taken apart."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .protocol.bit_fields import BitFields

__all__ = ["pack_fields", "unpack_fields"]


def pack_fields(word: BitFields, **values: ArrayLike) -> NDArray[np.uint64]:
    """One word per element of the arrays `values`, which must fit their fields. Raises KeyError if one is missing."""
    packed: NDArray[np.uint64] = np.zeros((), np.uint64)
    for low, field in word.placed():
        packed = packed | np.asarray(values[field.name]).astype(np.uint64) << np.uint64(low)
    return packed


def unpack_fields(word: BitFields, words: ArrayLike) -> dict[str, NDArray[np.uint64]]:
    """Arrays of the fields of `words`, by name; bits above the fields are ignored."""
    packed = np.asarray(words).astype(np.uint64)
    return {field.name: packed >> np.uint64(low) & np.uint64((1 << field.width) - 1) for low, field in word.placed()}
