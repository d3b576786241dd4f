"""Offsets of carry chains: measured by loop-back, kept under the bitstream's hash, taken from the delays of a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fake_station import IDENTITY
from test_calibrate import ChainedStation
from test_cli import call

from qrelay import commands_selftest, loopback
from qrelay.bitstream_file import BUILD_ID_COMMENT, bitstream_sha256, check_bitstream
from qrelay.board import Board
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import ConfigError
from qrelay.loopback import TRIALS, PairReport, Pattern
from qrelay.protocol.identity import Capability
from qrelay.tdc_offsets import Offset, Subtraction, load_offsets, offsets_path, save_offsets, subtract_offsets

SHA = "ab" * 32
BUILD_ID = 0x0123456789ABCDEF
CHAINED = replace(
    IDENTITY, chains=0b0101, build_id=BUILD_ID, capabilities=IDENTITY.capabilities & ~Capability.SIMULATED
)
INJECTED = {0: -1700.0, 2: -903.0}


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def run_config(bitstream=None, subtract=True):
    config = parse_config(demo_text(), "demo")
    update = {"bitstream": bitstream and str(bitstream), "subtract_tdc_offsets": subtract}
    return config.model_copy(update={"receiver": config.receiver.model_copy(update=update)})


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "a.bit"
    path.write_bytes(file_of(BUILD_ID))
    return path


def file_of(build_id):
    """Head of a bitstream as ecppack writes it: comments between zeros."""
    return f"\xff\0Part: X\0{BUILD_ID_COMMENT}{build_id:016x}\0\xff".encode("latin-1")


@pytest.mark.parametrize("line", range(8))
def test_sparse_patterns_leave_a_chain_time(line):
    assert np.diff(Pattern(sparse=True).edges(line)).min() >= 8 * 256


def test_command_recovers_injected_offsets(bitstream, monkeypatch, capsys):
    """Standard error 5 / sqrt(n) < 1 fine; the limit of 5 of them fails by chance once in 10^6."""
    random = np.random.default_rng(5)
    pattern = Pattern(sparse=True)
    expected = 4 * 256 * (IDENTITY.line_latency + IDENTITY.pin_latency - IDENTITY.receiver_latency) + 256

    def clicks(board, detector):
        edges = pattern.edges({0: 3, 2: 6}[detector]) + expected + INJECTED[detector]
        return np.rint(edges + random.normal(0, 5, len(edges))).astype(np.int64)

    monkeypatch.setattr(loopback, "_clicks", clicks)
    monkeypatch.setattr("test_calibrate.BUILD_ID", BUILD_ID)
    # A cable of one slot.
    options = ("--hits", 200_000, "--bitstream", bitstream, "--wire", "3:0", "--wire", "6:2", "--cable-ns", 3.283857)
    with ChainedStation() as station:
        code, out, _ = call(monkeypatch, capsys, "calibrate", station.url, *options, "--json")
        assert code == 0
        shown = json.loads(out)["offsets"]
        kept = load_offsets(bitstream_sha256(bitstream), "fake")
        assert set(kept) == {0, 2}
        for detector, offset in kept.items():
            assert shown[str(detector)]["fines"] == offset.fines
            assert abs(offset.fines - INJECTED[detector]) < 5 * 5 / offset.n**0.5
            assert 3 < offset.std < 7
        code, _, err = call(monkeypatch, capsys, "calibrate", station.url, *options[:4], "--wire", "4:0")
        assert code != 0
        assert "detector 0 sees line 3, not all of line 4" in err
        assert load_offsets(bitstream_sha256(bitstream), "fake") == kept
        code, _, err = call(monkeypatch, capsys, "calibrate", station.url, "--wire", "4:0")
        assert code == 2
        assert "--wire needs --bitstream" in err


def test_kept_beside_others():
    save_offsets(SHA, "fake", {0: Offset(-3.5, 2.0, 100)})
    save_offsets(SHA, "fake", {2: Offset(4.0, 1.0, 25)})
    assert load_offsets(SHA, "fake") == {0: Offset(-3.5, 2.0, 100), 2: Offset(4.0, 1.0, 25)}
    assert load_offsets("cd" * 32, "fake") == {}
    assert Offset(0, 2.0, 100).standard_error == 0.2
    assert [p.name for p in offsets_path(SHA).parent.iterdir()] == [f"{SHA}.json"]


def test_cut_and_foreign_files_stay_as_they_are():
    path = save_offsets(SHA, "fake", {0: Offset(-3.5, 2.0, 100)})
    whole = path.read_text()
    for content, message in (
        (whole[:50], "holds no offsets"),
        ("[]", "holds no offsets"),
        (whole.replace("-3.5", "NaN"), "finite fines"),
        (whole.replace('"fake"', '"other"'), "of board 'other'"),
        (whole.replace(SHA, "cd" * 32), "bitstream cdcdcdcdcdcd is not for 'fake' and abababababab"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=message):
            save_offsets(SHA, "fake", {2: Offset(0.0, 1.0, 25)})
        assert path.read_text() == content


def test_taken_from_the_delays(bitstream):
    save_offsets(bitstream_sha256(bitstream), "fake", {0: Offset(-1700.4, 5.0, 96), 2: Offset(300.0, 5.0, 96)})
    config = run_config(bitstream)
    with pytest.raises(ConfigError, match=r"detectors\[2\].delay_slots: hits are 300.0 fines late .* add 2 slots"):
        subtract_offsets(config, CHAINED)
    save_offsets(bitstream_sha256(bitstream), "fake", {2: Offset(-1.0, 5.0, 96)})
    detectors = subtract_offsets(config, CHAINED).config.receiver.detectors
    assert [(d.delay_slots, d.delay_fines) for d in detectors] == [(6, 164), (0, 0), (0, 1), (0, 0)]
    subtracted = subtract_offsets(config, CHAINED).of_station()
    assert subtracted["bitstream_sha256"] == bitstream_sha256(bitstream)
    assert subtracted["date"].startswith("20")
    assert {d: entry["fines"] for d, entry in subtracted["detectors"].items()} == {"0": -1700.4, "2": -1.0}
    assert subtract_offsets(run_config(bitstream, subtract=False), CHAINED) == Subtraction(run_config(bitstream, False))
    assert subtract_offsets(config, IDENTITY) == Subtraction(config)
    assert Subtraction(config).of_station() is None


def test_missing_offsets_warn(bitstream):
    done = subtract_offsets(run_config(), CHAINED)
    assert done.config == run_config()
    assert "no offsets are kept for build id 0123456789abcdef" in done.warnings[0]
    save_offsets(bitstream_sha256(bitstream), "fake", {0: Offset(-1.0, 5.0, 96)})
    (warning,) = subtract_offsets(run_config(bitstream), CHAINED).warnings
    assert "detector 2: no offset" in warning
    assert "qrelay calibrate URL --bitstream FILE --wire" in warning
    for config, identity in (
        (run_config("absent.bit"), CHAINED),
        (run_config("absent.bit", subtract=False), CHAINED),
        (run_config("absent.bit"), replace(CHAINED, chains=0)),
    ):
        with pytest.raises(ConfigError, match="give the file that was flashed"):
            subtract_offsets(config, identity)


def test_found_by_the_build_id_of_the_station(bitstream):
    """The station tells which bitstream it holds, so that nobody has to name the file; other files do not disturb."""
    path = save_offsets(bitstream_sha256(bitstream), "fake", {0: Offset(-256.0, 5.0, 96)}, BUILD_ID)
    save_offsets(SHA, "fake", {0: Offset(-512.0, 5.0, 96)}, BUILD_ID ^ 1)
    path.with_name("broken.json").write_text("{")
    done = subtract_offsets(run_config(), CHAINED)
    assert done.config.receiver.detectors[0].delay_slots == 1
    assert done.of_station()["bitstream_sha256"] == bitstream_sha256(bitstream)
    assert "detector 2: no offset" in done.warnings[0]
    # A build id of 0 is no bitstream's.
    save_offsets("cd" * 32, "fake", {0: Offset(-512.0, 5.0, 96)})
    assert subtract_offsets(run_config(), replace(CHAINED, build_id=0)).of_station() is None


def test_file_of_another_build_is_refused(bitstream, tmp_path, monkeypatch, capsys):
    """In a run, in a calibration, and when one is loaded: the station tells which bitstream it holds."""
    other = tmp_path / "b.bit"
    other.write_bytes(file_of(BUILD_ID ^ 1))
    message = "b.bit has build id 0123456789abcdee, but the station fake holds 0123456789abcdef"
    with pytest.raises(ConfigError, match=message):
        subtract_offsets(run_config(other), CHAINED)
    monkeypatch.setattr("test_calibrate.BUILD_ID", BUILD_ID)
    kept = tmp_path / "tdc.json"
    with ChainedStation() as station:
        options = ("--hits", 200_000, "--out", kept)
        code, _, err = call(monkeypatch, capsys, "calibrate", station.url, "--bitstream", other, *options)
        assert (code, kept.exists()) == (2, False)
        assert "give the file that was flashed, or flash this one" in err
        assert call(monkeypatch, capsys, "calibrate", station.url, "--bitstream", bitstream, *options)[0] == 0
    monkeypatch.setattr("test_calibrate.BUILD_ID", BUILD_ID ^ 1)
    with ChainedStation() as station:
        code, _, err = call(monkeypatch, capsys, "calibrate", station.url, "--load", kept)
        assert code == 2
        assert "belongs to build id 0123456789abcdef, but the station holds 0123456789abcdee" in err


def test_file_without_a_build_id_is_refused(tmp_path):
    path = tmp_path / "old.bit"
    for content in (b"bits", BUILD_ID_COMMENT.encode() + b"cut", BUILD_ID_COMMENT.encode() + b"no hexadecimal digits"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="has no build id in its head"):
            check_bitstream(path, CHAINED)
    simulated = replace(CHAINED, build_id=0, capabilities=CHAINED.capabilities | Capability.SIMULATED)
    assert check_bitstream(path, simulated) == bitstream_sha256(path)


def test_self_test_subtracts_by_default(bitstream, monkeypatch, capsys):
    """The trials of the loop-back get the kept offsets, and the report says which; `--no-offsets` leaves them out."""
    offsets = {0: Offset(-1700.4, 5.0, 96), 2: Offset(-1.0, 5.0, 96)}
    save_offsets(bitstream_sha256(bitstream), "fake", offsets, BUILD_ID)
    monkeypatch.setattr("test_calibrate.BUILD_ID", BUILD_ID)
    given = []

    def trials(board, wanted, *, cable_fines, offsets):
        given.append(offsets)
        return [PairReport(0, 0, None, "no delay", 8, 8, 0, 0, 100, 100)]

    monkeypatch.setattr(commands_selftest, "loop_back", trials)
    with ChainedStation() as station:
        for options in ([], ["--bitstream", bitstream], ["--no-offsets"]):
            code, out, _ = call(monkeypatch, capsys, "selftest", station.url, "--json", *options)
            assert code == 0
            document = json.loads(out)
            (shown,) = document["tdc_offsets"].values()
            assert document["subtract_tdc_offsets"] is (shown is not None) is (options != ["--no-offsets"])
            if shown:
                assert shown["detectors"]["0"]["fines"] == -1700.4
                assert shown["bitstream_sha256"] == bitstream_sha256(bitstream)
        _, out, _ = call(monkeypatch, capsys, "selftest", station.url)
        assert "subtracted, detector 0 -1700.40 fines, detector 2 -1.00 fines (bitstream" in out
    assert given == [offsets, offsets, None, offsets]


def test_delays_of_the_trials_are_less_by_the_offsets():
    with ChainedStation() as station, Board.open(station.url) as board:
        loopback._configure(board, TRIALS[2], {0: Offset(-1700.4, 5.0, 96)})
    assert (station.get("receiver.delay_slots_0"), station.get("receiver.delay_fine_0")) == (
        94 + 7,
        128 + 1700 - 7 * 256,
    )
    assert (station.get("receiver.delay_slots_1"), station.get("receiver.delay_fine_1")) == (94, 128)


def test_a_chain_with_an_offset_has_the_closer_limit(monkeypatch):
    """40 fines late in all trials: too late for the detector whose offset was taken, and for no other."""
    offsets = {0: Offset(-1700.4, 5.0, 96)}
    latency = 4 * 256 * (IDENTITY.line_latency + IDENTITY.pin_latency - IDENTITY.receiver_latency)

    def clicks(board, detector):
        delay = 256 * (board.read("modulator.delay_0") + board.read(f"receiver.delay_slots_{detector}"))
        delay += board.read(f"receiver.delay_fine_{detector}")
        early = -1700 if detector in offsets else 0
        return Pattern(sparse=True).edges(detector) + latency + delay + early + 40

    monkeypatch.setattr(loopback, "_clicks", clicks)
    with ChainedStation() as station, Board.open(station.url) as board:
        reports = loopback.loop_back(board, offsets=offsets)
    assert [(r.detector, r.limit_fines, r.passed) for r in reports] == [
        (0, 32, False),
        *((d, 128, True) for d in (1, 2, 3)),
    ] * len(TRIALS)
    assert {r.slip_slots for r in reports} == {40 / 256}


def test_no_offset_of_a_chain_that_is_not_calibrated(bitstream, monkeypatch, capsys):
    """All its hits have one time, so that an offset would be wrong and be kept."""
    monkeypatch.setattr("test_calibrate.BUILD_ID", BUILD_ID)
    options = ("--hits", 200_000, "--bitstream", bitstream, "--detector", 0, "--wire", "3:0", "--wire", "6:2")
    with ChainedStation() as station:
        code, _, err = call(monkeypatch, capsys, "calibrate", station.url, *options)
    assert code == 2
    assert "--wire: detector 2 is not calibrated" in err
    assert "add --detector 2, or leave --detector out" in err
    assert load_offsets(bitstream_sha256(bitstream), "fake") == {}
