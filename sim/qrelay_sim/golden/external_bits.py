"""Golden model of `external_bits.ExternalBits`: bits used by word, words not drawn, and what is kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sequencer import QUANTUM

__all__ = ["ExternalTrace", "external_bits", "kept_bits"]


@dataclass(frozen=True)
class ExternalTrace:
    """By word, shape (words,): bits of the lanes, and whether the word must not be drawn; and the words kept."""

    key_bits: NDArray[np.int64]
    blocked: NDArray[np.bool_]
    failed_word: int | None
    """Word in which bits were first missing."""
    written: NDArray[np.bool_]
    """Words whose bits went to the ring."""


def external_bits(ticks: NDArray[np.void], bits: NDArray[np.int64], valid: NDArray[np.int64]) -> ExternalTrace:
    """What is used in the words of `ticks`; `bits` and `valid` are those that came a word earlier (0 for the first)."""
    came = valid.astype(bool)
    missing = (ticks["running"] == 1) & (ticks["segment"] == QUANTUM) & ~came
    lost = np.concatenate([[False], np.logical_or.accumulate(missing)[:-1]])
    first = np.flatnonzero(missing)
    return ExternalTrace(
        bits,
        lost | ~came,
        int(first[0]) if len(first) else None,
        (ticks["running"] == 1) & ~missing & ~lost,
    )


def kept_bits(
    ticks: NDArray[np.void], trace: ExternalTrace, slots: NDArray[np.int64], kept_words: int
) -> NDArray[np.int64]:
    """Answer for each slot: bit 0 its bit, bit 1 it is kept, 0 where it is not."""
    words = ticks["slot_word"][trace.written].astype(np.int64)[-kept_words:]
    kept = dict(zip(words.tolist(), trace.key_bits[trace.written][-kept_words:].tolist(), strict=True))
    return np.array([2 | kept[s >> 2] >> (s & 3) & 1 if s >> 2 in kept else 0 for s in slots.tolist()], np.int64)
