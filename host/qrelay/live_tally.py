"""Sifted bits and errors while a run goes on."""

import math
import time
from collections import deque
from dataclasses import dataclass

from .config import RunConfig
from .fringes import Fringes
from .sifting import Announcements, DrawsChoices, draw_choices

__all__ = ["LiveTally", "Progress", "ratio_std"]


@dataclass(frozen=True)
class Progress:
    """What a live view shows; rates are per second of wall time, over the last seconds."""

    slots: int
    slots_total: int
    slots_per_second: float
    clicks_per_second: float
    successes: int
    successes_per_second: float
    sifted: int
    errors: int
    qber: float
    qber_std: float
    phase_offset: int | None
    """With which bits are sifted, in 1/16 turn; None, and no QBER, where it is to be found and is not known yet."""


class LiveTally:
    """Adds up as announcements come in."""

    _WINDOW_S = 5.0

    def __init__(self, config: RunConfig, alice: DrawsChoices, bob: DrawsChoices) -> None:
        self._config = config
        self._alice, self._bob = alice, bob
        self._sifts = config.receiver.success_rule == "one-per-node"
        self._fringes = Fringes.none()
        self.successes = 0
        self._history: deque[tuple[float, int, int, int]] = deque()

    def add(self, announcements: Announcements) -> None:
        """Count new announcements."""
        if not self._sifts or len(announcements) == 0:
            self.successes += len(announcements)
            return
        chosen = draw_choices(announcements, self._alice, self._bob)
        self.count(len(announcements), Fringes.of(self._config, announcements.outcomes, chosen))

    def count(self, successes: int, fringes: Fringes) -> None:
        """Add what was counted elsewhere."""
        self.successes += successes
        self._fringes.add(fringes)

    def progress(self, slots: int, clicks: int) -> Progress:
        """Present state, given the slots done and the clicks counted so far."""
        now = time.monotonic()
        self._history.append((now, slots, clicks, self.successes))
        while len(self._history) > 2 and now - self._history[0][0] > self._WINDOW_S:
            self._history.popleft()
        then, slots_then, clicks_then, successes_then = self._history[0]
        span = max(now - then, 1e-9) if len(self._history) > 1 else math.inf
        sifting = self._config.sifting
        offset, known = sifting.phase_offset, True
        if not isinstance(offset, int):
            offset, known = self._fringes.offset(invert=sifting.invert), self._fringes.shows_offset()
        sifted, errors = self._fringes.sifted_and_errors(offset, invert=sifting.invert)
        measured = known and sifted > 0
        return Progress(
            slots,
            self._config.slots,
            (slots - slots_then) / span,
            (clicks - clicks_then) / span,
            self.successes,
            (self.successes - successes_then) / span,
            sifted,
            errors,
            errors / sifted if measured else math.nan,
            ratio_std(errors, sifted) if measured else math.nan,
            offset if known else None,
        )


def ratio_std(part: int, whole: int) -> float:
    """Standard error of ``part / whole`` that is not 0 where `part` is: with 0 errors in n bits it is about 1 / n.

    Standard deviation of the posterior of a probability of which nothing was known before (T. Ullrich and Z. Xu,
    Treatment of errors in efficiency calculations, 2003, arXiv:physics/0701199); far from 0 and 1 the binomial one.
    """
    mean = (part + 1) / (whole + 2)
    return math.sqrt(mean * ((part + 2) / (whole + 3) - mean))
