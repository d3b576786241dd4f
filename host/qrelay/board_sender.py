"""A sender of a run that makes its own keys: first key, reseeds, draws of announced slots, erasure."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .board import Board
from .choice_keys import BoardKey
from .choice_settings import ChoiceSettings
from .draw_store import DrawStore
from .errors import RunError
from .external_bits import ExternalBits
from .protocol.status import Alarm
from .protocol.units import SLOTS_PER_WORD
from .station_entropy import BoardChoices, KeySpan, SourceHealth, StationEntropy

__all__ = ["BoardSender"]


class BoardSender:
    """Keys and draws of one sender in one run.

    Parameters
    ----------
    name : "alice" or "bob".
    key : nonce, stream and thresholds of the run.
    store : takes the draws of announced slots.
    audit_slots : first and end slot whose draws the audit needs, or None; they are asked for apart.

    Raises RunError if the station has no noise source.
    """

    def __init__(
        self,
        name: str,
        board: Board,
        key: BoardKey,
        settings: ChoiceSettings,
        store: DrawStore,
        audit_slots: tuple[int, int] | None,
    ) -> None:
        self.name = name
        self.board = board
        self.key = key
        self.store = store
        self.spans: list[KeySpan] = []
        """Keys of the run, in order; grows as key records come in."""
        self.stopped_slot: int | None = None
        """First slot that was not drawn, once choices have stopped."""
        self.erased = False
        """All keys of the run are erased."""
        self.kept: str | None = None
        """Why keys of the run stay on the board after it, and what erases them; None if they do not."""
        self.audit_draws = DrawStore(key.thresholds)
        self._audit_slots = audit_slots
        self._audit_asked = audit_slots is None
        self._settings = settings
        self._entropy = StationEntropy(board)
        self._external = ExternalBits(board) if settings.external_key_bit else None
        self._choices = BoardChoices(self._entropy, self.spans, key.nonce, key.stream)
        self._retired = 0
        """Spans whose key is erased: always the first ones."""
        self._health: SourceHealth | None = None

    def prepare(self, log: Callable[..., None], slots: int) -> None:
        """Erase what an earlier run left, pass the start-up test, make the first key. Raises RunError if it fails.

        Where key bits come from outside, a run of so many `slots` must not be longer than they are kept.
        """
        if self._external is not None:
            self._external.check_length(slots)
        self.board.write("entropy.record", 0)
        if left := self._entropy.places():
            log("keys of an earlier run erased, its sifting did not end", station=self.name, places=left)
            self._entropy.erase(left)
        self._entropy.use_own_keys(reseed_words=self._settings.reseed_slots // SLOTS_PER_WORD)
        self._entropy.start_up(self._settings.cutoffs(), self._settings.sample_words)
        place = self._entropy.make_key()
        log("key made on board", station=self.name, place=place)

    def check(self) -> None:
        """Note where choices stopped, if they did."""
        if self.stopped_slot is None and self.board.alarms() & Alarm.CHOICES_BEFORE_KEYSTREAM:
            self.stopped_slot = self.board.read("entropy.stopped_slot")

    def why_stopped(self) -> str:
        """Why choices stopped, in words."""
        health = self.health()
        reason = (
            f"{' and '.join(health.failures)} of its noise source failed at sample {health.failed_at}"
            if health.failures
            else "external key bits were missing"
            if self._external is not None and self._external.failed()
            else "its keystream was not ready"
        )
        return f"station {self.name}: {reason}; choices stopped at slot {self.stopped_slot}, what was before is kept"

    def health(self) -> SourceHealth:
        """What the health tests have seen, kept for the manifest."""
        self._health = self._entropy.health()
        return self._health

    def answer(self, slots: NDArray[np.uint64]) -> None:
        """Ask the station for the draws of announced slots. Raises RunError where a slot's key is erased."""
        if not len(slots):
            return
        if self._retired and int(slots.min()) < self.spans[self._retired].first_slot:
            raise RunError(
                f"station {self.name}: slot {int(slots.min())} was announced after its key was erased; announcements "
                "must come in order"
            )
        self.store.add(slots, self._draws_at(slots))

    def _draws_at(self, slots: NDArray[np.uint64]) -> NDArray[np.uint16]:
        draws = self._choices.draws_at(slots)
        return draws if self._external is None else self._external.replace(slots, draws)

    def answer_audit(self) -> None:
        """Ask for the draws of the audited slots, which have passed."""
        if self._audit_asked or self._audit_slots is None:
            return
        if self.stopped_slot is not None and self.stopped_slot < self._audit_slots[1]:
            return
        slots = np.arange(*self._audit_slots, dtype=np.uint64)
        self.audit_draws.add(slots, self._draws_at(slots))
        self._audit_asked = True

    @property
    def audit_answered(self) -> bool:
        """The draws of the audited slots are known."""
        return self._audit_asked

    def retirable(self) -> int | None:
        """Slot from which on the oldest key is used no more; None if it is in use still."""
        after = self._retired + 1
        return self.spans[after].first_slot if self._audit_asked and after < len(self.spans) else None

    def retire(self, horizon: int) -> list[KeySpan]:
        """Tell the station to erase keys of which every slot lies before `horizon`; sifting of those has ended."""
        done = []
        while (end := self.retirable()) is not None and end <= horizon:
            done.append(self.spans[self._retired])
            self._retired += 1
        if done:
            # Not waited for: a station that is making a key finishes that first.
            self._entropy.erase([span.place for span in done], wait=False)
        return done

    def erase_all(self) -> None:
        """Sifting has ended: erase every key. The station is disarmed."""
        self._entropy.use_own_keys(False)
        self._entropy.erase(self._entropy.places())
        self._entropy.forget_answers()
        self.erased = True

    def reseeds_missed(self, end_slot: int) -> int:
        """Keys that were due before `end_slot` and not made: no place was free, or one was still being made."""
        if not self.spans or not self._settings.reseed_slots:
            return 0
        due = (end_slot - self.spans[0].first_slot) // self._settings.reseed_slots
        # The last one may be under way.
        return max(0, due - 1 - (len(self.spans) - 1))

    def manifest(self, file: str, end_slot: int) -> dict[str, Any]:
        """What a reader of the run wants to know of these keys; nothing of the keys themselves."""
        return {
            "source": "board",
            "key_bit": "drawn" if self._external is None else "external",
            "entropy": self.board.identity.entropy.name.lower(),
            "file": file,
            "nonce": self.key.nonce,
            "stream": self.key.stream,
            "spans": [asdict(span) for span in self.spans],
            "reseed_slots": self._settings.reseed_slots,
            "reseeds_missed": self.reseeds_missed(end_slot),
            "sample_words": self._settings.sample_words,
            "cutoffs": asdict(self._settings.cutoffs()),
            "health": None if self._health is None else asdict(self._health),
            "stopped_slot": self.stopped_slot,
            "erased": self.erased,
            "kept": self.kept,
        }
