"""What `qrelay histogram` does."""

import time
from collections.abc import Sequence
from typing import Literal, cast

import numpy as np

from .board import Board
from .errors import ConfigError
from .free_run import start_free_run
from .histograms import HistogramsTaken, disable, enable, take
from .json_output import print_json
from .protocol.registers import LAG_SLOTS
from .protocol.status import State

__all__ = ["take_histograms"]

_SHOWN_LAGS = 4
_FINES_PER_ROW = 16


def take_histograms(url: str, *, seconds: float, fine: str, lag: Sequence[int], as_json: bool) -> int:
    """Take a station's histograms for some seconds and print them; return the exit code.

    A station that is armed or running goes on undisturbed. Another one is started by command meanwhile, and disarmed
    afterwards.
    """
    if fine not in ("off", "hits", "clicks"):
        raise ConfigError(f"--fine {fine}: give off, hits or clicks")
    if len(lag) not in (0, 2):
        raise ConfigError(f"--lag: {len(lag)} detectors given; give it twice, for a and b, or not at all")
    with Board.open(url) as board:
        enable(board, fine=cast(Literal["off", "hits", "clicks"], fine), lag=(lag[0], lag[1]) if lag else None)
        own_run = not board.state() & (State.ARMED | State.RUNNING)
        try:
            if own_run:
                start_free_run(board)
            take(board)  # what was counted before
            time.sleep(seconds)
            taken = take(board)
        finally:
            disable(board)
            if own_run:
                board.disarm()
    if as_json:
        print_json({"url": url, "fine": fine, "lag": list(lag), **taken.to_json()})
        return 0
    print(f"{taken.words} words of run, {taken.counted_words} of them count")
    if fine != "off":
        _print_fine(taken)
    if lag:
        _print_lag(taken)
    return 0


def _print_fine(taken: HistogramsTaken) -> None:
    for detector, counts in enumerate(taken.fine_counts):
        rows = counts.reshape(-1, _FINES_PER_ROW).sum(axis=1)
        print(f"detector {detector}: {counts.sum()} in all; by {_FINES_PER_ROW} fines: {' '.join(map(str, rows))}")
    if taken.lost_fine:
        print(f"hits not counted by fine (too many at once): {taken.lost_fine}")


def _print_lag(taken: HistogramsTaken) -> None:
    g2, error = taken.g2()
    if np.isnan(g2).any():
        print("no pairs: a detector had no click")
        return
    for lag in range(-_SHOWN_LAGS, _SHOWN_LAGS + 1):
        at = LAG_SLOTS + lag
        print(f"lag {lag:+d}: {taken.lag_counts[at]} pairs, g2 {g2[at]:.4f} +- {error[at]:.4f}")
    if taken.lost_a or taken.lost_b:
        print(f"clicks in no pair (too many at once): {taken.lost_a} of a, {taken.lost_b} of b")
