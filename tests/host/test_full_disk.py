"""A disk that is really full: runs against a relay in Python, on a file system of their own or under a limit."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_station import FakeRelay

import qrelay.bench
from qrelay import cli
from qrelay.config import load_config, parse_config
from qrelay.demo_config import demo_text
from qrelay.draw_store import DrawStore
from qrelay.errors import RunFolderError
from qrelay.plots import plot_run
from qrelay.run import execute
from qrelay.run_folder import RunFolder, read_announcements

_FREE_BYTES = 16 << 10


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MiB; its ballast, once written, leaves a few pages."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def fill(disk, leave):
    """Take all space of a disk but some bytes."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            os.ftruncate(file.fileno(), file.tell() - leave)


@pytest.fixture
def relay(monkeypatch):
    """A relay that calls `on_start` when its run begins."""

    class Handle:
        on_start = staticmethod(lambda: None)
        now = None

    def start(config, progress, *, link="tcp"):
        # What is free takes the records of three seconds: the first block fits, also on a busy machine.
        Handle.now = FakeRelay(config.twin_settings(), slots_per_second=10e6)
        return Handle.now

    begin = FakeRelay._strobe

    def strobe(self, name, what):
        begin(self, name, what)
        if what == "system.start":
            Handle.on_start()

    monkeypatch.setattr(qrelay.bench, "start_twin", start)
    monkeypatch.setattr(FakeRelay, "_strobe", strobe)
    return Handle


def demo(monkeypatch, capsys, output):
    """Exit code, standard output and standard error of a run without an end."""
    arguments = ["demo", "--slots", "10000000000", "--json", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["qrelay", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err


def test_a_disk_that_fills_up_ends_the_run_with_manifest_and_result(monkeypatch, capsys, small_disk, relay):
    relay.on_start = lambda: fill(small_disk, _FREE_BYTES)
    code, out, err = demo(monkeypatch, capsys, small_disk)
    assert code == 1
    shown = json.loads(out)
    folder = Path(shown["run_folder"])
    assert err.startswith(f"error: cannot write {folder}/events.spool: No space left on device; free some space")
    assert err.rstrip().endswith(f"(everything taken is in {folder})")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "No space left" in manifest["trouble"]
    result = json.loads((folder / "result.json").read_text())
    assert result["partial"] is True
    assert result["successes"] == shown["successes"] > 100
    # What was announced and not recorded does not count, and neither do its slots.
    account = manifest["accounting"]["receiver"]["success"]
    assert account["not_recorded"] > 0
    assert account["sent"] == account["received"] + account["not_recorded"]
    assert manifest["choices_end_slot"] == result["end_slot"]
    assert abs(result["gain_sigma"]) < 4
    recorded = read_announcements(folder)
    assert len(recorded.between(result["first_slot"], result["end_slot"])) == result["successes"]
    assert all(station.get("system.state") & 0b11 == 0 for station in relay.now.stations.values())
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["event"] == "done"
    assert not (folder / "reserve").exists()


def test_a_disk_without_any_space_loses_no_result(monkeypatch, capsys, small_disk, relay):
    """Even what was kept back is taken: what cannot be written is said, and the result is printed."""
    monkeypatch.setattr(RunFolder, "release_reserve", lambda folder: None)
    relay.on_start = lambda: fill(small_disk, _FREE_BYTES)
    code, out, err = demo(monkeypatch, capsys, small_disk)
    assert code == 1
    shown = json.loads(out)
    folder = Path(shown["run_folder"])
    assert "Traceback" not in err
    for name in ("events.spool", "manifest.json"):
        assert f"{folder / name}: No space left on device" in err
    assert shown["successes"] > 100
    assert any("clicks.png: " in warning for warning in shown["warnings"])
    assert shown["plots"] == []
    assert not list(folder.glob("*.part"))
    assert len(read_announcements(folder)) >= shown["successes"]


def test_a_disk_that_is_full_at_once_is_left_as_it_was(small_disk):
    fill(small_disk, _FREE_BYTES)
    with pytest.raises(RunFolderError, match=r"cannot make .*: No space left on device; choose another output folder"):
        RunFolder.create(small_disk, "test", "x = 1\n")
    assert not list(small_disk.glob("*/reserve"))


def test_a_file_that_may_not_grow_ends_the_run_in_order(relay, tmp_path):
    """As a quota would: here for any user, where a file system cannot be mounted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    relay.on_start = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (_FREE_BYTES, hard))
    text = demo_text(slots=10_000_000_000, output=str(tmp_path), seed=5)
    try:
        outcome = execute(parse_config(text), text)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder = Path(outcome.folder)
    assert outcome.trouble.startswith(f"cannot write {folder}/events.spool: File too large")
    assert outcome.result["successes"] > 100
    assert abs(outcome.result["gain_sigma"]) < 4
    assert len(read_announcements(folder)) >= outcome.result["successes"]


def test_a_plot_that_cannot_be_written_is_a_warning(monkeypatch, capsys, relay, tmp_path):
    text = demo_text(slots=800_000, output=str(tmp_path), seed=5)
    outcome = execute(parse_config(text), text)
    folder = Path(outcome.folder)
    (folder / "gains.png").symlink_to("/dev/full")
    warnings = []
    config = load_config(folder / "config.toml")
    written = plot_run(folder, config, outcome.manifest, outcome.result, warnings.append)
    assert sorted(Path(path).name for path in written) == ["clicks.png", "fringe.png"]
    (warning,) = warnings
    assert warning.startswith(f"cannot write {folder}/gains.png: ")
    assert warning.endswith("the result is complete without it")


def test_lines_that_the_log_could_not_take_are_counted_and_do_not_come_back(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = RunFolder.create(tmp_path, "test", "x = 1\n")
    folder.log("before")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        folder.log("lost", text="a" * 100)
        folder.log("lost too", text="b" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    folder.log("after")
    folder.log("last")
    folder.close()
    lines = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["before", "after", "last"]
    assert [line.get("lines_lost_before") for line in lines] == [None, 2, None]


def test_half_a_draw_is_cut_off_again(tmp_path):
    path = tmp_path / "alice.draws"
    store = DrawStore(path=path)
    slots, draws = np.arange(10, dtype=np.uint64), np.arange(10, dtype=np.uint16)
    store.add(slots[:5], draws[:5])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (52, hard))
    try:
        with pytest.raises(RunFolderError, match=r"cannot write .*alice.draws: File too large; free some space"):
            store.add(slots[5:], draws[5:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size == 40
    store.add(slots[5:], draws[5:])
    entries = np.fromfile(path, "<u8")
    np.testing.assert_array_equal(entries >> np.uint64(16), slots)


def test_an_error_of_the_system_is_told_in_words(monkeypatch, capsys, tmp_path):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("qrelay.commands.run_text", refuse)
    code, out, err = demo(monkeypatch, capsys, tmp_path)
    assert (code, out) == (1, "")
    assert err == f"error: [Errno 13] Permission denied: '{tmp_path}'\n"
