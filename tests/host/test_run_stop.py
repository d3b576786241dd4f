"""Runs that end early: by hand, or because a station is lost."""

import json
import threading
from pathlib import Path

import pytest
from fake_station import FakeRelay
from relay_runs import go, left_on, text

from qrelay.board import Board
from qrelay.commands import run_text
from qrelay.errors import RunError
from qrelay.live_view import LiveView
from qrelay.protocol.status import Alarm, State
from qrelay.run_folder import read_announcements


def test_a_stop_by_hand_keeps_everything_taken(relay, tmp_path):
    stop = threading.Event()

    def on_progress(progress):
        if progress.slots > 4_000_000:
            stop.set()

    outcome = go(text(tmp_path, slots=10_000_000_000), stop=stop, on_progress=on_progress)
    assert outcome.trouble is None
    assert outcome.result["partial"] is True
    assert 4_000_000 < outcome.result["slots"] < 10_000_000_000
    assert outcome.result["successes"] == len(
        read_announcements(outcome.folder).between(outcome.result["first_slot"], 1 << 48)
    )
    assert abs(outcome.result["gain_sigma"]) < 4
    assert all(station.get("system.state") & 0b11 == 0 for station in relay.now.stations.values())


def test_ctrl_c_is_a_stop_by_hand(relay, tmp_path):
    def interrupt(progress):
        if progress.successes > 100:
            raise KeyboardInterrupt

    outcome = go(text(tmp_path, slots=10_000_000_000), on_progress=interrupt)
    assert outcome.result["partial"] is True
    assert outcome.result["successes"] > 100


def test_a_receiver_that_vanishes_leaves_a_consistent_partial_result(relay, tmp_path):
    def pull(progress):
        if progress.successes > 2000:
            relay.now.stations["receiver"].vanish()

    outcome = go(text(tmp_path, slots=10_000_000_000), on_progress=pull)
    assert "is down" in outcome.trouble or "is lost" in outcome.trouble
    result = outcome.result
    assert result["partial"] is True
    assert result["successes"] > 1000
    # Only announcements that the last counters cover are used: the gain is still right.
    assert abs(result["gain_sigma"]) < 4
    assert json.loads((Path(outcome.folder) / "result.json").read_text()) == result


def test_a_sender_that_vanishes_ends_the_run(relay, tmp_path, monkeypatch):
    """What the receiver has queued leaves it only after the run: it is fetched all the same."""
    begin = FakeRelay._strobe
    held = []

    def pull(progress):
        receiver = relay.now.stations["receiver"]
        if progress.successes > 500 and not held:
            relay.now.stations["alice"].vanish()
            held.append(b"")
            receiver.mangle = lambda packet: held.append(packet) or b"" if packet[1] == 0x40 else packet

    def strobe(self, name, what):
        begin(self, name, what)
        if (name, what) == ("receiver", "system.disarm") and held:
            receiver = self.stations[name]
            receiver.mangle = lambda packet: packet
            threading.Timer(0.3, lambda: [receiver.send(packet) for packet in held]).start()

    monkeypatch.setattr(FakeRelay, "_strobe", strobe)
    outcome = go(text(tmp_path, slots=10_000_000_000), on_progress=pull)
    assert len(held) > 1
    assert outcome.trouble.startswith("station alice is lost")
    assert outcome.manifest["audit"]["alice"] is None
    assert "is down" in outcome.manifest["audit_missing"]["alice"]
    assert outcome.result["successes"] > 400
    # All but Alice's account is closed, and she is named.
    manifest = outcome.manifest
    assert set(manifest["accounting"]) == {"bob", "source", "receiver"}
    account = manifest["accounting"]["receiver"]["success"]
    assert account["sent"] == account["received"] > 500
    assert account["lost_on_link"] == account["unaccounted"] == 0
    assert set(manifest["not_accounted"]) == {"alice"}
    assert "is down" in manifest["not_accounted"]["alice"]["reason"]
    assert manifest["not_accounted"]["alice"]["received"]["success"] == 0
    # The last counters cover what was fetched in the end: the gain is right.
    assert abs(outcome.result["gain_sigma"]) < 4
    assert left_on(relay) == ["alice"]


