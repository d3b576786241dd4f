"""Golden models of `clicks.SuccessRecords` and `clicks.ClickRecords`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["click_records", "pack_first_four", "success_records"]

_LANES = np.arange(4)


def pack_first_four(valid: NDArray[np.bool_], items: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first four valid items of each word, side by side; -1 where there are fewer. [words, n] -> [words, 4]."""
    order = np.argsort(~valid, axis=1, kind="stable")[:, :4]
    packed = np.where(valid, items, -1)
    result: NDArray[np.int64] = np.take_along_axis(packed, order, axis=1)
    return result


def success_records(patterns: NDArray[np.uint8], outcomes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Success items of each word, from pattern and outcome of each slot.

    Returns int64[words, 4]: bits 1:0 lane, 9:2 pattern, 13:10 outcome; -1 where there is none.
    """
    outcome = outcomes.reshape(-1, 4).astype(np.int64)
    items = _LANES | patterns.reshape(-1, 4).astype(np.int64) << 2 | outcome << 10
    return pack_first_four(outcome > 0, items)


def click_records(
    clicks: NDArray[np.bool_], fines: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Click items of each word.

    Parameters
    ----------
    clicks, fines : bool[detectors, slots], uint8[detectors, slots]

    Returns
    -------
    items : int64[words, 4]
        The first four in order of slot and then detector: bits 1:0 lane, 9:2 fine, 13:10 detector; -1 where none.
    count, beyond : int64[words], int64[words]
        All clicks of the word, and those after the fourth.
    """
    detectors, slots = clicks.shape
    by_word = clicks.T.reshape(slots // 4, 4, detectors)
    fine = fines.T.reshape(by_word.shape).astype(np.int64)
    items = _LANES[:, np.newaxis] | fine << 2 | np.arange(detectors) << 10
    flat = by_word.reshape(slots // 4, -1)
    count = flat.sum(axis=1)
    return pack_first_four(flat, items.reshape(flat.shape)), count, np.maximum(count - 4, 0)
