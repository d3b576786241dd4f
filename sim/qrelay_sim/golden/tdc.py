"""Golden models of `tdc_encoder.TdcEncoder`, of the tables of `tdc_calibration` and of `tdc_channel.TdcChannel`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.tdc import CODE_BITS, GROUP_TAPS, HISTOGRAM_BITS, SLOTS_PER_CAPTURE
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

__all__ = ["ChannelWords", "TapHits", "calibrated", "channel_words", "encode", "histogram"]


@dataclass(frozen=True)
class TapHits:
    """Hits by capture; `code` is 0 where not `valid`, `extra` counts further edges of the capture."""

    valid: NDArray[np.bool_]
    code: NDArray[np.int64]
    extra: NDArray[np.int64]


def encode(
    taps: NDArray[np.bool_],
    *,
    invert: bool = False,
    high_from: int = 1,
    low_from: int | None = None,
    last_level: bool = True,
) -> TapHits:
    """Hits of captured taps.

    Parameters
    ----------
    taps : bool[captures, taps]
        Tap 0 is the newest.
    invert : bool
        Falling edges are hits.
    high_from, low_from : int
        Groups of eight taps from these on take the level of the capture before, if that was high or low; `low_from`
        None: no group does.
    last_level : bool
        Level before the first capture, after the polarity; true after reset.
    """
    counts = (taps ^ invert).reshape(len(taps), -1, GROUP_TAPS).sum(axis=2)
    majority = counts >= GROUP_TAPS // 2
    groups = np.arange(counts.shape[1])
    before = np.concatenate(([last_level], majority[:-1, 0]))[:, np.newaxis]
    none_low = groups < (len(groups) if low_from is None else low_from)
    high = np.where(before, majority | (groups >= high_from), majority & none_low)
    beyond = np.ones((len(taps), 1), bool)
    edges = high & np.hstack((beyond, high[:, :-1])) & ~np.hstack((high[:, 1:], beyond))
    valid = edges.any(axis=1)
    oldest = len(groups) - 1 - edges[:, ::-1].argmax(axis=1)
    rows = np.arange(len(taps))
    inside = counts[rows, oldest]
    # An older group that is forced low may have more than three ones: the encoder takes their two lowest bits.
    outside = counts[rows, np.minimum(oldest + 1, len(groups) - 1)] % (GROUP_TAPS // 2)
    code = GROUP_TAPS * oldest + inside - GROUP_TAPS // 2 + outside
    return TapHits(valid, np.where(valid, code, 0), np.where(valid, edges.sum(axis=1) - 1, 0))


def calibrated(codes: NDArray[np.int64], table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Time of each code in fines after the capture before, 0 to 511."""
    return table[codes]


def histogram(valid: NDArray[np.bool_], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts by code, modulo 2^32."""
    return np.bincount(codes[valid], minlength=1 << CODE_BITS) % (1 << HISTOGRAM_BITS)


@dataclass(frozen=True)
class ChannelWords:
    """What a channel gives by slot, by capture and by word; fines and codes are 0 where there is no hit."""

    valid: NDArray[np.bool_]
    fine: NDArray[np.uint8]
    extra: NDArray[np.int64]
    first: NDArray[np.bool_]
    first_code: NDArray[np.int64]
    """The first hit of a word."""


def channel_words(hits: TapHits, table: NDArray[np.int64]) -> ChannelWords:
    """Slots and words of consecutive captures, an even number of them: the first shows slots 0 and 1 of a word."""
    time = calibrated(hits.code, table)
    slots = np.arange(SLOTS_PER_CAPTURE) == time[:, np.newaxis] // FINES_PER_SLOT
    valid = (slots & hits.valid[:, np.newaxis]).ravel()
    fine = np.repeat(time % FINES_PER_SLOT, SLOTS_PER_CAPTURE)
    by_word = hits.valid.reshape(-1, SLOTS_PER_WORD // SLOTS_PER_CAPTURE)
    codes = hits.code.reshape(by_word.shape)
    first_code = codes[np.arange(len(codes)), by_word.argmax(axis=1)]
    first: NDArray[np.bool_] = np.asarray(by_word.any(axis=1))
    return ChannelWords(valid, np.where(valid, fine, 0).astype(np.uint8), hits.extra, first, first_code)
