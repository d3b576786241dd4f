"""Golden model of `rate.RateMeter`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["rates"]


def rates(hits: NDArray[np.int64], interval_words: int, late_words: int) -> NDArray[np.int64]:
    """Hits in each full interval.

    Parameters
    ----------
    hits : int64[words]
        Hits of each word, counted from reset.
    interval_words : int
        Interval; 0 and 1 act as 2.
    late_words : int
        Words by which hits come late in the meter, whose first interval begins at reset.

    Returns
    -------
    int64[intervals]
    """
    interval = max(interval_words, 2)
    seen = np.concatenate((np.zeros(late_words, dtype=np.int64), hits))
    whole = len(seen) // interval
    sums: NDArray[np.int64] = seen[: whole * interval].reshape(whole, interval).sum(axis=1)
    return sums
