"""Golden model of `reference.ReferenceCounters`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import DETECTORS, REFERENCE_BINS, REFERENCE_MODES

__all__ = ["reference_records"]

_LIMIT = 0xFFFF


def reference_records(
    settings: Mapping[str, int],
    counting: NDArray[np.bool_],
    places: NDArray[np.int64],
    clicks: NDArray[np.int64],
    running: NDArray[np.bool_],
    last: NDArray[np.bool_],
    frame: NDArray[np.int64],
    success: NDArray[np.bool_],
) -> tuple[list[tuple[int, list[int]]], list[int]]:
    """Sets of records of frames that end, as (last word, records), and the last words of sets that are missed.

    Parameters
    ----------
    settings : registers `mode`, `bins` and `sum_frames` of group `reference`.
    counting, places : one entry per word: it is in a reference segment; its bin.
    clicks : int64[detectors, words]
    running, last, frame, success : one entry per word: word of a run, last word of its frame, frame number, a success
        is in it.
    """
    mode = REFERENCE_MODES[settings["mode"]]
    bins = min(max(settings["bins"], 1), REFERENCE_BINS)
    wanted_frames = max(settings["sum_frames"], 1) if mode == "sum" else 1
    steps = np.where(counting, clicks, 0)
    sets = []
    missed = []
    first = frames = 0
    free = 0
    for word in np.flatnonzero(~running | last).tolist():
        frames += 1
        if not running[word]:
            first, frames = word + 1, 0
            continue
        if frames < wanted_frames:
            continue
        words = slice(first, word + 1)
        first, frames = word + 1, 0
        if mode == "off" or (mode == "with_success" and not success[words].any()):
            continue
        if word < free:
            missed.append(word)
            continue
        free = word + DETECTORS // 2 * bins + 2
        counts = np.zeros((REFERENCE_BINS, DETECTORS), np.int64)
        np.add.at(counts, places[words], steps[:, words].T)
        counts = np.minimum(counts, _LIMIT)
        sets.append(
            (word, [_record(int(frame[word]), b, p, counts) for b in range(bins) for p in range(DETECTORS // 2)])
        )
    return sets, missed


def _record(frame: int, place: int, pair: int, counts: NDArray[np.int64]) -> int:
    first, second = (int(count) for count in counts[place, 2 * pair : 2 * pair + 2])
    fields = {"frame": frame & 0xFFFFFF, "bin": place, "pair": pair, "first": first, "second": second, "flags": 0}
    return RECORDS[RecordKind.REFERENCE].pack(fields)
