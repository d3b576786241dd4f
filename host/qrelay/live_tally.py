"""Sifted bits and errors while a run goes on."""

import math
import time
from collections import deque
from dataclasses import dataclass

from .config import RunConfig
from .sifting import Announcements, DrawsChoices, draw_choices, sift

__all__ = ["LiveTally", "Progress"]


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


class LiveTally:
    """Adds up as announcements come in."""

    _WINDOW_S = 5.0

    def __init__(self, config: RunConfig, alice: DrawsChoices, bob: DrawsChoices) -> None:
        self._config = config
        self._alice, self._bob = alice, bob
        self._key = config.setting_index(config.sifting.key)
        self._sifts = config.receiver.success_rule == "one-per-node"
        offset = config.sifting.phase_offset
        self._offset = offset if isinstance(offset, int) else 0
        self.successes = self.sifted = self.errors = 0
        self._history: deque[tuple[float, int, int, int]] = deque()

    def add(self, announcements: Announcements) -> None:
        """Count new announcements."""
        self.successes += len(announcements)
        if not self._sifts or len(announcements) == 0:
            return
        chosen = draw_choices(announcements, self._alice, self._bob)
        both = (chosen.setting_a == self._key) & (chosen.setting_b == self._key)
        matched = sift(
            announcements.outcomes[both],
            chosen.phase_a[both],
            chosen.phase_b[both],
            phase_offset=self._offset,
            invert=self._config.sifting.invert,
        )
        self.sifted += len(matched.index)
        self.errors += matched.errors

    def count(self, successes: int, sifted: int, errors: int) -> None:
        """Add what was counted elsewhere."""
        self.successes += successes
        self.sifted += sifted
        self.errors += errors

    def progress(self, slots: int, clicks: int) -> Progress:
        """Present state, given the slots done and the clicks counted so far."""
        now = time.monotonic()
        self._history.append((now, slots, clicks, self.successes))
        while len(self._history) > 2 and now - self._history[0][0] > self._WINDOW_S:
            self._history.popleft()
        then, slots_then, clicks_then, successes_then = self._history[0]
        span = max(now - then, 1e-9) if len(self._history) > 1 else math.inf
        qber = self.errors / self.sifted if self.sifted else math.nan
        return Progress(
            slots,
            self._config.slots,
            (slots - slots_then) / span,
            (clicks - clicks_then) / span,
            self.successes,
            (self.successes - successes_then) / span,
            self.sifted,
            self.errors,
            qber,
            math.sqrt(qber * (1 - qber) / self.sifted) if self.sifted else math.nan,
        )
