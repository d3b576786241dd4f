"""Takes records from all stations while a run goes on, and keeps account of every one that is missing."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from .board import Board
from .config import STATIONS, RunConfig
from .errors import LinkError, RunError, RunFolderError
from .protocol.records import RecordKind
from .protocol.registers import DETECTORS
from .protocol.status import Alarm
from .protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD
from .record_arrays import RecordArray, pack_records
from .run_folder import RunFolder
from .sifting import Announcements
from .station_entropy import KeySpan, key_spans

__all__ = ["Collector"]

_DRAIN_LIMIT_S = 10.0


class AnnouncementSink(Protocol):
    """Takes announcements as they come in, such as a `qrelay.live_tally.LiveTally`."""

    def add(self, announcements: Announcements) -> None:
        """Take new announcements."""


class Collector:
    """Spools records to the run folder and hands announcements to the live tally.

    `accounting` holds, per station and kind, how many records the station put in packets, how many are recorded, how
    many were lost on the wire or could not be recorded on a full disk, and how many the station dropped; `unaccounted`
    is what is missing in this sum. `not_accounted` holds the stations that did not answer for it any more.
    """

    def __init__(
        self,
        boards: Mapping[str, Board],
        folder: RunFolder,
        config: RunConfig,
        first_slot: int,
        sink: AnnouncementSink,
        key_spans: Mapping[str, list[KeySpan]] | None = None,
    ) -> None:
        self._boards = boards
        self._folder = folder
        self._sink = sink
        self._key_spans = key_spans or {}
        self._first_slot = first_slot
        self._sampling = config.events.clicks == "sample"
        self._sample = config.events.click_sample
        self._clicks = 0
        self._received = {name: [0] * len(RecordKind) for name in boards}
        self._not_recorded = {name: [0] * len(RecordKind) for name in boards}
        # Records are taken in a thread of its own: an interrupt of whoever waits for it does not part a block from its
        # account, and whoever comes after it queues behind.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        self.unrecorded_slot: int | None = None
        """First slot of which the disk did not take an announcement; None if it took all."""
        self.click_fines = np.zeros((DETECTORS, FINES_PER_SLOT), np.int64)
        """Recorded clicks [detector, fine]."""
        self.accounting: dict[str, dict[str, Any]] = {}
        self.not_accounted: dict[str, dict[str, Any]] = {}
        """By station: why its account could not be closed, and how many records of each kind are recorded."""
        self.alarms: dict[str, list[str]] = {}

    def drain(self) -> None:
        """Take what has arrived. Raises LinkClosed if a station is lost, RunFolderError if the disk is full."""
        self.take_what_is_here()
        for station, board in self._boards.items():
            if board.link.failure is not None:
                raise LinkError(f"station {station} is lost: {board.link.failure}; what was taken before is kept")
        if self._sampling and self._clicks >= self._sample:
            self._end_sampling(self._boards["receiver"])

    def arrived(self, station: str, kind: RecordKind) -> bool:
        """All records of a kind that the station had made when asked have arrived, those lost on the link apart."""
        events = self._boards[station].read_group("events")
        self._take(station, kind)
        lost = self._lost(station, kind) + self._not_recorded[station][kind]
        if kind == RecordKind.KEY and (lost or events["dropped_key"]):
            raise RunError(
                f"station {station}: a key record was lost; which key drew the slots since is not known, and what was "
                "answered before is kept"
            )
        missing = (events[f"sent_{kind.name.lower()}"] - self._received[station][kind] - lost) % (1 << 32)
        # Records of after the question may be here already.
        return not events[f"fill_{kind.name.lower()}"] and (missing == 0 or missing >= 1 << 31)

    def receiver_slot(self) -> int:
        """The receiver's slot counter."""
        return self._boards["receiver"].read("timebase.slot_now")

    def _lost(self, station: str, kind: RecordKind) -> int:
        statistics = self._boards[station].statistics
        return statistics.lost_records[kind] + statistics.discarded_records[kind]

    def _take(self, station: str, kind: RecordKind) -> None:
        self._thread.submit(self._take_here, station, kind).result()

    def _take_here(self, station: str, kind: RecordKind) -> None:
        records = self._boards[station].take(kind)
        if len(records):
            self._keep(station, kind, records)

    def _end_sampling(self, receiver: Board) -> None:
        """Stop click records. Clicks dropped meanwhile are no fault: an alarm that only they raised is cleared."""
        self._sampling = False
        receiver.write("events.enable_click", 0)
        events = receiver.read_group("events")
        dropped = {kind.name.lower(): events[f"dropped_{kind.name.lower()}"] for kind in RecordKind}
        self._folder.log("click sample ended", clicks=self._clicks, wanted=self._sample, dropped=dropped)
        if not any(count for kind, count in dropped.items() if kind != "click"):
            receiver.write("system.alarms", Alarm.RECORDS_DROPPED)

    def drain_to_the_end(self) -> None:
        """Take the rest after the stations have stopped, and close the account of each that still answers.

        Raises LinkError naming those that do not answer, RunFolderError if the disk is full, once all is done that can
        be done.
        """
        if self._sampling:
            # The run was too short for the sample: clicks that found the queue full are still no fault.
            with suppress(LinkError):
                self._end_sampling(self._boards["receiver"])
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        disk: RunFolderError | None = None
        while True:
            for station in self._boards:
                for kind in RecordKind:
                    try:
                        self._take(station, kind)
                    except RunFolderError as error:
                        disk = error
                if station not in self.not_accounted and not self._close_account(station):
                    # Waiting for its answer must not take the time of the others.
                    deadline = time.monotonic() + _DRAIN_LIMIT_S
            if time.monotonic() > deadline or not any(
                entry["unaccounted"] or entry["waiting"]
                for kinds in self.accounting.values()
                for entry in kinds.values()
            ):
                break
            time.sleep(0.02)
        for station, entry in self.not_accounted.items():
            entry["received"] = {kind.name.lower(): self._received[station][kind] for kind in RecordKind}
        if disk is not None:
            raise disk
        if self.not_accounted:
            raise LinkError(
                "; ".join(f"station {name} is lost: {entry['reason']}" for name, entry in self.not_accounted.items())
                + "; its records are not accounted for, what was taken before is kept"
            )

    def take_what_is_here(self) -> None:
        """Record what the host has received already, without asking a station. Raises RunFolderError."""
        self._thread.submit(self._take_all_here).result()

    def _take_all_here(self) -> None:
        for station in self._boards:
            for kind in RecordKind:
                self._take_here(station, kind)

    def _keep(self, station: str, kind: RecordKind, records: RecordArray) -> None:
        try:
            self._folder.spool.append(STATIONS.index(station), kind, pack_records(records, kind))
        except RunFolderError:
            self._not_recorded[station][kind] += len(records)
            if kind == RecordKind.SUCCESS:
                slot = int(records["slot"].min())
                self.unrecorded_slot = slot if self.unrecorded_slot is None else min(slot, self.unrecorded_slot)
            raise
        self._received[station][kind] += len(records)
        if kind == RecordKind.SUCCESS:
            part = Announcements(records["slot"].copy(), records["outcome"].copy())
            self._sink.add(part.between(self._first_slot, 1 << 48))
        elif kind == RecordKind.KEY and station in self._key_spans:
            spans = key_spans(records)
            self._key_spans[station] += spans
            for span in spans:
                self._folder.log("key", station=station, slot=span.first_slot, place=span.place, number=span.number)
        elif kind == RecordKind.CLICK:
            self._clicks += len(records)
            np.add.at(self.click_fines, (records["detector"], records["fine"]), 1)
        elif kind == RecordKind.GAP:
            for gap in records:
                name = RecordKind(int(gap["kind"])).name.lower() if int(gap["kind"]) in set(RecordKind) else "unknown"
                slot = int(gap["first_slot_hi"]) << 16
                self._folder.log("gap", station=station, kind=name, dropped=int(gap["dropped"]), near_slot=slot)
        elif kind == RecordKind.STATUS:
            for status in records:
                self._folder.log(
                    "status",
                    station=station,
                    slot=int(status["slot_word"]) * SLOTS_PER_WORD,
                    alarms=Alarm(int(status["alarms"])).names(),
                    state=int(status["state"]),
                )

    def _close_account(self, station: str) -> bool:
        """Bring the account of a station up to date; False if it does not answer."""
        board, received = self._boards[station], self._received[station]
        try:
            events = board.read_group("events")
            self.alarms[station] = board.alarms().names()
        except LinkError as error:
            # What the station sent is not known: an account of earlier would be a wrong one.
            self.accounting.pop(station, None)
            self.not_accounted[station] = {"reason": str(error)}
            return False
        kinds = {}
        for kind in RecordKind:
            name = kind.name.lower()
            sent, lost = events[f"sent_{name}"], self._lost(station, kind)
            unrecorded = self._not_recorded[station][kind]
            kinds[name] = {
                "sent": sent,
                "received": received[kind],
                "lost_on_link": lost,
                "not_recorded": unrecorded,
                "dropped_by_station": events[f"dropped_{name}"],
                "waiting": events[f"fill_{name}"],
                "unaccounted": (sent - received[kind] - lost - unrecorded) % (1 << 32),
            }
        self.accounting[station] = kinds
        return True
