"""Golden model of `histograms.Histograms` and of its parts."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.registers import DETECTORS, LAG_SLOTS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

__all__ = ["fine_counts", "fine_kept", "lag_counts", "parts", "queue_fill"]

_QUEUE_WORDS = 16
_FIRST_TAKE = 78
"""Words from a turn to the first bin that is read out after it."""


def parts(words: int, turns: Sequence[int]) -> list[slice]:
    """The words of each histogram: a turn is the first word of the next one."""
    edges = [0, *turns, words]
    return [slice(first, end) for first, end in pairwise(edges)]


def fine_counts(hits: NDArray[np.bool_], fines: NDArray[np.uint8], words: slice) -> NDArray[np.int64]:
    """Hits of these words, int64[detector, fine]; `hits` and `fines` are [detector, slot]."""
    slots = slice(SLOTS_PER_WORD * words.start, SLOTS_PER_WORD * words.stop)
    return np.stack(
        [np.bincount(fines[d, slots][hits[d, slots]], minlength=FINES_PER_SLOT) for d in range(DETECTORS)]
    ).astype(np.int64)


def fine_kept(hits: NDArray[np.bool_], turns: Sequence[int]) -> NDArray[np.bool_]:
    """The hits that the fine histogram counts, bool[detector, slot]: not those of words that find a queue full.

    A hit is counted per word and detector, but for the words in which a bin of the detector is read out after a turn.
    """
    by_word = hits.reshape(DETECTORS, -1, SLOTS_PER_WORD)
    kept = np.zeros_like(by_word)
    for d in range(DETECTORS):
        takes = {turn + _FIRST_TAKE + d + DETECTORS * fine for turn in turns for fine in range(FINES_PER_SLOT)}
        waiting: deque[int] = deque()
        left = 0
        for word, arrived in enumerate(by_word[d].sum(axis=1).tolist()):
            has_room = len(waiting) < _QUEUE_WORDS
            is_taken = word in takes
            if left == 0 or (left == 1 and not is_taken):
                left = waiting.popleft() if waiting else 0
            elif not is_taken:
                left -= 1
            if arrived and has_room:
                waiting.append(arrived)
                kept[d, word] = by_word[d, word]
    return kept.reshape(hits.shape)


def lag_counts(a: NDArray[np.bool_], b: NDArray[np.bool_], words: slice) -> NDArray[np.int64]:
    """Pairs whose later click is in these words, int64[1025] by lag -512 .. 512, of clicks by slot.

    What is before the array does not exist; clicks of words before `words` make pairs.
    """
    first, end = SLOTS_PER_WORD * words.start, SLOTS_PER_WORD * words.stop
    counts = np.zeros(2 * LAG_SLOTS + 1, np.int64)
    for sign, new, old in ((-1, a, b), (1, b, a)):
        places = np.flatnonzero(old)
        for slot in np.flatnonzero(new[first:end]) + first:
            near = places[np.searchsorted(places, slot - LAG_SLOTS) : np.searchsorted(places, slot)]
            np.add.at(counts, LAG_SLOTS + sign * (slot - near), 1)
    counts[LAG_SLOTS] = np.count_nonzero(a[first:end] & b[first:end])
    return counts


def queue_fill(new: NDArray[np.bool_], old: NDArray[np.bool_], stalls: Sequence[int] = ()) -> NDArray[np.int64]:
    """Words that wait for an engine that walks from `new` to `old` clicks, after each word with clicks; no losses.

    An estimate from above: each event costs 5 words, each new click 2, each pair 1, each stall (by its word) 540.
    """
    by_word = np.flatnonzero((new | old).reshape(-1, SLOTS_PER_WORD).any(axis=1))
    places = np.flatnonzero(old)
    clicks = np.flatnonzero(new)
    pairs = np.searchsorted(places, clicks) - np.searchsorted(places, clicks - LAG_SLOTS)
    cost = np.full(len(by_word), 5, np.int64)
    np.add.at(cost, np.searchsorted(by_word, clicks // SLOTS_PER_WORD), 2 + pairs)
    for word in stalls:
        cost[min(int(np.searchsorted(by_word, word)), len(cost) - 1)] += 540
    # The engine ends event n at max(its arrival, end of n - 1) + cost.
    total = np.cumsum(cost)
    ends = total + np.maximum.accumulate(by_word - (total - cost))
    return np.arange(1, len(by_word) + 1) - np.searchsorted(ends, by_word, side="right")
