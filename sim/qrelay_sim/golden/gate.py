"""Golden model of `gate.Gate`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_window"]


def in_window(fine: NDArray[np.uint8], start: int, width: int) -> NDArray[np.bool_]:
    """Whether a fine lies in the window [start, start + width) of its slot, which may wrap; same shape as `fine`."""
    return (fine.astype(np.int64) - start) % 256 < width
