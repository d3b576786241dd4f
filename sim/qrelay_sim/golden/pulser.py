"""Golden model of `pulser.TestPulser`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["pulses"]


def pulses(words: int, period: int) -> NDArray[np.bool_]:
    """Words, counted from reset, with a pulse of the test pulser: bool[words]."""
    count = np.arange(words)
    return (count > 0) & (count % period == 0) if period else np.zeros(words, dtype=bool)
