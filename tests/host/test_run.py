"""Whole runs against a relay in Python. The seeds are fixed; bounds of 4 standard errors have a false-alarm rate of
6e-5 each for a new seed."""

import copy
import json
import signal
import stat
import threading
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from fake_station import FakeRelay
from matplotlib.figure import Figure

import qrelay.bench
from qrelay.analysis import analyse
from qrelay.board import Board
from qrelay.choice_keys import ChoiceKey
from qrelay.commands import _expected_qber, run_text
from qrelay.commands_replay import replay_run
from qrelay.config import load_config, parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import LinkClosed, RunError, RunFolderError
from qrelay.live_view import LiveView
from qrelay.plots import _fringe
from qrelay.protocol.records import RecordKind
from qrelay.protocol.status import Alarm, State
from qrelay.record_arrays import DTYPES, pack_records
from qrelay.replay import replay
from qrelay.run import execute
from qrelay.run_folder import RunFolder, read_announcements
from qrelay.spool import Spool


@pytest.fixture
def relay(monkeypatch):
    """Run files that ask for the twin get a `FakeRelay` with these options instead."""
    options = {}
    relays = []

    def start(config, progress, *, link="tcp"):
        relays.append(FakeRelay(config.twin_settings(), **options))
        return relays[-1]

    monkeypatch.setattr(qrelay.bench, "start_twin", start)
    options["relays"] = relays

    class Handle:
        def set(self, **values):
            options.update(values)

        @property
        def now(self):
            return relays[-1]

    del options["relays"]
    return Handle()


def text(tmp_path, slots=40_000_000, **changes):
    made = demo_text(slots=slots, output=str(tmp_path), seed=5)
    for old, new in changes.values():
        assert old in made
        made = made.replace(old, new)
    return made


def go(run_text, **options):
    return execute(parse_config(run_text), run_text, **options)


def test_an_offset_that_no_fringe_shows_leaves_no_key(relay, tmp_path):
    """Distinguishable photons: what the phases of 300 successes add up to by chance is no offset to sift with."""
    relay.set(slots_per_second=60e6)
    changes = {"auto": ("phase_offset = 0 ", 'phase_offset = "auto" '), "overlap": ("overlap = 0.95", "overlap = 0.0")}
    result = go(text(tmp_path, slots=4_000_000, **changes)).result
    assert result["sifted"] > 0
    assert result["rate_bit_per_slot"] == result["rate_bit_per_slot_decoy"] == 0
    for name in ("rate_zero_because", "rate_decoy_zero_because"):
        assert result[name].startswith("the disclosed pairs show no fringe (")
    assert result["warnings"][0].endswith("the sifted bits are no key")


@pytest.mark.parametrize(("receiver", "told"), [(8, True), (9, False)])
def test_dead_time_that_the_receiver_does_not_count_is_warned_of(relay, tmp_path, receiver, told):
    relay.set(slots_per_second=60e6)
    changes = {
        "receiver": ("dead_slots = 0", f"dead_slots = {receiver}"),
        "twin": ("[twin] ", "[twin]\ndetector_dead_slots = 9 "),
    }
    warnings = go(text(tmp_path, slots=800_000, **changes)).result["warnings"]
    assert any("give receiver.dead_slots at least 9" in warning for warning in warnings) is told


def left_on(relay):
    """Stations that are armed or running."""
    return [name for name, station in relay.now.stations.items() if station.get("system.state") & 0b11]


def test_gain_and_qber_agree_with_the_closed_form(relay, tmp_path):
    relay.set(slots_per_second=60e6)
    seen = []
    outcome = go(text(tmp_path), on_progress=seen.append)
    result = outcome.result
    assert outcome.trouble is None
    assert result["slots"] == result["live_slots"] == 40_000_000
    assert result["partial"] is False
    assert 1200 < result["sifted"] < 1650
    assert abs(result["qber_sigma"]) < 4
    assert abs(result["gain_sigma"]) < 4
    assert result["largest_deviation_sigma"] < 4
    assert result["qber_model"] == pytest.approx(0.0666, abs=2e-4)  # physics.md section 3, exact phases
    assert len(result["pairs"]) == 9
    assert sum(map(sum, result["fringe"].values())) == next(
        p["successes"] for p in result["pairs"] if p["alice"] == p["bob"] == "mu"
    )
    assert seen[-1].slots == 40_000_000
    # The live view counts audited slots too.
    assert 0 <= seen[-1].sifted - result["sifted"] <= 3
    assert all(report["passed"] for report in outcome.manifest["audit"].values())
    accounting = outcome.manifest["accounting"]["receiver"]["success"]
    assert accounting["sent"] == accounting["received"] >= result["successes"]
    assert accounting["lost_on_link"] == accounting["unaccounted"] == 0
    assert result["successes_not_recorded"] == 0
    # The counts are too few for the decoy estimate to prove a key.
    (warning,) = result["warnings"]
    assert warning.endswith("not above zero beyond 3 standard errors")


