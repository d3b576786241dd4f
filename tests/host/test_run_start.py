"""Starts of runs that are refused or broken off, and what earlier runs left."""

import json
import signal
import threading
import time

import numpy as np
import pytest
from fake_station import FakeRelay
from relay_runs import go, left_on, text

from qrelay.errors import LinkClosed, RunError
from qrelay.protocol.records import RecordKind
from qrelay.protocol.status import Alarm, State
from qrelay.record_arrays import DTYPES, pack_records
from qrelay.run_folder import read_announcements


@pytest.mark.parametrize("others_run", [False, True])
def test_a_refused_start_says_why_and_leaves_no_station_on(relay, tmp_path, monkeypatch, others_run):
    begin = FakeRelay._strobe

    def refuse(self, name, strobe):
        if strobe != "system.start":
            begin(self, name, strobe)
            return
        if others_run:
            begin(self, name, strobe)
            self._state("bob", on=State.ARMED, off=State.RUNNING)
        self.stations["bob"].put("system.alarms", Alarm.START_REFUSED)
        self.stations["bob"].put("timebase.start_place", 7)

    monkeypatch.setattr(FakeRelay, "_strobe", refuse)
    monkeypatch.setattr("qrelay.run._START_LIMIT_S", 0.5)
    with pytest.raises(RunError, match=r"did not see the start pulse|start refused .start pulse seen in bin 7"):
        go(text(tmp_path))
    assert left_on(relay) == []


@pytest.mark.parametrize("moment", ["system.arm", "system.start", "audit.arm"])
def test_ctrl_c_before_the_run_has_begun_leaves_no_station_on(relay, tmp_path, monkeypatch, moment):
    """A real interrupt, while the host waits for the answer of the station."""
    begin = FakeRelay._strobe
    main, seen = threading.get_ident(), []

    def strobe(self, name, what):
        begin(self, name, what)
        if (name, what) in (("bob", moment), ("source", moment)) and not seen:
            seen.append(what)
            signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.2)

    monkeypatch.setattr(FakeRelay, "_strobe", strobe)
    with pytest.raises(KeyboardInterrupt):
        go(text(tmp_path))
    assert seen
    assert left_on(relay) == []
    (log,) = tmp_path.glob("*/log.jsonl")
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["event"], last["message"], last["not_disarmed"]) == ("abandoned", "KeyboardInterrupt", {})


def test_a_lost_station_hinders_nobody_to_disarm_the_others(relay, tmp_path, monkeypatch):
    """The first error stays the one that is told; the station that does not answer is named."""
    begin = FakeRelay._strobe

    def strobe(self, name, what):
        begin(self, name, what)
        if (name, what) == ("source", "system.start"):
            self.stations["alice"].vanish()

    monkeypatch.setattr(FakeRelay, "_strobe", strobe)
    messages = []
    with pytest.raises(LinkClosed, match="is down"):
        go(text(tmp_path), on_message=messages.append)
    assert left_on(relay) == ["alice"]
    assert any(m.startswith("warning: station alice may still be armed or running: ") for m in messages)


def test_an_error_of_the_host_in_the_run_leaves_no_station_on(relay, tmp_path):
    def fail(progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        go(text(tmp_path), on_progress=fail)
    assert left_on(relay) == []


def test_records_of_an_earlier_run_do_not_enter_this_one(relay, tmp_path, monkeypatch):
    """The host of the earlier run died, so the receiver still sends when this one opens it."""
    begin = FakeRelay._strobe
    sent = []

    def strobe(self, name, what):
        receiver = self.stations["receiver"]
        if what == "system.disarm" and not sent:
            old = np.zeros(1000, DTYPES[RecordKind.SUCCESS])
            old["slot"], old["outcome"], old["pattern"] = np.linspace(2000, 3_900_000, 1000), 1, 5
            receiver.send_records(RecordKind.SUCCESS, pack_records(old, RecordKind.SUCCESS))
            sent.append(len(old))
            time.sleep(0.05)
        if (name, what) == ("receiver", "system.arm"):
            receiver.put("events.sent_success", 0)
        begin(self, name, what)

    monkeypatch.setattr(FakeRelay, "_strobe", strobe)
    outcome = go(text(tmp_path))
    assert sent
    entry = outcome.manifest["accounting"]["receiver"]["success"]
    assert (entry["sent"], entry["unaccounted"]) == (entry["received"], 0)
    assert len(read_announcements(outcome.folder).slots) == entry["received"]
    assert abs(outcome.result["gain_sigma"]) < 4
