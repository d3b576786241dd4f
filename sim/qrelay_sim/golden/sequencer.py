"""Golden model of the frame sequencer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay.protocol.registers import SEGMENT_KINDS

__all__ = ["QUANTUM", "TICKS", "ticks"]

QUANTUM = SEGMENT_KINDS.index("quantum")
_IDLE = SEGMENT_KINDS.index("idle")

TICKS = np.dtype(
    [
        ("running", "u1"),
        ("slot_word", "u8"),
        ("segment", "u1"),
        ("setting", "u1"),
        ("phase", "u1"),
        ("frame", "u4"),
        ("frame_last", "u1"),
    ]
)
"""What a word is: the fields of the gateware's Tick."""


def ticks(
    word: ArrayLike,
    segments: Sequence[tuple[int, int]],
    steps: Sequence[tuple[int, int]],
    step_words: int,
    start_word: int = 0,
) -> NDArray[np.void]:
    """Ticks of words `word` of a run, counted from its first word; words below 0 are outside the run.

    Parameters
    ----------
    word : (n,) integers
        Words since the start of the run, in any order.
    segments : sequence of (kind, length in words)
        The frame. A length of 0 acts as 1.
    steps : sequence of (setting, phase)
        Step list of segments that are not quantum.
    step_words : int
        Duration of a step; 0 acts as 1.
    start_word : int
        Slot index / 4 of word 0.
    """
    word = np.asarray(word, np.int64)
    kinds = np.array([kind for kind, _ in segments], np.uint8)
    ends = np.cumsum([max(length, 1) for _, length in segments])
    frame_words = int(ends[-1])
    in_frame = word % frame_words
    segment = np.searchsorted(ends, in_frame, side="right")
    in_segment = in_frame - np.concatenate(([0], ends[:-1]))[segment]
    step = np.array(steps, np.uint8)[in_segment // max(step_words, 1) % len(steps)]

    result = np.zeros(len(word), TICKS)
    result["running"] = 1
    result["slot_word"] = (start_word + word) % (1 << 46)
    result["segment"] = kinds[segment]
    listed = result["segment"] != QUANTUM
    result["setting"][listed] = step[listed, 0]
    result["phase"][listed] = step[listed, 1]
    result["frame"] = word // frame_words % (1 << 32)
    result["frame_last"] = in_frame == frame_words - 1
    outside = np.zeros((), TICKS)
    outside["segment"] = _IDLE
    result[word < 0] = outside
    return result
