"""A run on the fast twin as a user and as all later steps meet it.

The seeds are fixed; bounds of 4 standard errors have a false-alarm rate of 6.3e-5 each for a new seed.
"""

import json
import threading
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from typer.testing import CliRunner

from qrelay.analysis import analyse
from qrelay.choice_keys import ChoiceKey
from qrelay.cli import app
from qrelay.commands import run_file
from qrelay.config import parse_config
from qrelay.demo_config import demo_text, fast_text
from qrelay.errors import ConfigError
from qrelay.run import execute
from qrelay.run_folder import RecordedAnnouncements, read_announcements


def fast(folder, *, slots=400_000_000, seed=1, add="", **changes):
    text = demo_text(slots=slots, seed=seed, output=str(folder), fast=True, length_km=changes.pop("length_km", None))
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return text + "\n" + add


def go(text, **options):
    return execute(parse_config(text), text, **options)


def choices_of(outcome):
    folder = Path(outcome.folder)
    return {
        name: ChoiceKey.from_json((folder / f"{name}.choice-key").read_bytes()).choices() for name in ("alice", "bob")
    }


def test_run_folder_is_that_of_a_run_on_boards(tmp_path):
    outcome = go(fast(tmp_path))
    folder = Path(outcome.folder)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *(
            "config.toml",
            "manifest.json",
            "events.parquet",
            "frames.parquet",
            "reference.parquet",
            "log.jsonl",
            "result.json",
        ),
        *(f"{name}.{kind}" for name in ("alice", "bob") for kind in ("choice-key", "sifted-key")),
    }
    for name in names:
        assert (folder / name).stat().st_mode & 0o777 == (0o600 if name.endswith("-key") else 0o644)
    assert json.loads((folder / "result.json").read_text()) == outcome.result
    assert json.loads((folder / "manifest.json").read_text()) == outcome.manifest
    assert not any(station["rtl"] for station in outcome.manifest["stations"].values())
    assert outcome.result["slots"] == 400_000_000
    assert outcome.result["live_slots"] == 400_000_000
    assert outcome.result["successes_not_recorded"] == 0
    assert outcome.result["partial"] is False
    assert abs(outcome.result["gain_sigma"]) < 4
    assert abs(outcome.result["qber_sigma"]) < 4
    events = pq.read_table(folder / "events.parquet")
    assert np.all(np.diff(events["slot"].to_numpy().astype(np.int64)) >= 0)
    kinds = np.bincount(events["kind"].to_numpy(), minlength=2)
    assert kinds.tolist() == [outcome.result["successes"], 20_000]
    assert sum(map(sum, outcome.manifest["click_fines"])) == 20_000


def test_replay_gives_the_same_result_from_the_whole_and_from_parts(tmp_path):
    text = fast(tmp_path)
    outcome = go(text)
    recorded = RecordedAnnouncements(outcome.folder)
    whole = read_announcements(outcome.folder)
    pieces = [type(whole)(whole.slots[k : k + 1000], whole.outcomes[k : k + 1000]) for k in range(0, len(whole), 1000)]
    for announcements in (recorded, whole, pieces):
        result, bits = analyse(parse_config(text), outcome.manifest, announcements, choices_of(outcome))
        assert result == outcome.result
        packed = {name: np.packbits(bits[name]).tobytes() for name in ("alice", "bob")}
        assert all((Path(outcome.folder) / f"{n}.sifted-key").read_bytes() == packed[n] for n in packed)


def test_phase_offset_is_found_from_parts(tmp_path):
    text = fast(
        tmp_path,
        offset=("phase_offset = 0 ", 'phase_offset = "auto" '),
        twin=("engine", "phase_offset_rad = 1.3\nengine"),
    )
    seen = []
    outcome = go(text, on_progress=seen.append)
    assert outcome.result["phase_offset"] == round(1.3 / (2 * np.pi / 16)) == seen[-1].phase_offset
    assert abs(seen[-1].errors - outcome.result["errors"]) <= 3  # audited slots
    # The fringe is shown corrected, but for a part of a step.
    fringe = np.subtract(outcome.result["fringe"]["same_sign"], outcome.result["fringe"]["opposite_sign"])
    assert abs(np.angle(fringe @ np.exp(2j * np.pi * np.arange(16) / 16))) < np.pi / 16
    assert abs(outcome.result["qber_sigma"]) < 4


