"""Sifting in a run whose senders keep their keys: announcements, draws of exactly those slots, erasure of old keys."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from .board_sender import BoardSender
from .collector import Collector
from .errors import LinkError, RunError
from .live_tally import LiveTally
from .protocol.records import RecordKind
from .run_folder import RunFolder
from .sifting import Announcements

__all__ = ["BoardSifting"]

_PIECE = 4096
"""Announcements that are asked for at a time: a lost link costs no more."""
_IN_FLIGHT_SLOTS = 1 << 14
"""Slots that a click takes at most from the receiver's slot counter to its queue, with much to spare."""
_FINISH_LIMIT_S = 20.0


class BoardSifting:
    """Holds announcements until the senders that keep their keys have answered for them, then passes them on.

    A key is erased when a later one is in use and no announcement of its slots can still come: a success of a later
    slot has arrived, or the receiver's queue is empty and its slot counter is past. Where all places are taken the
    station makes no key and goes on with the one in use, and says so by an alarm.
    """

    def __init__(self, senders: Sequence[BoardSender], folder: RunFolder, tally: LiveTally) -> None:
        self.senders = list(senders)
        self._folder = folder
        self._tally = tally
        # Each sender has a link of its own and answers meanwhile. One thread for each: whoever comes after an interrupt
        # queues behind what is still being asked there.
        self._threads = [ThreadPoolExecutor(max_workers=1, thread_name_prefix="draws") for _ in self.senders]
        self._pending: list[Announcements] = []
        self._last_slot = 0
        """All announcements before it are answered."""
        self._finished = False

    def add(self, announcements: Announcements) -> None:
        """Take new announcements."""
        if not self.senders:
            self._tally.add(announcements)
        elif len(announcements):
            self._pending.append(announcements)

    @property
    def end_slot(self) -> int | None:
        """Slot from which on draws are missing; None if there are none missing."""
        ends = [sender.stopped_slot for sender in self.senders if sender.stopped_slot is not None]
        ends += [int(part.slots.min()) for part in self._pending]
        return min(ends, default=None)

    def proceed(self, collector: Collector, *, audit_over: bool = False) -> bool:
        """Answer what was announced before this call, and let old keys go; False where a key record is to come yet.

        Raises RunError if choices of a sender have stopped, or a key record was lost; LinkError if a station is lost.
        """
        if not self.senders:
            return True
        # Announcements first: the key records and alarms that are read below then cover all their slots.
        count = len(self._pending)
        for sender in self.senders:
            if not collector.arrived(sender.name, RecordKind.KEY):
                return False
            sender.check()
        self._answer(count)
        if audit_over:
            for sender, thread in zip(self.senders, self._threads, strict=True):
                thread.submit(sender.answer_audit).result()
        if stopped := [sender for sender in self.senders if sender.stopped_slot is not None]:
            raise RunError("; ".join(sender.why_stopped() for sender in stopped))
        self._retire(collector)
        return True

    def finish(self, collector: Collector, *, audit_over: bool) -> None:
        """Answer what is left after all records were taken. A stop of choices is no error any more.

        Raises RunError if some announcements are not answered after a while.
        """
        deadline = time.monotonic() + _FINISH_LIMIT_S
        while True:
            try:
                done = self.proceed(collector, audit_over=audit_over)
            except RunError:
                if not any(sender.stopped_slot is not None for sender in self.senders):
                    raise
                done = True
            if (done and not self._pending) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        for sender in self.senders:
            sender.health()
        if not done or self._pending:
            raise RunError(
                f"{sum(map(len, self._pending))} announcements are not answered after {_FINISH_LIMIT_S:g} s"
                + ("" if done else ": a key record did not arrive")
            )
        self._finished = True

    @property
    def all_answered(self) -> bool:
        """Sifting has ended: `finish` came to its end, and every announcement that can be answered is."""
        return self._finished and not self._pending

    def end(self) -> None:
        """Erase all keys if sifting has ended. If it has not, all stay on their boards: only they can tell the rest."""
        if self.all_answered:
            self.erase()
        else:
            self.abandon()

    def abandon(self) -> None:
        """Leave the keys on their boards, unless sifting has ended."""
        if self.all_answered:
            return
        count = sum(map(len, self._pending))
        why = f"{count} announcements are not answered" if count else "sifting did not come to its end"
        for sender in self.senders:
            self._keep(sender, why)

    def erase(self) -> None:
        """Tell every sender that sifting ended; the keys of one that is lost stay until its next run."""
        for sender, thread in zip(self.senders, self._threads, strict=True):
            try:
                thread.submit(sender.erase_all).result()
                self._folder.log("all keys erased", station=sender.name)
            except (LinkError, RunError) as error:
                self._keep(sender, str(error))

    def _keep(self, sender: BoardSender, why: str) -> None:
        sender.kept = f"{why}; the next run in which this station makes its own keys erases them"
        self._folder.log("keys not erased", station=sender.name, message=sender.kept)

    def _answer(self, count: int) -> None:
        announced = Announcements.joined(self._pending[:count]).ordered()
        later = self._pending[count:]
        stops = [sender.stopped_slot for sender in self.senders if sender.stopped_slot is not None]
        if stops:
            announced = announced.between(0, min(stops))
        self._pending = [announced, *later] if len(announced) else later
        while len(announced):
            piece = Announcements(announced.slots[:_PIECE], announced.outcomes[:_PIECE])
            announced = Announcements(announced.slots[_PIECE:], announced.outcomes[_PIECE:])
            self._ask(piece)
            self._pending = [announced, *later] if len(announced) else later
            self._last_slot = max(self._last_slot, int(piece.slots[-1]))
            self._tally.add(piece)

    def _ask(self, piece: Announcements) -> None:
        """Ask all senders at once; where one is lost, the others have ended when this returns."""
        answers: list[Future[None]] = []
        try:
            for sender, thread in zip(self.senders, self._threads, strict=True):
                answers.append(thread.submit(sender.answer, piece.slots))
            for answer in answers:
                answer.result()
        finally:
            wait(answers)

    def _retire(self, collector: Collector) -> None:
        ends = [end for sender in self.senders if (end := sender.retirable()) is not None]
        if not ends:
            return
        horizon = self._last_slot
        if horizon < max(ends):
            past = collector.receiver_slot() - _IN_FLIGHT_SLOTS
            if collector.arrived("receiver", RecordKind.SUCCESS) and not self._pending:
                horizon = max(horizon, past)
        for sender in self.senders:
            for span in sender.retire(horizon):
                self._folder.log("key erased", station=sender.name, **{k: int(v) for k, v in vars(span).items()})
