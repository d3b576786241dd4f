"""Golden model of `edge_to_click.EdgeToClick`."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["edge_to_click"]


def edge_to_click(
    samples: NDArray[np.uint8], invert: bool = False, last_level: bool = True
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Hits of sampled levels.

    Parameters
    ----------
    samples : uint8[words]
        Eight samples per word, bit 0 the earliest.
    invert : bool
        Falling edges are hits.
    last_level : bool
        Level before the first sample, after the polarity; true after reset.

    Returns
    -------
    valid, fine : bool[4 * words], uint8[4 * words]
        Hits by slot; `fine` is 0 where not valid.
    """
    levels = np.unpackbits(samples[:, np.newaxis], axis=1, bitorder="little").astype(bool).ravel() ^ invert
    rising = (levels & ~np.concatenate(([last_level], levels[:-1]))).reshape(-1, 2)
    fine = np.where(rising[:, 0], 64, np.where(rising[:, 1], 192, 0))
    return rising[:, 0] | rising[:, 1], fine.astype(np.uint8)
