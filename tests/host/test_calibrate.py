"""Calibration of a station's chains over the link, against a fake station with chains from the model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fake_station import IDENTITY, FakeStation
from test_cli import call

from qrelay import commands_selftest
from qrelay.bitstream_file import BUILD_ID_COMMENT
from qrelay.board import Board
from qrelay.errors import CalibrationError, ConfigError
from qrelay.protocol.identity import Capability, Phy
from qrelay.protocol.status import State
from qrelay.protocol.windows import window
from qrelay.tdc_board import code_density, load_file, measure, save_file
from qrelay.tdc_calibration import calibrate

CHAINS = (0, 2)
BUILD_ID = 0x1122


def counts_of(detector, hits=300_000):
    """Code density of a chain with 62 to 71 ps in pairs of taps, each detector's its own."""
    random = np.random.default_rng(detector)
    widths = np.zeros(512)
    pairs = random.uniform(62, 71, 98)
    first = random.uniform(0.3, 0.7, 98)
    widths[:196] = np.column_stack((pairs * first, pairs * (1 - first))).ravel()
    return random.multinomial(hits, widths / widths.sum())


def board_identity():
    """A board's, with two chains."""
    capabilities = IDENTITY.capabilities & ~Capability.SIMULATED
    chained = replace(IDENTITY, phy=Phy.TDC, chains=0b0101, fine_first=0, fine_step=1)
    return replace(chained, capabilities=capabilities, build_id=BUILD_ID)


class ChainedStation(FakeStation):
    """Two detectors with a chain; codes stand in the window once counting has stopped."""

    def __init__(self, identity=None):
        super().__init__(board_identity() if identity is None else identity)
        self.put("system.state", State.CLOCK_LOCKED)
        self.counted = None
        self.on_strobe = self._strobe
        self.before_read = self._show

    def _strobe(self, name):
        if name == "tdc.clear":
            self.counted = None

    def let_time_pass(self):
        """The clock runs when it is looked at."""
        self.put("system.uptime", self.get("system.uptime") + (1 << 24))

    def _show(self):
        self.let_time_pass()
        detector = self.get("tdc.detector")
        # Counting needs the right source and the settings of a chain that is not calibrated.
        ready = self.get(f"tdc.oscillator_{detector}") and self.get(f"tdc.low_from_{detector}") == 36
        if self.get("tdc.run") and ready:
            self.counted = counts_of(detector)
        base = window("tdc_codes").base
        for code in range(512):
            self.words[base + code] = 0 if self.counted is None else int(self.counted[code])

    def _write(self, address, value):
        super()._write(address, value)
        self._show()


@pytest.fixture
def station():
    with ChainedStation() as station:
        yield station


def times_of(station, detector):
    return station.table("tdc_times")[512 * detector : 512 * detector + 512]


def test_measure_loads_tables_and_settings(station):
    with Board.open(station.url) as board:
        found = measure(board, hits=200_000)
    assert tuple(found) == CHAINS
    for detector in CHAINS:
        expected = calibrate(counts_of(detector))
        np.testing.assert_array_equal(times_of(station, detector), expected.table)
        assert station.get(f"tdc.high_from_{detector}") == expected.high_from
        assert station.get(f"tdc.low_from_{detector}") == expected.low_from
        assert station.get(f"tdc.oscillator_{detector}") == 0
        assert found[detector].rms_error_ps < 20
    assert not any(times_of(station, 1))


def test_a_run_is_not_disturbed(station):
    station.put("system.state", State.CLOCK_LOCKED | State.RUNNING)
    with Board.open(station.url) as board, pytest.raises(CalibrationError, match="a run is on"):
        code_density(board, 0, 200_000)
    assert station.get("tdc.oscillator_0") == 0


def test_the_pad_is_back_after_a_failure(station):
    station.counted = None
    station._show = lambda: None
    station.before_read = station.let_time_pass
    with Board.open(station.url) as board, pytest.raises(CalibrationError, match="detector 2: code density: 0 hits"):
        measure(board, [2], hits=200_000)
    assert station.get("tdc.oscillator_2") == 0


def test_a_clock_that_stands_is_told(station, monkeypatch):
    monkeypatch.setattr("qrelay.tdc_board._LONGEST_CLEAR_S", 0.1)
    station.before_read = lambda: None
    station.let_time_pass = lambda: None
    with Board.open(station.url) as board, pytest.raises(CalibrationError, match="the station's clock stands"):
        measure(board, [2], hits=200_000)
    assert (station.get("tdc.run"), station.get("tdc.oscillator_2")) == (0, 0)


def test_detector_without_a_chain(station):
    message = "detector 1 of fake has no carry chain; those that have: 0, 2"
    with Board.open(station.url) as board, pytest.raises(ConfigError, match=message):
        measure(board, [0, 1])


