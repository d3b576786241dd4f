"""Golden model of `frames.FrameRecords`."""

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RECORDS, RecordKind

__all__ = ["frame_records"]


def frame_records(
    running: NDArray[np.bool_],
    last: NDArray[np.bool_],
    frame: NDArray[np.int64],
    clicks: NDArray[np.int64],
    successes: NDArray[np.int64],
) -> list[tuple[int, int]]:
    """Records of the frames that end.

    All parameters have one entry per word: word of a run, last word of its frame, frame number, clicks and successes.
    Returns (last word, record) of each frame.
    """
    records = []
    record = RECORDS[RecordKind.FRAME]
    first = 0
    for word in np.flatnonzero(~running | last).tolist():
        if running[word]:
            of_frame = slice(first, word + 1)
            values = {
                "frame": int(frame[word]),
                "clicks": min(int(clicks[of_frame].sum()), 0xFFFF),
                "successes": min(int(successes[of_frame].sum()), 0xFFF),
                "flags": 0,
            }
            records.append((word, record.pack(values)))
        first = word + 1
    return records
