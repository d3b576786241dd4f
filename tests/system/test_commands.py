"""The commands as a user types them, each in a process of its own, on the boards' own RTL.

The seeds are fixed, so a test that passes once passes always.
"""

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import serial

from qrelay.board import Board
from qrelay.config import STATIONS, parse_config
from qrelay.demo_config import demo_text
from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.identity import Identity
from qrelay.protocol.packets import PacketKind, frame_packet, parse_packet
from qrelay.replay import replay
from qrelay.run_folder import read_announcements
from qrelay_sim.twin.identity import TWIN_FACTS
from qrelay_sim.twin.native import build_library, source_fingerprint

SLOTS = 2_000_000
MORE_SLOTS_THAN_ANYONE_WAITS_FOR = 10_000_000_000
SOON_S = 120.0


@pytest.fixture(scope="module", autouse=True)
def library():
    """Compiled before the processes need it, so that their time limits are for their own work."""
    return build_library()


def command(*arguments):
    return [sys.executable, "-m", "qrelay", *map(str, arguments)]


def call(*arguments):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=2 * SOON_S)


@contextmanager
def running(*arguments, **environment):
    """The command in the background; killed if the test ends before it, or if it takes far too long."""
    process = subprocess.Popen(
        command(*arguments),
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(2 * SOON_S, process.kill)
    killer.start()
    try:
        yield process
    finally:
        killer.cancel()
        process.kill()
        process.communicate()


def wait_until(condition, process):
    """Value of the condition as soon as it is true. A process that ends meanwhile is a failure with its words."""
    end = time.monotonic() + SOON_S
    while not (value := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)
    return value


def the_run_folder(output):
    (folder,) = output.iterdir()
    return folder


def assert_plots(paths):
    assert {Path(path).name for path in paths} == {"fringe.png", "gains.png", "clicks.png"}
    for path in paths:
        assert Path(path).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


# -- demo ------------------------------------------------------------------------------------------------------------


def test_demo_as_json(tmp_path):
    """Gain within 5 of its standard errors of the model: 1.6e-6 with a new seed (Poisson, 561 successes expected)."""
    done = call("demo", "--slots", SLOTS, "--seed", 1, "--json", "--output", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    for key in (
        *("slots", "slots_per_second", "successes", "sifted", "qber", "qber_std", "qber_model", "gain", "gain_std"),
        *("gain_model", "rate_bit_per_slot", "stations", "run_folder"),
    ):
        assert shown[key] is not None, key
    assert shown["slots"] == SLOTS
    assert shown["slots_per_second"] > 0
    assert shown["successes"] > shown["sifted"] > 0
    assert 0 < shown["gain_std"] < shown["gain_model"]
    assert abs(shown["gain"] - shown["gain_model"]) < 5 * shown["gain_std"]
    assert set(shown["stations"]) == set(STATIONS)
    for station in shown["stations"].values():
        assert station["rtl"] is True
        assert station["simulated"] is True
        assert station["board"] == TWIN_FACTS.board
        assert station["protocol_hash"] == f"{PROTOCOL_HASH:016x}"
        assert station["url"].startswith("socket://127.0.0.1:")
    assert_plots(shown["plots"])
    folder = the_run_folder(tmp_path)
    assert Path(shown["run_folder"]) == folder
    assert {path.name for path in folder.iterdir()} == {
        *("config.toml", "manifest.json", "result.json", "log.jsonl"),
        *("events.parquet", "frames.parquet", "reference.parquet"),
        *("alice.choice-key", "alice.sifted-key", "bob.choice-key", "bob.sifted-key"),
        *(Path(path).name for path in shown["plots"]),
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.glob("*-key"))
    result = json.loads((folder / "result.json").read_text())
    assert shown.items() >= result.items()
    assert replay(folder).same is True
    assert json.loads((folder / "manifest.json").read_text())["stations"] == shown["stations"]


def test_a_run_too_short_for_its_click_sample_has_no_alarm(tmp_path):
    """Clicks that found the queue full are no fault, as only a sample is wanted."""
    shown = json.loads(call("demo", "--slots", 400_000, "--json", "--output", tmp_path).stdout)
    assert shown["accounting"]["receiver"]["click"]["dropped_by_station"] > 0
    assert shown["alarms"] == {station: [] for station in STATIONS}


# -- Ctrl-C and SIGTERM ----------------------------------------------------------------------------------------------


def run_file(folder):
    path = folder / "my-run.toml"
    path.write_text(demo_text(slots=MORE_SLOTS_THAN_ANYONE_WAITS_FOR, seed=2, output=str(folder / "runs")))
    return path


def recording(output):
    """Whether a run in this folder has taken records, enough for a dozen sifted bits; its spool has no buffer."""
    return any(path.stat().st_size > 100_000 for path in output.glob("*/events.spool"))


@pytest.mark.parametrize(
    ("number", "as_json"),
    [
        pytest.param(signal.SIGINT, False, id="ctrl-c-demo-in-words"),
        pytest.param(signal.SIGTERM, True, id="sigterm-run-as-json"),
    ],
)
def test_a_signal_ends_a_run_cleanly(tmp_path, number, as_json):
    """All that was taken is there, with its result; exit code 0, because the user asked for the end."""
    output = tmp_path / "runs"
    words = ("demo", "--slots", MORE_SLOTS_THAN_ANYONE_WAITS_FOR, "--seed", 2, "--output", output)
    with running(*(("run", run_file(tmp_path), "--json") if as_json else words)) as process:
        wait_until(lambda: recording(output), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    folder = the_run_folder(output)
    manifest, result = (json.loads((folder / name).read_text()) for name in ("manifest.json", "result.json"))
    assert manifest["stopped_by_hand"] is True
    assert manifest["trouble"] is None
    assert result["partial"] is True
    assert 0 < result["slots"] < MORE_SLOTS_THAN_ANYONE_WAITS_FOR
    assert not (folder / "events.spool").exists()
    for kinds in manifest["accounting"].values():
        assert all(not entry[what] for entry in kinds.values() for what in ("lost_on_link", "unaccounted", "waiting"))
    assert len(read_announcements(folder).slots) == manifest["accounting"]["receiver"]["success"]["received"] > 0
    assert replay(folder).same is True
    for name in ("alice", "bob"):
        assert (folder / f"{name}.sifted-key").stat().st_size == -(-result["sifted"] // 8)
    if as_json:
        shown = json.loads(out)
        assert err == ""
        assert shown.items() >= result.items()
        assert_plots(shown["plots"])
    else:
        said, summary = err.splitlines(), out.splitlines()  # whole lines, although no terminal is that wide
        assert said[0] == f"run folder {folder}"
        assert re.fullmatch(r"slots [\d,]+ of 10,000,000,000 .*  QBER .* \(model 6\.65%\)", said[1])
        assert summary[0].endswith(" sifted bits - partial")
        assert any("Measured against the closed form" in line for line in summary)
        assert summary[-1] == f"run folder {folder}"


def test_further_signals_interrupt_the_end_of_a_run_and_lose_no_record(tmp_path):
    """The first lets the run end, the others are for who will not wait for that: no result, but all to make it from."""
    with running("demo", "--slots", MORE_SLOTS_THAN_ANYONE_WAITS_FOR, "--output", tmp_path) as process:
        wait_until(lambda: recording(tmp_path), process)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        _, err = process.communicate(timeout=SOON_S)
    assert "Traceback" not in err
    assert process.returncode in (0, 130)  # 0 where the run was over by then
    folder = the_run_folder(tmp_path)
    assert (folder / "result.json").exists() == (process.returncode == 0)
    assert len(read_announcements(folder).slots) > 0
    written = not (folder / "result.json").exists()
    anew = json.loads(call("replay", folder, "--json").stdout)
    assert anew["partial"] is True
    assert 0 < anew["sifted"] < anew["slots"] < MORE_SLOTS_THAN_ANYONE_WAITS_FOR
    assert anew["same_as_result_json"] is (None if written else True)
    assert bool(anew["plots"]) == written
    assert call("replay", folder).stdout.splitlines()[-1] == "result.json is the same"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_before_the_run_interrupts_at_once(tmp_path, number):
    """Here it waits for another process that compiles the boards: exit code 130, no run folder, no traceback."""
    cache = tmp_path / "cache"
    cache.mkdir()
    with (cache / f"station-{source_fingerprint()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with running("demo", "--output", tmp_path / "runs", QRELAY_CACHE=str(cache)) as process:
            assert process.stderr.readline() == "twin: waiting for another process that compiles it\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "")
    assert not (tmp_path / "runs").exists()


# -- twin ------------------------------------------------------------------------------------------------------------


@contextmanager
def served(*arguments):
    """`qrelay twin` with these arguments, and its URLs as it prints them, in words or as JSON."""
    with running("twin", *arguments) as process:
        if "--json" in arguments:
            lines = []
            while not lines or lines[-1] not in ("}\n", ""):
                lines.append(process.stdout.readline())
            urls = json.loads("".join(lines))["urls"]
        else:
            urls = dict(process.stdout.readline().split() for _ in STATIONS)
        assert list(urls) == list(STATIONS)
        assert len(set(urls.values())) == len(STATIONS)
        yield process, urls


def ask(port, number, first_word, words):
    """Ask a station for registers, by bytes; what it says unasked is passed over."""
    port.write(frame_packet(PacketKind.READ, number, first_word.to_bytes(2, "little") + bytes((words,))))
    while True:
        frame = port.read_until(b"\0")
        assert frame.endswith(b"\0"), "no answer"
        packet = parse_packet(frame[:-1])
        if packet is not None and packet[:2] == (PacketKind.READ_DATA, number):
            return packet[2]


@pytest.mark.parametrize(
    ("options", "pattern", "number"),
    [
        pytest.param((), r"socket://127\.0\.0\.1:\d+", signal.SIGINT, id="tcp"),
        pytest.param(("--pty",), r"/dev/\S+", signal.SIGTERM, id="pty"),
        pytest.param(("--json",), r"socket://127\.0\.0\.1:\d+", signal.SIGTERM, id="tcp-json"),
        pytest.param(("--pty", "--json"), r"/dev/\S+", signal.SIGINT, id="pty-json"),
    ],
)
def test_any_program_talks_to_the_served_boards(tmp_path, options, pattern, number):
    """Plain pyserial and this host in turns, each coming back; a signal ends it with exit code 0, client or not."""
    path = tmp_path / "my-run.toml"
    path.write_text(demo_text())
    with served(path, *options) as (process, urls):
        assert all(re.fullmatch(pattern, url) for url in urls.values())
        for visit in range(2):
            with serial.serial_for_url(urls["bob"], baudrate=3_000_000, timeout=10) as port:
                port.write(b"\0")  # ends what an earlier client began
                halves = [ask(port, 2 * visit + half, 32 * half, 32) for half in range(2)]
            assert Identity.from_words(np.frombuffer(b"".join(halves), "<u4").tolist()) == TWIN_FACTS.identity
            with Board.open(urls["bob"], timeout_s=2.0) as board:
                assert board.identity == TWIN_FACTS.identity
                assert board.read("system.scratch") == visit
                board.write("system.scratch", visit + 1)
        with Board.open(urls["bob"], timeout_s=2.0) as board:
            assert board.read("system.scratch") == 2
            assert process.poll() is None
            process.send_signal(number)
            out, err = process.communicate(timeout=SOON_S)
    assert process.returncode == 0, err
    assert out == ""
    assert err == ("" if "--json" in options else "Ctrl-C stops the boards\n")


def test_a_run_on_served_boards(tmp_path):
    """The run file names URLs as it would name boards; without seeds every run has keys of its own.

    Gain within 5 of its standard errors of the model: a false alarm in 1.6e-6 of the runs.
    """
    text = demo_text(slots=SLOTS, output=str(tmp_path / "runs"))
    served_file = tmp_path / "served.toml"
    served_file.write_text(text)
    delays = parse_config(text).twin_settings().path_delays()
    with served(served_file, "--json") as (process, urls):
        for name, url in urls.items():
            text = text.replace(f'{name} = "twin"', f'{name} = "{url}"')
        text = re.sub(r"(?m)^seed = .*\n", "", text)
        text += "\n[path_delay_slots]\n" + "".join(f"{name} = {slots}\n" for name, slots in delays.items())
        path = tmp_path / "my-run.toml"
        path.write_text(text)
        done = call("run", path, "--json")
        assert done.returncode == 0, done.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SOON_S)
    assert process.returncode == 0
    shown = json.loads(done.stdout)
    assert shown["slots"] == SLOTS
    assert {name: station["url"] for name, station in shown["stations"].items()} == urls
    assert abs(shown["gain"] - shown["gain_model"]) < 5 * shown["gain_std"]
    assert all(report["passed"] for report in shown["audit"].values())
