"""Records that are lost on the way, or on the disk, and the account of them."""

import signal
import threading
import time
from pathlib import Path

import numpy as np
from relay_runs import go, keep_back, text

from qrelay.analysis import analyse
from qrelay.choice_keys import ChoiceKey
from qrelay.commands import run_text
from qrelay.config import load_config
from qrelay.errors import RunFolderError
from qrelay.live_view import LiveView
from qrelay.protocol.records import RecordKind
from qrelay.run_folder import RunFolder, read_announcements
from qrelay.spool import Spool


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