def test_a_lost_station_is_named_in_the_summary(relay, tmp_path, monkeypatch, capsys):
    def pull(progress):
        if progress.successes > 500:
            relay.now.stations["alice"].vanish()

    monkeypatch.setattr(LiveView, "update", lambda view, progress: pull(progress))
    with pytest.raises(RunError, match=r"^station alice is lost: .* \(everything taken is in "):
        run_text(text(tmp_path, slots=10_000_000_000), "test")
    assert "alice: lost, what it sent is not accounted for; 0 of its records are kept" in capsys.readouterr().out


def test_a_sender_that_answers_no_more_is_not_accounted_for(relay, tmp_path, monkeypatch):
    """Its link is up and it says nothing: the run goes on to its end, and the others lose no time by it."""
    begin = FakeRelay._strobe

    def strobe(self, name, what):
        begin(self, name, what)
        if (name, what) == ("receiver", "system.disarm") and receiver_started:
            self.stations["alice"].deaf = True

    open_board = Board.open
    receiver_started = []
    monkeypatch.setattr(Board, "open", lambda url, **_: open_board(url, timeout_s=0.1))
    monkeypatch.setattr(FakeRelay, "_strobe", strobe)
    monkeypatch.setattr("qrelay.collector._DRAIN_LIMIT_S", 0.2)
    outcome = go(text(tmp_path, slots=4_000_000), on_started=lambda: receiver_started.append(True))
    assert outcome.trouble.startswith("station alice is lost: ")
    assert "no answer to the read of " in outcome.trouble
    assert outcome.trouble.endswith("; its records are not accounted for, what was taken before is kept")
    assert set(outcome.manifest["not_accounted"]) == {"alice"}
    account = outcome.manifest["accounting"]["receiver"]["success"]
    assert account["sent"] == account["received"] > 0


def test_a_receiver_that_is_lost_leaves_the_account_of_the_others(relay, tmp_path):
    def pull(progress):
        if progress.successes > 500:
            relay.now.stations["receiver"].vanish()

    outcome = go(text(tmp_path, slots=10_000_000_000), on_progress=pull)
    assert set(outcome.manifest["accounting"]) == {"alice", "bob", "source"}
    entry = outcome.manifest["not_accounted"]["receiver"]
    assert entry["received"]["success"] >= outcome.result["successes"] > 400


def test_a_sender_that_loses_its_clock_ends_the_run_and_the_result(relay, tmp_path):
    """The gateware has disarmed it; what is announced from then on is no light of its choices."""

    def lose(progress):
        if progress.slots > 2_000_000 and not lost:
            alice = relay.now.stations["alice"]
            alice.put("system.alarms", Alarm.CLOCK_LOCK_LOST)
            alice.put("system.state", State.AUDIT_COMPLETE)
            relay.now._slip = 1
            lost.append(progress.slots)

    lost = []
    outcome = go(text(tmp_path, slots=40_000_000), on_progress=lose)
    assert "station alice stopped by itself" in outcome.trouble
    assert "clock lock lost" in outcome.trouble.replace("_", " ").lower()
    assert outcome.result["partial"] is True
    assert 0 < outcome.result["slots"] <= lost[0]
    assert outcome.result["qber"] < 0.15  # 0.5 where nothing is in step
    assert left_on(relay) == []


def test_a_receiver_that_is_reset_ends_the_run_and_its_counters_stay(relay, tmp_path):
    def reset(progress):
        if progress.successes > 2000:
            receiver = relay.now.stations["receiver"]
            relay.now._began = None
            receiver.put("system.state", State.CLOCK_LOCKED)
            for name in ("timebase.slot_now", "counters.slots", "counters.live_slots"):
                receiver.put(name, 0)

    outcome = go(text(tmp_path, slots=10_000_000_000), on_progress=reset)
    assert "station receiver stopped by itself" in outcome.trouble
    assert "it was reset" in outcome.trouble
    assert outcome.result["successes"] > 1000
    assert abs(outcome.result["gain_sigma"]) < 4
