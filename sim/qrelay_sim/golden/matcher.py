"""Golden models of `matcher.Matcher` and of the click pattern that it looks up."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["click_patterns", "match"]


def click_patterns(early: NDArray[np.bool_], late: NDArray[np.bool_], windows: int) -> NDArray[np.uint8]:
    """Click pattern of each slot.

    Parameters
    ----------
    early, late : bool[detectors, slots]
        Clicks in the early and late window; a click may be in both, and is then early.
    windows : int
        0: bit i is an early click of detector i. 1: bits 2i and 2i + 1 are early and late clicks.

    Returns
    -------
    uint8[slots]
    """
    # Early and late bits of a detector side by side.
    both = np.stack([early, late & ~early], axis=1).reshape(-1, early.shape[1])
    bits = both if windows else early
    patterns: NDArray[np.uint8] = np.packbits(bits, axis=0, bitorder="little")[0]
    return patterns


def match(
    patterns: NDArray[np.uint8], counted: NDArray[np.bool_], live: NDArray[np.bool_], table: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Outcome of each slot and whether it was vetoed.

    Parameters
    ----------
    patterns, counted, live : uint8[slots], bool[slots], bool[slots]
        Click pattern, whether the slot counts, whether all detectors of the rule are live.
    table : uint8[256]
        Outcome by pattern.

    Returns
    -------
    outcomes, vetoed : uint8[slots], bool[slots]
        Outcome, 0 where no success; slots whose outcome was lost to a blind detector.
    """
    found = np.where(counted, table[patterns], 0).astype(np.uint8)
    return np.where(live, found, 0).astype(np.uint8), (found > 0) & ~live
