"""Golden model of `deadtime.DeadTime`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["dead_time"]


def dead_time(valid: NDArray[np.bool_], dead_slots: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which hits of one run of one detector pass, and in which slots it is blind.

    Parameters
    ----------
    valid : bool[slots]
        Hits by slot.
    dead_slots : int
        Slots that are blind after the slot of a hit that passed. A hit in a blind slot does not extend them.

    Returns
    -------
    live, blind : bool[slots], bool[slots]
    """
    live = np.zeros_like(valid)
    blind = np.zeros_like(valid)
    first_seeing = 0
    for slot in np.flatnonzero(valid).tolist():
        if slot >= first_seeing:
            live[slot] = True
            first_seeing = slot + 1 + dead_slots
            blind[slot + 1 : first_seeing] = True
    return live, blind
