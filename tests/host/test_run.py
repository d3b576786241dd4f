"""Whole runs against a relay in Python. The seeds are fixed; bounds of 4 standard errors have a false-alarm rate of
6e-5 each for a new seed."""

import copy
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from relay_runs import go, text

from qrelay.analysis import analyse
from qrelay.choice_keys import ChoiceKey
from qrelay.commands import _expected_qber
from qrelay.commands_replay import replay_run
from qrelay.config import load_config, parse_config
from qrelay.errors import RunError, RunFolderError
from qrelay.plots import _fringe
from qrelay.replay import replay
from qrelay.run_folder import read_announcements


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
