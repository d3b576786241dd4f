"""Golden model of the choice mapper."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay.protocol.choice import PHASE_BITS, PHASES
from qrelay.protocol.units import SLOTS_PER_WORD

from .sequencer import QUANTUM

__all__ = ["CHOICES", "choices"]

CHOICES = np.dtype([("setting", "u1"), ("phase", "u1"), ("drawn", "u1")])
"""What a sender does in a slot: the fields of the gateware's Choice."""


def choices(
    ticks: NDArray[np.void], draws: ArrayLike, thresholds: Sequence[int], enable: bool = True
) -> NDArray[np.void]:
    """Choices of each word, in order and without the latency.

    Parameters
    ----------
    ticks : (words,) array of `TICKS`
    draws : (words, 4) integers
        16-bit draws of the slots of each word.
    thresholds : sequence of 7 int
        In any order; a threshold above 4095 is never reached.
    enable : bool
        The station draws choices.

    Returns
    -------
    (words, 4) array of `CHOICES`
    """
    draw = np.asarray(draws, np.uint16)
    result = np.zeros((len(ticks), SLOTS_PER_WORD), CHOICES)
    quantum = (ticks["running"] == 1) & (ticks["segment"] == QUANTUM)
    for name in ("setting", "phase"):
        result[name][~quantum] = ticks[name][~quantum, np.newaxis]
    if enable:
        reached = (draw >> PHASE_BITS)[..., np.newaxis] >= np.asarray(thresholds)
        result["setting"][quantum] = reached.sum(axis=-1)[quantum]
        result["phase"][quantum] = (draw & (PHASES - 1))[quantum]
        result["drawn"][quantum] = 1
    return result
