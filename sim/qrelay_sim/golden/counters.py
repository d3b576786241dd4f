"""Golden model of `counters.Counters`."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["copies"]


def copies(
    steps: Mapping[str, NDArray[np.int64]], latch: NDArray[np.bool_], clear: NDArray[np.bool_]
) -> list[tuple[int, dict[str, int]]]:
    """What `latch` copies.

    Parameters
    ----------
    steps : counter name -> int64[words]
        What each word adds.
    latch, clear : bool[words]

    Returns
    -------
    list of (word, counters)
        At each latch, the sums of the words before it, from the last word with `clear` before it on.
    """
    cleared = np.flatnonzero(clear)
    result = []
    for word in np.flatnonzero(latch):
        before = cleared[cleared < word]
        since = int(before[-1]) if len(before) else 0
        result.append((int(word), {name: int(step[since:word].sum()) for name, step in steps.items()}))
    return result
