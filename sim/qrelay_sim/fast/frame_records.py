"""Frame records as a receiver sends them."""

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RecordKind
from qrelay.record_arrays import DTYPES, pack_records

__all__ = ["frame_words"]

Integers = NDArray[np.int64]
_CLICKS_LIMIT = (1 << 16) - 1
_SUCCESSES_LIMIT = (1 << 12) - 1


def frame_words(frames: Integers, clicks: Integers, successes: Integers) -> NDArray[np.uint64]:
    """Records of frames with their clicks and successes, which saturate; the frame number wraps."""
    records = np.zeros(len(frames), DTYPES[RecordKind.FRAME])
    records["frame"] = frames & 0xFFFF_FFFF
    records["clicks"] = np.minimum(clicks, _CLICKS_LIMIT)
    records["successes"] = np.minimum(successes, _SUCCESSES_LIMIT)
    return pack_records(records, RecordKind.FRAME)