@pytest.mark.parametrize(
    "add",
    [
        "phase_drift_rad_per_ms = 0.05\nphase_drift_correlation_ms = 100.0",
        "blink_on_us = 20.0\nblink_off_us = 5.0",
        "delay_drift_ps = 30.0\ndelay_drift_correlation_s = 0.0002",
        "detector_dead_slots = 0\nafterpulse_probability = 0.0\njitter_ps = 100.0",
    ],
)
def test_the_model_of_a_drifting_run_is_averaged_over_what_was_injected(tmp_path, add):
    """The drift is 1.3 s long: gain and QBER of all pairs agree with the model of what the manifest says."""
    outcome = go(fast(tmp_path, add=add))
    assert outcome.result["largest_deviation_sigma"] < 4.5
    still = go(fast(tmp_path)).result
    if "jitter" not in add:
        assert abs(outcome.result["qber_model"] - still["qber_model"]) > 0.003


def test_dead_time_vetoes_and_the_gain_stays(tmp_path):
    outcome = go(fast(tmp_path, slots=20_000_000, dead=("dead_slots = 0", "dead_slots = 9")))
    result = outcome.result
    assert 0.3 < result["live_slots"] / result["slots"] < 0.8
    assert abs(result["gain_sigma"]) < 4
    assert outcome.manifest["counters"]["vetoed"] > 0


