"""Noise source and keys of a station from the host's side, with a station in Python behind the real link."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_station import IDENTITY, FakeStation, lose_once
from typer.testing import CliRunner

from qrelay.board import Board
from qrelay.board_sender import BoardSender
from qrelay.choice_keys import BoardKey
from qrelay.choice_settings import ChoiceSettings
from qrelay.choices import ChoiceStream
from qrelay.cli import app
from qrelay.draw_store import DrawStore
from qrelay.entropy_health import health_cutoffs
from qrelay.errors import ConfigError, RunError
from qrelay.protocol.identity import Entropy
from qrelay.protocol.registers import register
from qrelay.protocol.status import State
from qrelay.protocol.windows import window
from qrelay.station_entropy import BoardChoices, KeySpan, StationEntropy

KEYS = {0: bytes(range(32)), 2: bytes(range(32, 64))}
NONCE, STREAM = 12345, 6
THRESHOLDS = (100, 500, 900, 2000, 3000, 4000, 4096)


class NoisyStation(FakeStation):
    """Keeps keys, answers for their slots, and fills the ring with raw samples, `per_read` words at each request."""

    def __init__(self, identity=IDENTITY):
        super().__init__(identity)
        self.keys = dict(KEYS)
        self.per_read = 5
        self.raw = np.random.default_rng(1).integers(0, 1 << 32, 100_000, dtype=np.uint32)
        self.health_after_restart = 0b0011
        self.reason = None
        self.put("entropy.keys", 0b0101)
        self.before_read = self._pass_time

    def _pass_time(self):
        self.put("entropy.samples", self.get("entropy.samples") + 1)
        if self.get("entropy.record"):
            written = self.get("entropy.raw_words")
            for n in range(written, written + self.per_read):
                self.words[window("raw").base + n % window("raw").depth] = int(self.raw[n])
            self.put("entropy.raw_words", written + self.per_read)

    def _write(self, address, value):
        super()._write(address, value)
        name, _ = self.by_address.get(address, ("", None))
        if name == "entropy.record" and not value:
            self.put("entropy.raw_words", 0)
        elif name == "entropy.restart":
            self.put("entropy.health", self.health_after_restart)
            self.put("entropy.failed_at", 77 if self.health_after_restart & 0b1100 else 0)
        elif name == "entropy.erase":
            self.put("entropy.keys", self.get("entropy.keys") & ~value)
            self.keys = {place: key for place, key in self.keys.items() if not value >> place & 1}
        elif name == "entropy.make" and self.reason is None:
            self.put("entropy.key_number", self.get("entropy.key_number") + 1)
            self.put("entropy.key_place", 1)
        elif name == "entropy.regenerate":
            self._regenerate(value)

    def _regenerate(self, count):
        key = self.keys.get(self.get("entropy.regenerate_place"))
        base = self.get("entropy.regenerate_base")
        slots = [base + offset for offset in self.table("offsets")[:count]]
        draws = [0] * count
        if key is not None:
            stream = ChoiceStream(key, self.get("entropy.regenerate_nonce"), self.get("entropy.regenerate_stream"))
            draws = [1 << 16 | int(draw) for draw in stream.draws_at(slots)]
        for n, draw in enumerate(draws):
            self.words[window("draws").base + n] = draw
        self.put("entropy.answered", count)


@pytest.fixture
def station():
    with NoisyStation() as fake:
        yield fake


@pytest.fixture
def entropy(station):
    with Board.open(station.url) as board:
        yield StationEntropy(board)


def test_a_station_without_a_source_is_refused():
    with FakeStation(replace(IDENTITY, entropy=Entropy.HOST)) as fake, Board.open(fake.url) as board:
        with pytest.raises(RunError, match=r"station 'fake' .* has no noise source: its keys come from the host"):
            StationEntropy(board)


def test_start_up_sets_the_cutoffs(station, entropy):
    health = entropy.start_up(health_cutoffs(0.5, 2.0**-20), 64)
    assert health.healthy
    assert health.failures == []
    assert station.get("entropy.repetition_cutoff") == 41
    assert station.get("entropy.proportion_cutoff") == 793
    assert station.get("entropy.sample_words") == 64


def test_start_up_that_fails_names_the_test(station, entropy):
    station.health_after_restart = 0b1001
    with pytest.raises(RunError, match=r"adaptive proportion test failed at sample 77 .*must not be used"):
        entropy.start_up(health_cutoffs(0.5, 2.0**-20), 64)


def test_choices_of_slots_under_several_keys(station, entropy):
    """As of a host that had the keys: any order, more than a request holds, slots far apart, change of key."""
    random = np.random.default_rng(2)
    slots = np.concatenate([random.integers(1000, 5000, 700), random.integers(1 << 40, 1 << 46, 20)]).astype(np.uint64)
    choices = BoardChoices(entropy, [KeySpan(1000, 2, 1), KeySpan(3000, 0, 2)], NONCE, STREAM, THRESHOLDS)
    setting, phase = choices.at(slots)
    for place, mask in ((2, slots < 3000), (0, slots >= 3000)):
        expected = ChoiceStream(KEYS[place], NONCE, STREAM, THRESHOLDS).at(slots[mask])
        np.testing.assert_array_equal(setting[mask], expected[0])
        np.testing.assert_array_equal(phase[mask], expected[1])
    with pytest.raises(RunError, match="slot 999 lies before the first key of the run \\(1000\\)"):
        choices.at(np.array([5000, 999], np.uint64))
    assert [len(part) for part in choices.at(np.array([], np.uint64))] == [0, 0]


def test_erased_keys_answer_no_more(station, entropy):
    assert entropy.places() == [0, 2]
    entropy.erase([2])
    assert entropy.places() == [0]
    with pytest.raises(RunError, match="key place 2 of station 'fake' holds no key: it was erased"):
        entropy.draws(2, NONCE, STREAM, np.array([8], np.uint64))
    with pytest.raises(RunError, match="key place 4; give 0 to 3"):
        entropy.erase([4])
    station.put("entropy.key_state", 2)
    station.put("system.state", State.RUNNING)
    with pytest.raises(RunError, match="the key at place 0 is in use; disarm the station before it is erased"):
        entropy.erase([0])


def sender(station, board, **settings):
    key = BoardKey(NONCE, STREAM, THRESHOLDS)
    return BoardSender("alice", board, key, ChoiceSettings(alice_key="board", **settings), DrawStore(THRESHOLDS), None)


def test_keys_that_an_earlier_run_left_are_erased_and_logged(station):
    log = []
    with Board.open(station.url) as board:
        alice = sender(station, board, reseed_slots=800, sample_words=64)
        alice.prepare(lambda event, **values: log.append((event, values)), 8000)
    assert log == [
        ("keys of an earlier run erased, its sifting did not end", {"station": "alice", "places": [0, 2]}),
        ("key made on board", {"station": "alice", "place": 1}),
    ]
    assert station.keys == {}
    assert station.get("entropy.on_board") == 1
    assert station.get("entropy.reseed_words") == 200
    assert station.get("entropy.sample_words") == 64


def test_old_keys_go_in_order_and_their_slots_are_refused(station):
    """Whatever key lies at the place by then: a late announcement must not be answered with its draws."""
    with Board.open(station.url) as board:
        alice = sender(station, board)
        alice.spans += [KeySpan(1000, 2, 1), KeySpan(3000, 0, 2)]
        slots = np.array([1005, 2999, 3000], np.uint64)
        alice.answer(slots)
        expected = ChoiceStream(KEYS[2], NONCE, STREAM, THRESHOLDS).at(slots[:2])
        np.testing.assert_array_equal(alice.store.at(slots[:2]), expected)
        assert alice.retire(2999) == []
        assert station.get("entropy.keys") == 0b0101
        assert alice.retire(3000) == [KeySpan(1000, 2, 1)]
        assert station.get("entropy.keys") == 0b0001
        assert alice.retirable() is None
        station.keys[2] = bytes(32)  # a later key
        with pytest.raises(RunError, match="station alice: slot 2999 was announced after its key was erased"):
            alice.answer(slots[1:])
        alice.erase_all()
    assert station.get("entropy.keys") == 0
    assert alice.erased


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("health", 0b0101, "its noise source is not healthy"),
        ("keys", 0b1111, "all 4 places hold keys; erase those whose sifting ended"),
        ("record", 1, "raw samples are being recorded"),
        ("on_board", 0, "it is set to the host's keys"),
    ],
)
def test_no_key_and_why(station, entropy, name, value, message):
    station.put("entropy.health", 0b0011)
    entropy.use_own_keys()
    assert entropy.make_key() == 1
    station.put(f"entropy.{name}", value)
    station.reason = name
    with pytest.raises(RunError, match=f"station 'fake' made no key: {message}"):
        entropy.make_key()


@pytest.mark.parametrize("lost", ["answer", "request"])
def test_a_lost_packet_makes_no_second_key(station, lost):
    """It would take a second place of four."""
    lose_once(station, "entropy.make", lost)
    station.put("entropy.health", 0b0011)
    with Board.open(station.url, timeout_s=0.2) as board:
        entropy = StationEntropy(board)
        entropy.use_own_keys()
        assert entropy.make_key() == 1
        assert station.get("entropy.key_number") == 1
        assert board.statistics.retries == (lost == "request")


def test_recorded_samples_have_no_gap(station, tmp_path):
    out = tmp_path / "raw.bin"
    done = CliRunner().invoke(
        app, ["entropy", "record", station.url, "--samples", "50001", "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    samples = np.fromfile(out, np.uint8)
    expected = np.unpackbits(station.raw.view(np.uint8), bitorder="little")[:50001]
    np.testing.assert_array_equal(samples, expected)
    about = json.loads((tmp_path / "raw.bin.json").read_text())
    assert (about["samples"], about["ones"]) == (50001, int(expected.sum()))
    assert about["station"]["board"] == "fake"
    assert station.get("entropy.record") == 0


def recorded(station, out, samples=3200):
    arguments = ["entropy", "record", station.url, "--samples", str(samples), "--out", str(out), "--json"]
    return CliRunner().invoke(app, arguments).exception


@pytest.mark.parametrize("name", ["raw.json", "raw.JSON"])
def test_samples_do_not_take_the_place_of_their_description(station, tmp_path, name):
    error = recorded(station, tmp_path / name)
    assert isinstance(error, ConfigError)
    assert re.fullmatch(
        r"--out .*: \.json is for the description .*; give another name, such as .*raw\.bin", str(error)
    )
    assert not list(tmp_path.iterdir())
    assert station.requests == []


def test_recordings_of_one_stem_keep_their_descriptions(station, tmp_path):
    assert recorded(station, tmp_path / "a.bin", 3200) is recorded(station, tmp_path / "a.dat", 64) is None
    described = {name: json.loads((tmp_path / f"{name}.json").read_text())["samples"] for name in ("a.bin", "a.dat")}
    assert described == {"a.bin": 3200, "a.dat": 64}


def test_a_description_that_cannot_be_written_is_told(station, tmp_path):
    """And what ended the recording before it stays in front."""
    (tmp_path / "raw.bin.json").mkdir()
    error = recorded(station, tmp_path / "raw.bin")
    assert isinstance(error, RunError)
    assert re.search(r"raw\.bin\.json: Is a directory, so that 3200 raw samples have no description", str(error))
    assert len((tmp_path / "raw.bin").read_bytes()) == 3200
    station.per_read = window("raw").depth
    error = recorded(station, tmp_path / "raw.bin", 1_000_000)
    assert isinstance(error, RunError)
    assert re.match(r"raw samples come faster than the link takes them: .*; and .*raw\.bin\.json: Is a d", str(error))
    assert "raw samples come faster" in str(error.__cause__)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_and_only_what_it_took_is_described(station, tmp_path):
    error = recorded(station, tmp_path / "absent" / "raw.bin")
    assert isinstance(error, RunError)
    assert "No such file or directory; choose another file with --out" in str(error)
    (tmp_path / "raw.bin").symlink_to("/dev/full")
    error = recorded(station, tmp_path / "raw.bin", 100_000)
    assert isinstance(error, RunError)
    assert "raw.bin: No space left on device; choose another file with --out" in str(error)
    assert json.loads((tmp_path / "raw.bin.json").read_text())["samples"] == 0


def test_a_file_that_cannot_be_opened_keeps_the_description_beside_it(station, tmp_path):
    """Of samples that were recorded before, and are still there."""
    (tmp_path / "raw.bin").mkdir()
    (tmp_path / "raw.bin.json").write_text("of an earlier recording")
    error = recorded(station, tmp_path / "raw.bin")
    assert isinstance(error, RunError)
    assert "raw.bin: Is a directory" in str(error)
    assert (tmp_path / "raw.bin.json").read_text() == "of an earlier recording"


def test_a_source_faster_than_the_link_ends_the_recording(station, entropy):
    station.per_read = window("raw").depth
    with pytest.raises(
        RunError, match=r"raw samples come faster than the link takes them: .*raise entropy.sample_words"
    ):
        for _ in entropy.record(1_000_000):
            pass
    assert station.get("entropy.record") == 0


def test_health_command(station):
    station.put("entropy.health", 0b0011)
    assert CliRunner().invoke(app, ["entropy", "health", station.url]).exit_code == 0
    station.put("entropy.health", 0b0101)
    done = CliRunner().invoke(app, ["entropy", "health", station.url, "--json"])
    assert done.exit_code == 1
    shown = json.loads(done.stdout)
    assert shown["repetition_failed"]
    assert not shown["healthy"]
    assert shown["repetition_cutoff"] == register("entropy.repetition_cutoff")[1].reset
