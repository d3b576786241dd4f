"""Times of tap codes from a code-density histogram.

Hits that are locked to nothing fall anywhere between two captures with equal probability, so the counts of a code tell
how much time it stands for (statistical code-density test; J. Kalisz, Metrologia 41, 17, 2004). What lies between the
pad and the chain is not seen by it.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .errors import CalibrationError
from .protocol.tdc import CODE_BITS, GROUP_TAPS, HISTOGRAM_BITS, SPAN_FINES, TAPS, codes_of
from .protocol.units import DEFAULT_SLOT_RATE_HZ, FINES_PER_SLOT, fines_to_ps

__all__ = ["MINIMUM_HITS", "SPARE_CODES", "WIDEST_FINES", "TdcCalibration", "calibrate"]

MINIMUM_HITS = 100_000
"""Hits that leave an rms error of 8.5 ps by statistics."""

SPARE_CODES = 2 * GROUP_TAPS
"""Codes at the end of a chain that must never occur: edges reach them only if the chain is shorter than two slots."""

WIDEST_FINES = FINES_PER_SLOT // 8
"""A code wider than this is no tap: the hits were locked to the slots."""


@dataclass(frozen=True)
class TdcCalibration:
    """What the histogram of one channel tells.

    Parameters
    ----------
    table : int64[512]
        Time of each code in fines after the capture before, 0 to 511; older edges have larger codes and earlier times.
    widths_ps : float64[last_code + 1]
        Time that each code stands for.
    dnl_lsb, inl_lsb : float64[last_code + 1]
        Differential and integral nonlinearity in units of the mean width; INL at the older border of each code.
    rms_error_ps : float
        Error of the table's times for hits anywhere: widths of codes and rounding to fines.
    effective_resolution_ps : float
        Width of equal bins with the same rms error: sqrt(12) times it.
    statistical_error_ps : float
        rms error by the finite number of hits, two slots / sqrt(6 hits): the mean variance of a Brownian bridge.
    last_code : int
        The largest code that occurred.
    high_from, low_from : int
        Groups for the encoder from which on taps show what the capture before has seen.
    """

    table: NDArray[np.int64]
    widths_ps: NDArray[np.float64]
    dnl_lsb: NDArray[np.float64]
    inl_lsb: NDArray[np.float64]
    rms_error_ps: float
    effective_resolution_ps: float
    statistical_error_ps: float
    last_code: int
    high_from: int
    low_from: int


def calibrate(
    counts: NDArray[np.int64], *, taps: int = TAPS, slot_rate_hz: Fraction = DEFAULT_SLOT_RATE_HZ
) -> TdcCalibration:
    """Calibration of a channel.

    Parameters
    ----------
    counts : int[512]
        Hits by code, taken with the encoder's settings for a chain that is not calibrated, from a source that is not
        locked to the slots.
    taps : int
        Length of the chain.

    Raises
    ------
    CalibrationError
        Too few hits, a chain that does not span two slots, or hits that are locked to the slots.
    """
    counts = np.asarray(counts, np.int64)
    if counts.shape != (1 << CODE_BITS,) or counts.min() < 0 or counts.max() >= 1 << HISTOGRAM_BITS:
        raise CalibrationError(
            f"a code-density histogram is {1 << CODE_BITS} counts of 32 bits; read it from the board"
        )
    hits = int(counts.sum())
    if hits < MINIMUM_HITS:
        raise CalibrationError(
            f"code density: {hits} hits, but {MINIMUM_HITS} are needed; check the source and count for longer"
        )
    last_code = int(np.flatnonzero(counts)[-1])
    limit = codes_of(taps) - SPARE_CODES
    if last_code >= limit:
        raise CalibrationError(
            f"code density: code {last_code} occurred, but a chain of {taps} taps that spans more than two slots stays "
            f"below {limit}; use a longer chain, and pulses and gaps longer than the chain"
        )
    used = counts[: last_code + 1]
    widths = used * SPAN_FINES / hits
    widest = int(widths.argmax())
    if widths[widest] > WIDEST_FINES:
        raise CalibrationError(
            f"code density: code {widest} took {widths[widest]:.0f} fines, but at most {WIDEST_FINES} are a tap; "
            f"select a source that is not locked to the slots"
        )
    older = SPAN_FINES - np.cumsum(widths)
    centres = older + widths / 2
    table = np.zeros(1 << CODE_BITS, np.int64)
    table[: last_code + 1] = np.clip(np.rint(centres), 0, SPAN_FINES - 1)
    variance = (widths**2 / 12 + (table[: last_code + 1] - centres) ** 2) @ widths / SPAN_FINES
    rms_error_ps = fines_to_ps(float(np.sqrt(variance)), slot_rate_hz)
    dnl = widths / widths.mean() - 1
    boundary = (last_code + GROUP_TAPS // 2) // GROUP_TAPS
    return TdcCalibration(
        table=table,
        widths_ps=widths * fines_to_ps(1, slot_rate_hz),
        dnl_lsb=dnl,
        inl_lsb=np.cumsum(dnl),
        rms_error_ps=rms_error_ps,
        effective_resolution_ps=float(np.sqrt(12)) * rms_error_ps,
        statistical_error_ps=fines_to_ps(SPAN_FINES, slot_rate_hz) / float(np.sqrt(6 * hits)),
        last_code=last_code,
        high_from=boundary,
        low_from=boundary + 1,
    )