def test_the_run_folder_holds_everything_and_gives_the_same_result_again(relay, tmp_path):
    outcome = go(text(tmp_path, slots=4_000_000))
    folder = Path(outcome.folder)
    assert {path.name for path in folder.iterdir()} == {
        "config.toml", "manifest.json", "events.parquet", "frames.parquet", "reference.parquet", "log.jsonl",
        "result.json",
        "alice.choice-key", "bob.choice-key", "alice.sifted-key", "bob.sifted-key",
    }  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    for secret in folder.glob("*-key"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    keys = {name: ChoiceKey.from_json((folder / f"{name}.choice-key").read_bytes()) for name in ("alice", "bob")}
    for public in ("config.toml", "manifest.json", "result.json", "log.jsonl"):
        assert all(key.key.hex() not in (folder / public).read_text() for key in keys.values())
    assert keys["alice"].key.hex() not in repr(keys)
    again, bits = analyse(
        load_config(folder / "config.toml"),
        manifest,
        read_announcements(folder),
        {name: key.choices() for name, key in keys.items()},
    )
    assert again == json.loads((folder / "result.json").read_text())
    assert np.packbits(bits["bob"]).tobytes() == (folder / "bob.sifted-key").read_bytes()


def test_a_slip_of_one_slot_between_alice_and_bob_cannot_be_missed(relay, tmp_path):
    relay.set(bob_slip_slots=1)
    result = go(text(tmp_path, slots=8_000_000)).result
    assert 0.4 < result["qber"] < 0.6
    assert result["largest_deviation_sigma"] > 10


@pytest.mark.parametrize(
    ("wanted", "invert", "used"),
    [('"auto"', "false", 5), ("5", "false", 5), ('"auto"', "true", 13), ("13", "true", 13)],
)
def test_a_constant_phase_offset_is_corrected(relay, tmp_path, wanted, invert, used):
    offset = 5 * 2 * np.pi / 16
    seen = []
    run_file = text(
        tmp_path,
        slots=16_000_000,
        phase=("phase_offset = 0 ", f"invert = {invert}\nphase_offset = {wanted} "),
        twin=("length_km = 50.0", f"length_km = 50.0\nphase_offset_rad = {offset}"),
    )
    outcome = go(run_file, on_progress=seen.append)
    assert outcome.result["phase_offset"] == used
    assert outcome.result["qber_model"] == pytest.approx(0.0666, abs=2e-4)
    # Before the run the same is expected, and the plot shows it.
    assert _expected_qber(parse_config(run_file)) == pytest.approx(0.0666, abs=2e-4)
    axes = Figure().add_subplot()
    _fringe(axes, parse_config(run_file), outcome.manifest, outcome.result)
    for name, counts in outcome.result["fringe"].items():
        model = next(line for line in axes.lines if line.get_label() == f"{name.replace('_', ' ')}, model")
        expected = np.interp(np.arange(16), model.get_xdata(), model.get_ydata())
        assert np.sum((counts - expected) ** 2 / expected) < 16 + 5 * np.sqrt(2 * 16)
    # What was seen live is what came out, but for the audited slots.
    assert seen[-1].phase_offset == used
    assert abs(seen[-1].sifted - outcome.result["sifted"]) <= 3
    assert abs(seen[-1].errors - outcome.result["errors"]) <= 3
    assert abs(outcome.result["qber_sigma"]) < 4


def test_audited_slots_never_enter_the_key(relay, tmp_path):
    """With announcements in every slot the audited ones are missing from the key, and only they."""
    relay.set(slots_per_second=2e6)
    outcome = go(text(tmp_path, slots=80_000))
    config = load_config(Path(outcome.folder) / "config.toml")
    from qrelay.sifting import Announcements

    first = outcome.result["first_slot"]
    slots = np.arange(first, first + 80_000, dtype=np.uint64)
    every = Announcements(slots, np.ones(len(slots), np.uint8))
    keys = {
        name: ChoiceKey.from_json((Path(outcome.folder) / f"{name}.choice-key").read_bytes()).choices()
        for name in ("alice", "bob")
    }
    with_audit, _ = analyse(config, outcome.manifest, every, keys)
    without, _ = analyse(config.model_copy(update={"audit": False}), outcome.manifest, every, keys)
    # 1024 slots x 0.55^2 / 8 = 38.7 +- 6.1 bits lie in the audited slots.
    assert 14 < without["sifted"] - with_audit["sifted"] < 64
    audit_slot = outcome.manifest["alignment"]["audit_slot"]
    alone, _ = analyse(config, outcome.manifest, every.between(audit_slot, audit_slot + 1024), keys)
    assert alone["sifted"] == 0
    # A line that is 128 slots late shows earlier choices, of one sender or the other; 4.8 bits are in them.
    shown_too = every.between(audit_slot - 128, audit_slot)
    assert analyse(config, outcome.manifest, shown_too, keys)[0]["sifted"] > 0
    for late in ("alice", "bob"):
        manifest = copy.deepcopy(outcome.manifest)
        manifest["alignment"]["stations"][late]["line_delay_slots"] = 128
        alone, _ = analyse(config, manifest, every.between(audit_slot - 128, audit_slot + 1024), keys)
        assert alone["sifted"] == 0
        before, _ = analyse(config, manifest, every.between(first, audit_slot - 128), keys)
        assert before["sifted"] > 0


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


def test_lost_packets_are_accounted_for(relay, tmp_path):
    relay.set(slots_per_second=8e6)  # slow enough that packets begin to be lost long before the end
    dice = np.random.default_rng(3)

    def spoil(progress):
        receiver = relay.now.stations["receiver"]
        receiver.mangle = lambda packet: b"" if packet[1] == 0x40 and dice.random() < 0.2 else packet

    outcome = go(text(tmp_path, slots=8_000_000), on_progress=spoil)
    entry = outcome.manifest["accounting"]["receiver"]["success"]
    assert entry["lost_on_link"] > 100
    assert entry["sent"] == entry["received"] + entry["lost_on_link"] + entry["unaccounted"]
    assert outcome.trouble is None
    # The receiver's counters know of the lost ones: the gain is right.
    result = outcome.result
    assert result["successes_not_recorded"] == entry["sent"] - entry["received"]
    assert any(f"{result['successes_not_recorded']:,} of {entry['sent']:,}" in line for line in result["warnings"])
    assert all(abs(pair["gain_sigma"] or 0) < 4 for pair in result["pairs"])
    assert result["live_slots"] == 8_000_000


def test_successes_that_are_not_recorded_are_told_in_the_summary(relay, tmp_path, monkeypatch, capsys):
    def spoil(view, progress):
        relay.now.stations["receiver"].mangle = lambda packet: b"" if packet[1] == 0x40 else packet

    monkeypatch.setattr(LiveView, "update", spoil)
    assert run_text(text(tmp_path, slots=8_000_000), "test") == 0
    assert " successes that the receiver counted are not recorded; gains and rate are" in capsys.readouterr().out


def test_a_full_disk_ends_the_run_and_keeps_what_was_taken(relay, tmp_path, monkeypatch):
    from qrelay.errors import RunFolderError
    from qrelay.spool import Spool

    append = Spool.append
    written = []
    kinds = set()

    def fill_up(self, station, kind, words):
        # A block of successes is always written before, however large the first one is on a busy machine.
        if sum(written) > 1000 and RecordKind.SUCCESS in kinds:
            raise RunFolderError("cannot write events.spool: No space left on device")
        written.append(len(words))
        kinds.add(kind)
        append(self, station, kind, words)

    monkeypatch.setattr(Spool, "append", fill_up)
    outcome = go(text(tmp_path, slots=10_000_000_000))
    assert "No space left" in outcome.trouble
    assert len(read_announcements(outcome.folder)) > 0
    # What the disk did not take lies behind the slots that are used.
    assert outcome.manifest["accounting"]["receiver"]["success"]["not_recorded"] > 0
    assert outcome.result["successes_not_recorded"] == 0
    assert abs(outcome.result["gain_sigma"]) < 4


def test_a_spool_that_is_damaged_on_the_disk_is_told(relay, tmp_path, monkeypatch):
    """The result is that of what can still be read, and says how much is missing; so is that of a replay."""
    relay.set(slots_per_second=8e6)
    write_tables = RunFolder.write_tables

    def damage(self):
        path = self.path / "events.spool"
        data = bytearray(path.read_bytes())
        data[20] ^= 1  # in the first record
        path.write_bytes(data)
        write_tables(self)

    monkeypatch.setattr(RunFolder, "write_tables", damage)
    outcome = go(text(tmp_path, slots=8_000_000))
    assert "events.spool is damaged: byte 0: SUCCESS block of station 3 has a wrong checksum" in outcome.trouble
    folder = Path(outcome.folder)
    assert (folder / "events.spool").exists()
    kept = read_announcements(folder)
    keys = {name: ChoiceKey.from_json((folder / f"{name}.choice-key").read_bytes()) for name in ("alice", "bob")}
    choices = {name: key.choices() for name, key in keys.items()}
    again, _ = analyse(load_config(folder / "config.toml"), outcome.manifest, kept, choices)
    assert again == outcome.result
    lost = outcome.manifest["accounting"]["receiver"]["success"]["received"] - len(kept)
    assert again["successes_not_recorded"] == lost > 0
    assert abs(again["gain_sigma"]) < 4


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


def keep_back(station, packets):
    """The link of `station` is slow: its last `packets` packets of successes are on their way."""
    waiting = deque()

    def mangle(packet):
        if packet[1] != 0x40:
            return packet
        waiting.append(packet)
        return b"".join(waiting.popleft() for _ in range(len(waiting) - packets))

    station.mangle = mangle


def test_successes_that_a_lost_receiver_had_not_sent_do_not_lower_the_gain(relay, tmp_path):
    """Within 4 standard errors: a false alarm in 6e-5 of the runs."""

    def pull(progress):
        if progress.successes > 4000:
            relay.now.stations["receiver"].vanish()

    def slow_link():
        keep_back(relay.now.stations["receiver"], packets=30)

    outcome = go(text(tmp_path, slots=10_000_000_000), on_progress=pull, on_started=slow_link)
    assert "receiver is lost" in outcome.trouble
    assert outcome.result["successes_not_recorded"] > 100
    assert outcome.result["successes"] > 3000
    assert abs(outcome.result["gain_sigma"]) < 4


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


def test_an_interrupt_while_records_are_taken_parts_no_block_from_its_account(relay, tmp_path, monkeypatch):
    """A real interrupt of the main thread between the block on disk and its account."""
    main, appended = threading.get_ident(), []
    append = Spool.append

    def slow(self, station, kind, words):
        append(self, station, kind, words)
        if kind == RecordKind.SUCCESS:
            appended.append(len(words))
            if len(appended) == 20:
                signal.pthread_kill(main, signal.SIGINT)
                time.sleep(0.2)

    monkeypatch.setattr(Spool, "append", slow)
    outcome = go(text(tmp_path, slots=10_000_000_000))
    assert len(appended) >= 20
    assert outcome.manifest["stopped_by_hand"] is True
    entry = outcome.manifest["accounting"]["receiver"]["success"]
    assert entry["received"] == entry["sent"] == sum(appended)
    assert outcome.result["successes"] == len(
        read_announcements(outcome.folder).between(outcome.result["first_slot"], outcome.result["end_slot"])
    )


def test_a_run_folder_is_replayed_to_the_last_digit(relay, tmp_path, capsys):
    outcome = go(text(tmp_path))
    assert replay(outcome.folder).same is True
    result = Path(outcome.folder) / "result.json"
    right = result.read_text()
    result.write_text(right.replace('"sifted": ', '"sifted": 1'))
    with pytest.raises(RunError, match=r"result.json is not what the records of its folder give"):
        replay_run(Path(outcome.folder), as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "result.json is ANOTHER"
    result.unlink()
    assert replay_run(Path(outcome.folder), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["same_as_result_json"] is None
    assert result.read_text() == right


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.toml", None, "is no run folder: there is no config.toml"),
        ("manifest.json", None, "manifest.json is missing: the run was killed before its end"),
        ("manifest.json", "{", "cannot read .*manifest.json: "),
        ("alice.choice-key", None, "cannot read .*alice.choice-key: No such file"),
        ("events.parquet", None, "events.parquet"),
    ],
)
def test_a_run_folder_that_lacks_something_is_named(relay, tmp_path, name, content, message):
    folder = Path(go(text(tmp_path, slots=400_000)).folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(RunFolderError, match=message):
        replay(folder)
