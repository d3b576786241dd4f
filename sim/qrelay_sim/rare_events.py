"""Rare events on a long row of slots, at a cost per event and not per slot."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["RareEvents"]

_CHUNK = 8192
_LOWEST_PROBABILITY = 1e-14
"""Below it an event is not expected within 1e14 slots, and the sum of a chunk's gaps would leave 63 bits."""


class RareEvents:
    """Independent events of one probability in each of a row of places, drawn by the gaps between them.

    The gap from one event to the next is geometric, so the places of the events follow exactly the law of one draw per
    place. Events drawn beyond the row asked for are kept for the next call: any split of the row into calls gives the
    same events.

    Parameters
    ----------
    probability : float
        Of an event, in each place. Below 1e-14 there are none.
    rng : numpy.random.Generator
        Used by nobody else.
    """

    def __init__(self, probability: float, rng: np.random.Generator) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability {probability} is out of range; give 0 to 1")
        self.probability = probability
        self._rng = rng
        self._pending: list[NDArray[np.int64]] = []
        self._last = -1

    def take(self, places: int) -> NDArray[np.int64]:
        """Offsets of the events in the next `places` places, ascending."""
        if self.probability < _LOWEST_PROBABILITY:
            return np.zeros(0, np.int64)
        while self._last < places:
            chunk = self._last + np.cumsum(self._rng.geometric(self.probability, _CHUNK))
            self._last = int(chunk[-1])
            self._pending.append(chunk)
        row = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        count = int(np.searchsorted(row, places))
        self._pending = [row[count:] - places]
        self._last -= places
        return row[:count]
