"""Seeds in parallel: how many at once, order of reports, failures, stage of a log."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from qrelay_boards.seed_runs import NEXTPNR_BYTES, default_jobs, free_bytes, run_seeds, stage_of
from qrelay_boards.toolchain import ToolError, run_tool


def until(condition, timeout_s=120):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("seeds", "processors", "gigabytes", "jobs"),
    [(5, 2, 20, 2), (1, 8, 20, 1), (5, 8, 5, 3), (5, 8, 0.5, 1), (5, 8, 20, 5), (5, 8, None, 5)],
)
def test_default_jobs(monkeypatch, seeds, processors, gigabytes, jobs):
    memory = None if gigabytes is None else int(gigabytes * 1e9)
    monkeypatch.setattr("qrelay_boards.seed_runs.free_bytes", lambda: memory)
    assert default_jobs(seeds, processors) == jobs


def test_free_memory_is_plausible():
    memory = free_bytes()
    if not Path("/proc/meminfo").exists():
        assert memory is None
    else:
        assert NEXTPNR_BYTES / 100 < memory < 1e14


def finished(seeds, run, jobs, heartbeat_s=60.0, log_of=lambda seed: Path("no-such-log")):
    done, said = {}, []
    run_seeds(
        seeds,
        run,
        jobs=jobs,
        log_of=log_of,
        done=done.__setitem__,
        progress=said.append,
        heartbeat_s=heartbeat_s,
    )
    return done, said


def test_every_seed_once_and_at_most_so_many_at_once():
    lock, together, most, calls = threading.Lock(), 0, 0, []
    both = threading.Barrier(2, timeout=20)

    def run(seed, stop):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
            calls.append(seed)
        both.wait()
        with lock:
            together -= 1
        return 10.0 * seed

    done, _ = finished(6, run, jobs=2)
    assert done == {seed: 10.0 * seed for seed in range(1, 7)}
    assert sorted(calls) == list(range(1, 7))
    assert most == 2


def test_after_a_failure_no_seed_begins():
    begun = []

    def run(seed, stop):
        begun.append(seed)
        raise ToolError(f"seed {seed} failed")

    with pytest.raises(ToolError, match=r"^seed 1 failed$"):
        finished(5, run, jobs=1)
    assert len(begun) < 5


def test_a_failing_seed_stops_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTPNR_ECP5", "sleep")

    def run(seed, stop):
        if seed == 2:
            raise ToolError("seed 2 failed")
        return run_tool("nextpnr-ecp5", ["600"], tmp_path, "log", stop=stop)

    with pytest.raises(ToolError, match=r"^seed 2 failed$"):
        finished(2, run, jobs=2)


def test_running_seeds_are_reported(tmp_path):
    go = threading.Event()
    said = []

    def log_of(seed):
        return tmp_path / f"seed{seed}.log"

    log_of(1).write_text("Info: Packing IOs..\nInfo: Running main analytical placer\n")

    def run(seed, stop):
        assert go.wait(20)
        return 1.0

    def progress(line):
        said.append(line)
        go.set()

    run_seeds(1, run, jobs=1, log_of=log_of, done=lambda seed, s: None, progress=progress, heartbeat_s=0.05)
    assert said[0] == "seed 1 placing (0 min)"


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("Info: constraining clock net", "reading"),
        ("Info: Packing carries...", "packing"),
        ("Info: Packing IOs..\nInfo: Running main analytical placer, max", "placing"),
        ("Info: Packing IOs..\nInfo: Running simulated annealing placer\nInfo: Routing..\n", "routing"),
    ],
)
def test_stage(tmp_path, text, stage):
    (tmp_path / "log").write_text(text)
    assert stage_of(tmp_path / "log") == stage
    assert stage_of(tmp_path / "none") == "waiting"


def test_tool_returns_its_own_processor_time(tmp_path, monkeypatch):
    """Two tools in parallel: each is charged with its own work only."""
    busy = tmp_path / "busy.py"
    busy.write_text("import time\nwhile time.process_time() < 0.4:\n    pass\n")
    monkeypatch.setenv("YOSYS", f"{sys.executable} {busy}")
    monkeypatch.setenv("ECPPACK", "sh -c 'exit 0'")
    seconds = {}

    def work(tool):
        seconds[tool] = run_tool(tool, [], tmp_path, f"{tool}.log")

    threads = [threading.Thread(target=work, args=(tool,)) for tool in ("yosys", "ecppack")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seconds["yosys"] >= 0.4
    assert seconds["ecppack"] < 0.4


def runs(pid):
    """Whether a process runs: one that has ended may wait for its parent to take notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