def test_a_stopped_run_keeps_whole_parts(tmp_path):
    stop = threading.Event()
    seen = []

    def progress(now):
        seen.append(now)
        if now.slots > 500_000_000:
            stop.set()

    text = fast(tmp_path, slots=1_000_000_000_000)
    outcome = go(text, on_progress=progress, stop=stop)
    result = outcome.result
    assert result["partial"] is True
    assert outcome.manifest["stopped_by_hand"] is True
    assert outcome.trouble is None
    assert 500_000_000 < result["slots"] < 20_000_000_000
    assert result["slots"] == seen[-1].slots
    assert abs(result["gain_sigma"]) < 4
    complete = go(fast(tmp_path, slots=600_000_000))
    count = min(result["successes"], complete.result["successes"])
    one, two = (read_announcements(o.folder) for o in (outcome, complete))
    assert one.slots[: count // 2].tolist() == two.slots[: count // 2].tolist()
    assert seen[-1].sifted == pytest.approx(result["sifted"], abs=50)


def test_a_full_disk_ends_the_run_and_keeps_what_was_drawn(tmp_path, monkeypatch):
    from qrelay.errors import RunFolderError
    from qrelay.spool import Spool

    append, written = Spool.append, []

    def fail_late(spool, station, kind, words):
        written.append(len(words))
        if sum(written) > 150_000:
            raise RunFolderError("cannot write: No space left on device")
        append(spool, station, kind, words)

    monkeypatch.setattr(Spool, "append", fail_late)
    outcome = go(fast(tmp_path, slots=2_000_000_000))
    assert outcome.trouble == "cannot write: No space left on device"
    assert outcome.result["partial"] is True
    assert 0 < outcome.result["successes"] < 150_000


def test_settings_of_the_fast_twin_alone_are_refused_elsewhere():
    with pytest.raises(ConfigError, match=r"blink_off_us = 3\.0 needs the fast twin: set engine = 'fast'"):
        parse_config(demo_text() + "\nblink_off_us = 3.0\n")
    parse_config(fast_text(demo_text() + "\nblink_off_us = 3.0\n"))


def test_command_line(tmp_path):
    runner = CliRunner()
    shown = runner.invoke(
        app, ["demo", "--fast", "--slots", "200000000", "--json", "--output", str(tmp_path)], standalone_mode=False
    )
    report = json.loads(shown.stdout)
    assert [station["rtl"] for station in report["stations"].values()] == [False] * 4
    assert report["real_time_ratio"] == pytest.approx(report["slots_per_second"] / 304.52e6)
    path = tmp_path / "mine.toml"
    path.write_text(demo_text(slots=200_000_000, output=str(tmp_path)))
    again = json.loads(runner.invoke(app, ["run", str(path), "--fast", "--json"], standalone_mode=False).stdout)
    assert again["successes"] == report["successes"]
    written = tomllib.loads((Path(again["run_folder"]) / "config.toml").read_text())
    assert written["twin"]["engine"] == "fast"
    in_words = runner.invoke(app, ["run", str(path), "--fast"], standalone_mode=False)
    assert "drawn by the fast twin: no gateware was run" in in_words.stdout


def test_boards_cannot_be_fast(tmp_path):
    path = tmp_path / "boards.toml"
    text = demo_text().replace('"twin"', '"socket://127.0.0.1:1"').replace("seed = 1  ", "#")
    path.write_text(text + "\n[path_delay_slots]\nalice_m1 = 8\nsource_m1 = 8\nsource_m2 = 8\nbob_m2 = 8\n")
    with pytest.raises(ConfigError, match="the fast twin takes the place of 'twin' stations only"):
        run_file(path, fast=True, as_json=True)


# -- both twins ------------------------------------------------------------------------------------------------------


def cells(outcome):
    """Successes by setting of Alice, of Bob, phase difference and outcome."""
    found = read_announcements(outcome.folder)
    keys = choices_of(outcome)
    (a, phase_a), (b, phase_b) = keys["alice"].at(found.slots), keys["bob"].at(found.slots)
    place = ((a.astype(int) * 3 + b) * 16 + (phase_a.astype(int) - phase_b) % 16) * 4 + found.outcomes - 1
    return np.bincount(place, minlength=9 * 64)


@pytest.mark.parametrize("dead_slots", [0, 9])
def test_both_twins_agree(tmp_path, dead_slots):
    """The same run file on the RTL and on the fast twin: the same keys, and successes of one law.

    Chi-square of two samples over (setting, setting, phase difference, outcome), cells with fewer than 10 in both
    together pooled: fails for a new seed with 1e-3. Counters agree within 4.5 standard errors, 20 of them: 1.4e-4.
    """
    bright = {"mu": ("mean_photon_number = 0.016", "mean_photon_number = 0.1"), "length_km": 20.0}
    few, many = (
        fast(tmp_path, slots=slots, dead=("dead_slots = 0", f"dead_slots = {dead_slots}"), **bright)
        for slots in (2_000_000, 20_000_000)
    )
    rtl = go(few.replace('engine = "fast"', 'engine = "rtl"'))
    drawn = go(many)
    assert all(station["rtl"] for station in rtl.manifest["stations"].values())
    for name in ("alice.choice-key", "bob.choice-key"):
        assert (Path(rtl.folder) / name).read_bytes() == (Path(drawn.folder) / name).read_bytes()
    assert set(rtl.result) == set(drawn.result)
    assert set(rtl.manifest) <= set(drawn.manifest)
    assert set(rtl.manifest["counters"]) == set(drawn.manifest["counters"])
    table = np.array([cells(rtl), cells(drawn)])
    rare = table.sum(axis=0) * table[0].sum() / table.sum() < 5
    table = np.column_stack((table[:, ~rare], table[:, rare].sum(axis=1)))
    assert table.shape[1] > 100
    assert scipy.stats.chi2_contingency(table[:, table.sum(axis=0) > 0]).pvalue > 1e-3
    ratio = rtl.result["slots"] / drawn.result["slots"]
    for name, count in rtl.manifest["counters"].items():
        expected = drawn.manifest["counters"][name] * ratio
        # Clicks that a dead time leaves, and live slots, vary less than these bounds.
        if name not in ("slots", "live_slots"):
            assert abs(count - expected) <= 4.5 * np.sqrt(expected * (1 + ratio) + 1), name
    live = [outcome.result["live_slots"] / outcome.result["slots"] for outcome in (rtl, drawn)]
    assert live[0] == pytest.approx(live[1], abs=0.005 if dead_slots else 1e-12)
