"""Histograms taken on a station: hits by their place in the slot, pairs of clicks by their distance (g2)."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .board import Board
from .errors import ConfigError, RunError
from .protocol.registers import DETECTORS, FINE_SOURCES, LAG_SLOTS
from .protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

__all__ = ["LONGEST_S", "Histograms", "HistogramsTaken", "disable", "enable", "take"]

LONGEST_S = 10.0
"""Well below the 56 s after which a bin of 32 bits may overflow: it counts one hit per word at most."""
_WAIT_S = 5.0
_SUMS = ("words", "counted_words", "live_slots", "clicks_a", "clicks_b", "lost_a", "lost_b", "lost_fine")


@dataclass(frozen=True)
class HistogramsTaken:
    """What a station counted between two swaps, or several such added up.

    `fine_counts` is int64[detector, fine], in 1/256 slot. `lag_counts` is int64[1025]: pairs of a click of detector a
    and one of b by lag = slot(b) - slot(a), from -512 to 512; all pairs, not only neighbours; at lag 0 of a detector
    with itself, every click. Both are of `words` words of the run, of which clicks counted in `counted_words`;
    `live_slots` of the slots in these had all detectors of the rule live. `lost_a` and `lost_b` clicks are in no pair
    and not in `clicks_a` and `clicks_b`. `lost_fine` hits are not in `fine_counts`.
    """

    fine_counts: NDArray[np.int64]
    lag_counts: NDArray[np.int64]
    words: int
    counted_words: int
    live_slots: int
    clicks_a: int
    clicks_b: int
    lost_a: int
    lost_b: int
    lost_fine: int

    @property
    def lags(self) -> NDArray[np.int64]:
        """Lag of each entry of `lag_counts`, in slots."""
        return np.arange(-LAG_SLOTS, LAG_SLOTS + 1)

    def g2(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pairs over those expected of independent clicks, by lag, and its standard error (Poisson).

        Expected are clicks_a clicks_b / slots at every lag: blanked segments, whose border cuts pairs, lower the result
        at long lags; so do lost clicks, which come from dense places. The error of a lag without pairs is that of one
        pair. NaN without clicks.
        """
        slots = SLOTS_PER_WORD * self.counted_words
        expected = self.clicks_a * self.clicks_b / slots if slots else 0.0
        if not expected:
            nothing = np.full(len(self.lag_counts), np.nan)
            return nothing, nothing.copy()
        return self.lag_counts / expected, np.sqrt(np.maximum(self.lag_counts, 1)) / expected

    def __add__(self, other: "HistogramsTaken") -> "HistogramsTaken":
        return replace(
            self,
            fine_counts=self.fine_counts + other.fine_counts,
            lag_counts=self.lag_counts + other.lag_counts,
            **{name: getattr(self, name) + getattr(other, name) for name in _SUMS},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists, g2 with them where there are pairs."""
        g2, error = self.g2()
        values = {
            name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in asdict(self).items()
        }
        there = not np.isnan(g2).any()
        return values | {"g2": g2.tolist() if there else None, "g2_std": error.tolist() if there else None}


def enable(board: Board, *, fine: Literal["off", "hits", "clicks"] = "off", lag: tuple[int, int] | None = None) -> None:
    """Count hits by fine, pairs of clicks of detectors `lag` = (a, b) by lag, or both; without an argument nothing.

    Arming a station clears what was counted; returns when it can. Raises ConfigError for a detector that is not there.
    """
    for detector in lag or ():
        if not 0 <= detector < min(DETECTORS, board.identity.detectors):
            raise ConfigError(
                f"histograms.lag: no detector {detector}; {board.identity.board} has 0 to "
                f"{board.identity.detectors - 1}"
            )
    a, b = lag or (0, 0)
    board.write_many(
        {
            "histograms.enable_fine": int(fine != "off"),
            "histograms.fine_source": FINE_SOURCES.index(fine) if fine != "off" else 0,
            "histograms.enable_lag": int(lag is not None),
            "histograms.lag_a": a,
            "histograms.lag_b": b,
        }
    )
    _wait(board)


def disable(board: Board) -> None:
    """Count nothing any more; what was counted can still be taken."""
    board.write_many({"histograms.enable_fine": 0, "histograms.enable_lag": 0})


def _wait(board: Board) -> None:
    end = time.monotonic() + _WAIT_S
    while board.read("histograms.busy"):
        if time.monotonic() > end:
            raise RunError(f"{board.url}: histograms.busy stays 1 for {_WAIT_S:g} s; is its clock there?")


def _swap(board: Board) -> None:
    """Swap, but not twice: the second swap would put what was counted out of reach."""
    swaps = board.read("histograms.swaps")

    def swapped() -> bool:
        _wait(board)
        return board.read("histograms.swaps") != swaps

    board.strobe_once("histograms.swap", swapped)
    _wait(board)


def take(board: Board) -> HistogramsTaken:
    """Swap, and read what was counted since the swap or clear before; counting goes on meanwhile."""
    _wait(board)
    _swap(board)
    sums = board.read_group("histograms")
    fine = np.array(board.read_table("fine_counts"), np.int64).reshape(DETECTORS, FINES_PER_SLOT)
    lag = np.array(board.read_table("lag_counts"), np.int64)
    before, after = lag[:LAG_SLOTS], lag[LAG_SLOTS:]
    return HistogramsTaken(
        fine_counts=fine,
        lag_counts=np.concatenate((before[::-1], [sums["coincidences"]], after)),
        **{name: sums[name] for name in _SUMS},
    )


class Histograms:
    """Sums of all that a station counts in a run, taken often enough that no bin overflows."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._taken_at = time.monotonic()
        self.total: HistogramsTaken | None = None

    def keep_up(self) -> None:
        """Take what was counted if it is time."""
        if time.monotonic() - self._taken_at > LONGEST_S / 2:
            self.take()

    def take(self) -> HistogramsTaken:
        """Take what was counted; returns the sum of all."""
        self._taken_at = time.monotonic()
        part = take(self._board)
        self.total = part if self.total is None else self.total + part
        return self.total
