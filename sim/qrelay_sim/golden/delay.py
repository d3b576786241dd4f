"""Golden model of `delay.Delay`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["delay", "runs"]


def runs(running: NDArray[np.bool_]) -> list[slice]:
    """The stretches of consecutive words in which `running` is set."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], running, [False])).astype(np.int8)))
    return [slice(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def delay(
    valid: NDArray[np.bool_], fine: NDArray[np.uint8], delay_slots: int, delay_fine: int
) -> tuple[NDArray[np.bool_], NDArray[np.uint8], NDArray[np.bool_]]:
    """Delay the hits of one run of one detector.

    Parameters
    ----------
    valid, fine : bool[slots], uint8[slots]
        Hits of the run by slot.
    delay_slots, delay_fine : int
        The delay.

    Returns
    -------
    valid, fine, extra : bool[slots], uint8[slots], bool[slots]
        Hits by delayed slot, the earlier one where two meet, and where a second one was dropped. Hits after the end of
        the run are lost. `fine` is 0 where not valid.
    """
    slots = np.flatnonzero(valid)
    time = (slots + delay_slots) * 256 + fine[slots] + delay_fine
    place = time // 256
    inside = place < len(valid)
    time = time[inside]
    # Times rise, so the first hit of each slot is the earliest.
    place, first = np.unique(place[inside], return_index=True)
    delayed = np.zeros_like(valid)
    delayed_fine = np.zeros_like(fine)
    delayed[place] = True
    delayed_fine[place] = (time[first] % 256).astype(np.uint8)
    extra = np.zeros_like(valid)
    extra[np.delete(time, first) // 256] = True
    return delayed, delayed_fine, extra