ENDLESS = {
    "tool": "sh -c 'echo $$ > pids; exec sleep 60'",
    "wrapper": "sh -c 'sleep 60 & echo $! $$ > pids; wait'",
}


@pytest.fixture(params=ENDLESS)
def endless(request, tmp_path, monkeypatch):
    """A tool that does not end by itself; gives its processes, once they run."""
    monkeypatch.setenv("YOSYS", ENDLESS[request.param])
    wanted = 1 + (request.param == "wrapper")

    def pids():
        file = tmp_path / "pids"
        found = file.read_text().split() if file.exists() else []
        return found if len(found) == wanted else None

    yield pids
    for pid in filter(runs, pids() or ()):
        os.kill(int(pid), signal.SIGKILL)


processes = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the list of processes")


@processes
def test_tool_that_takes_too_long_is_ended(tmp_path, endless):
    with pytest.raises(ToolError, match=r"^yosys took more than 2 s; see log$"):
        run_tool("yosys", [], tmp_path, "log", timeout_seconds=2)
    assert endless()
    until(lambda: not any(map(runs, endless())), timeout_s=10)


@processes
def test_tool_that_is_told_to_stop_is_ended(tmp_path, endless):
    class WhenItRuns(threading.Event):
        def wait(self, timeout=None):
            if endless():
                assert all(map(runs, endless()))
                self.set()
            return super().wait(timeout)

    with pytest.raises(ToolError, match=r"^yosys was stopped; see log$"):
        run_tool("yosys", [], tmp_path, "log", stop=WhenItRuns())
    until(lambda: not any(map(runs, endless())), timeout_s=10)


@processes
def test_what_a_tool_leaves_running_is_ended(tmp_path, monkeypatch):
    monkeypatch.setenv("YOSYS", "sh -c 'sleep 60 & echo $! > pid'")
    run_tool("yosys", [], tmp_path, "log")
    until(lambda: not runs((tmp_path / "pid").read_text().strip()), timeout_s=10)


BUILD = """
import sys
from qrelay.cli import main
from qrelay_boards import build
build._elaborate = lambda *arguments: (1, 0.0)
sys.argv = ["qrelay", "build", "ulx3s-85f", "--out", "out"]
main()
"""
"""The command, without the time that elaboration takes."""


@processes
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_tools_end_with_a_build_that_is_killed(tmp_path, name):
    """`kill` reaches the build alone, unlike Ctrl-C in a terminal. Nothing else of it is left either."""
    build = subprocess.Popen(
        [sys.executable, "-c", BUILD],
        cwd=tmp_path,
        # Not at once: Python notes a process only some time after it has begun.
        env=os.environ | {"YOSYS": "sh -c 'sleep 1; echo $$ > pids; exec sleep 60'"},
        stderr=subprocess.DEVNULL,
        # Tests may run under `nohup`, which has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    found = []

    def began():
        found[:] = [pid for file in tmp_path.glob("out/*/pids") for pid in file.read_text().split()]
        return found

    try:
        until(began, timeout_s=30)
        build.send_signal(getattr(signal, name))
        assert build.wait(30) > 0
    finally:
        build.kill()
    until(lambda: not runs(found[0]), timeout_s=10)
    assert (tmp_path / "out" / "yosys.messages.log").is_file()
    assert [entry for entry in (tmp_path / "out").iterdir() if entry.is_dir()] == []