def test_kept_and_loaded(station, tmp_path):
    path = tmp_path / "tdc.json"
    with Board.open(station.url) as board:
        found = measure(board, hits=200_000)
        save_file(path, board, found, "ab" * 32)
    with ChainedStation() as other, Board.open(other.url) as board:
        load_file(path, board, "ab" * 32)
        for detector in CHAINS:
            assert times_of(other, detector) == times_of(station, detector)
            assert other.get(f"tdc.low_from_{detector}") == found[detector].low_from
        with pytest.raises(ConfigError, match="belongs to bitstream abababababab, not to cdcdcdcdcdcd"):
            load_file(path, board, "cd" * 32)
        path.write_text(path.read_text().replace('"board": "fake"', '"board": "other"'))
        with pytest.raises(ConfigError, match="of board 'other' is not for 'fake'"):
            load_file(path, board)
        path.write_text("[]")
        with pytest.raises(ConfigError, match="is no calibration"):
            load_file(path, board)


def test_command(station, tmp_path, monkeypatch, capsys):
    path = tmp_path / "tdc.json"
    bitstream = tmp_path / "a.bit"
    bitstream.write_bytes(f"{BUILD_ID_COMMENT}{BUILD_ID:016x}".encode())
    options = ("--hits", 200_000, "--out", path, "--bitstream", bitstream)
    code, out, _ = call(monkeypatch, capsys, "calibrate", station.url, *options, "--json")
    assert code == 0
    shown = json.loads(out)
    assert set(shown["detectors"]) == {"0", "2"}
    assert shown["detectors"]["0"]["rms_error_ps"] < 20
    assert json.loads(path.read_text())["bitstream_sha256"] == shown["bitstream_sha256"] != ""
    code, out, _ = call(monkeypatch, capsys, "calibrate", station.url, "--load", path)
    assert code == 0
    assert "effective resolution (ps)" in out


def test_command_on_a_board_without_chains(monkeypatch, capsys):
    with FakeStation() as plain:
        code, _, err = call(monkeypatch, capsys, "calibrate", plain.url)
    assert code == 2
    assert "fake has no carry chains" in err


@pytest.mark.parametrize("as_json", [False, True])
def test_selftest_calibrates_the_chains_first(station, monkeypatch, capsys, as_json):
    """Figures of each chain before the loop-back, whose clicks mean nothing without tables."""

    def no_loop(board, wanted, *, cable_fines, offsets):
        assert any(times_of(station, 0))
        return []

    monkeypatch.setattr(commands_selftest, "loop_back", no_loop)
    code, out, err = call(monkeypatch, capsys, "selftest", station.url, *(["--json"] if as_json else []))
    assert code == 1
    assert "nothing was tested" in err
    if as_json:
        (chains,) = json.loads(out)["tdc"].values()
        assert set(chains) == {"0", "2"}
        assert chains["2"]["rms_error_ps"] < 20
    else:
        assert "effective resolution (ps)" in out


def test_out_is_checked_before_anything_is_measured(station, tmp_path, monkeypatch, capsys):
    absent = tmp_path / "absent"
    for path, message in (
        (absent / "tdc.json", f"--out {absent}/tdc.json: there is no folder {absent}; make it, or give another file"),
        (tmp_path, f"--out {tmp_path}: that is no file that could be written over"),
    ):
        code, out, err = call(monkeypatch, capsys, "calibrate", station.url, "--hits", 200_000, "--out", path)
        assert (code, out) == (2, "")
        assert message in err
    assert station.requests == []


def test_a_file_that_cannot_be_written_leaves_the_calibration_loaded(station, tmp_path, monkeypatch, capsys):
    """And the calibration that was kept before as it was."""
    path = tmp_path / "tdc.json"
    path.write_text("kept before")
    (tmp_path / "tdc.json.part").mkdir()
    code, _, err = call(monkeypatch, capsys, "calibrate", station.url, "--hits", 200_000, "--out", path)
    assert code == 1
    assert "tdc.json: Is a directory; the calibration of detector 0, 2 is not kept, but stays loaded in the" in err
    assert "Traceback" not in err
    assert path.read_text() == "kept before"
    for detector in CHAINS:
        np.testing.assert_array_equal(times_of(station, detector), calibrate(counts_of(detector)).table)


@pytest.mark.parametrize("simulated", [False, True])
def test_figures_say_whether_a_board_was_measured(monkeypatch, capsys, simulated):
    """In words and JSON of calibration and self-test."""
    identity = board_identity()
    if simulated:
        identity = replace(identity, phy=Phy.TWIN_TDC, capabilities=identity.capabilities | Capability.SIMULATED)
    words = "from the code density of the oscillator on the die"
    model = "simulated: tap widths come from the timing model of place and route, nothing was measured on a board"
    expected = model if simulated else words
    monkeypatch.setattr(commands_selftest, "loop_back", lambda *_, **__: [])
    with ChainedStation(identity) as station:
        for command in (("calibrate", station.url, "--hits", 200_000), ("selftest", station.url)):
            _, out, err = call(monkeypatch, capsys, *command)
            assert out.startswith(f"Carry chains of {station.url}, {expected}\n")
            assert ("hits of the simulated oscillator" in err) is simulated
        shown = json.loads(call(monkeypatch, capsys, "calibrate", station.url, "--hits", 200_000, "--json")[1])
        assert (shown["simulated"], shown["provenance"]) == (simulated, expected)
        shown = json.loads(call(monkeypatch, capsys, "selftest", station.url, "--json")[1])
        assert shown["tdc_simulated"] == {station.url: simulated}
        assert shown["tdc_provenance"] == {station.url: expected}
