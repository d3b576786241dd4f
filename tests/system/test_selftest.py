"""`qrelay selftest` on simulated boards whose lines are wired to their own detector inputs."""

import json

import pytest
from typer.testing import CliRunner

from qrelay.cli import app
from qrelay.demo_config import demo_text
from qrelay.errors import ConfigError, RunError
from qrelay.loopback import TRIALS
from qrelay.twin_settings import LoopBack, TwinSettings
from qrelay_sim.twin import Twin
from qrelay_sim.twin.native import build_library


@pytest.fixture(scope="module")
def library():
    return build_library()


def selftest(*arguments):
    result = CliRunner().invoke(app, ["selftest", *map(str, arguments)])
    return result.exception, result.stdout


def run_file(folder, loop_back=""):
    path = folder / "wired.toml"
    path.write_text(demo_text() + loop_back)
    return path


@pytest.mark.slow
def test_every_line_passes(library):
    """Without a run file each line of the simulated boards is wired in its turn."""
    error, shown = selftest("--station", "alice", "--station", "receiver", "--json")
    assert error is None
    document = json.loads(shown)
    assert document["passed"]
    assert set(document["loop_back"]) == {"alice", "receiver"}
    for reports in document["loop_back"].values():
        assert len(reports) == 8 * len(TRIALS)
        assert {(report["line"], report["detector"]) for report in reports} == {(k, k % 4) for k in range(8)}
        assert all(report["slip_slots"] == 0 and report["passed"] for report in reports)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 2])
def test_a_slip_on_one_wire_is_found(library, tmp_path, slots):
    """A slot more on one wire fails every trial of that detector and of no other, and the exit code says so."""
    table = f"\n[twin.loop_back]\nlines = [4, 1, 7, 2]\ndelay_slots = [0, 0, {slots}, 0]\n"
    path = run_file(tmp_path, table)
    error, shown = selftest(path, "--station", "receiver", "--json")
    assert isinstance(error, RunError)
    assert f"line 7 to detector 2, no delay: +{slots} slots off" in str(error)
    document = json.loads(shown)
    assert not document["passed"]
    reports = document["loop_back"]["receiver"]
    assert [report["passed"] for report in reports] == [True, True, False, True] * len(TRIALS)
    assert {report["slip_slots"] for report in reports if report["detector"] == 2} == {slots}
    error, shown = selftest(path, "--station", "receiver")
    assert isinstance(error, RunError)
    assert shown.count("FAILED") == len(TRIALS)


@pytest.mark.slow
def test_swapped_and_missing_cables_are_named(library, tmp_path):
    path = run_file(tmp_path, "\n[twin.loop_back]\nlines = [1, 0, -1, 3]\n")
    error, shown = selftest(path, "--station", "alice", "--json", *("--wire", "0:0", "--wire", "2:2", "--wire", "3:3"))
    assert isinstance(error, RunError)
    assert "detector 0 sees line 1, not line 0" in str(error)
    by_detector = {report["detector"]: report for report in json.loads(shown)["loop_back"]["alice"]}
    assert by_detector[3]["passed"]
    assert by_detector[2]["line"] is None


@pytest.mark.slow
def test_a_station_at_its_url_says_itself_what_is_wired(library):
    """A cable of known delay, given in ns, is no slip."""
    settings = TwinSettings(loop_back=LoopBack(lines=(5, 6, 0, 2), delay_slots=(3, 3, 3, 3)))
    with Twin(settings) as twin:
        error, shown = selftest(twin.urls["bob"], "--cable-ns", 3 / 0.30452, "--json")
        assert error is None
        (reports,) = json.loads(shown)["loop_back"].values()
        assert [report["line"] for report in reports] == [5, 6, 0, 2] * len(TRIALS)
        error, _ = selftest(twin.urls["bob"])
        assert "+3 slots off" in str(error)


def test_wrong_use_is_explained(tmp_path):
    error, _ = selftest("--station", "carol")
    assert isinstance(error, ConfigError)
    assert "--station carol: there are alice, bob, source, receiver" in str(error)
    error, _ = selftest("--wire", "9:0")
    assert "--wire 9:0: give LINE:DETECTOR" in str(error)
    error, _ = selftest("socket://127.0.0.1:1", "--station", "bob")
    assert "a URL is one station" in str(error)
    path = tmp_path / "fast.toml"
    path.write_text(demo_text(fast=True))
    error, _ = selftest(path)
    assert "twin.engine = 'fast' runs no gateware" in str(error)
