"""Runs on boards whose receiver has carry chains: what is refused, set back, and kept of the chains."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_station import IDENTITY, FakeRelay
from matplotlib.figure import Figure
from test_cli import call

from qrelay import bench, plots
from qrelay.bench import Bench
from qrelay.board import Board
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import RunError
from qrelay.live_view import print_summary
from qrelay.loopback import TRIALS, _configure
from qrelay.protocol.identity import Capability, Phy
from qrelay.protocol.registers import register
from qrelay.protocol.windows import window
from qrelay.run import execute
from qrelay.tdc_board import calibrated_detectors
from qrelay.tdc_calibration import SPARE_CODES, calibrate

CHAINED = replace(
    IDENTITY,
    board="chained",
    phy=Phy.TDC,
    chains=0b0101,
    fine_first=0,
    fine_step=1,
    build_id=0x1122,
    capabilities=IDENTITY.capabilities & ~Capability.SIMULATED,
)


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def relay():
    made = FakeRelay(parse_config(demo_text(), "demo").twin_settings())
    base = window("identity").base
    for index, word in enumerate(CHAINED.to_words()):
        made.stations["receiver"].words[base + index] = word
    yield made
    made.close()


def run_text(relay, folder, detectors=4):
    """The demo on boards at URLs, with some of the four detectors."""
    text = demo_text(slots=400_000, output=str(folder)).replace("\nseed = 1  ", "\n# ", 1)
    for name, url in relay.urls.items():
        text = text.replace(f'\n{name} = "twin"', f'\n{name} = "{url}"', 1)
    paths = parse_config(demo_text(), "demo").path_delays()
    listed = "\n".join(f"{name} = {slots}" for name, slots in paths.items())
    names = ("m1_plus", "m1_minus", "m2_plus", "m2_minus")[:detectors]
    named = "\n".join(f'[[receiver.detectors]]\nname = "{name}"' for name in names)
    if detectors < 4:
        text = text.replace('"one-per-node"', '"any"')
    return text.replace("[sifting] ", f"{named}\n[path_delay_slots]\n{listed}\n\n[sifting] ")


def hold_calibration(relay, *detectors):
    """As `qrelay calibrate` leaves the chains."""
    for d in detectors:
        relay.stations["receiver"].put(f"tdc.high_from_{d}", 24)
        relay.stations["receiver"].put(f"tdc.low_from_{d}", 25)


def test_no_calibration_has_the_settings_of_reset():
    """From the fewest codes that are no wider than a tap may be, to the most that a chain leaves room for."""
    reset = {name: register(f"tdc.{name}_0")[1].reset for name in ("high_from", "low_from")}
    assert reset == {"high_from": 1, "low_from": 36}
    for codes in range(16, 288 - 8 - SPARE_CODES + 1):
        counts = np.zeros(512, np.int64)
        counts[:codes] = 10_000
        found = calibrate(counts)
        assert (found.high_from, found.low_from) != (1, 36)
        assert found.high_from > 1
        assert found.low_from < 36


@pytest.mark.parametrize(("held", "bare"), [((), "0, 2"), ((0,), "2"), ((2,), "0")])
def test_a_run_with_a_chain_that_is_not_calibrated_is_refused(relay, tmp_path, held, bare):
    hold_calibration(relay, *held)
    url = relay.urls["receiver"]
    message = (
        rf"^station receiver \(chained\): the carry chain of detector {bare} is not calibrated, .*"
        rf"`qrelay calibrate {url} --out tdc.json` .* `qrelay calibrate {url} --load tdc.json`"
    )
    text = run_text(relay, tmp_path)
    with pytest.raises(RunError, match=message):
        execute(parse_config(text), text)
    assert not list(tmp_path.glob("*-demo"))
    assert relay.stations["receiver"].get("tdc.oscillator_0") == 0


def test_chains_of_detectors_that_the_run_leaves_out_do_not_matter(relay, tmp_path):
    hold_calibration(relay, 0)
    with Bench(parse_config(run_text(relay, tmp_path, detectors=2))) as opened:
        assert opened.calibrated == {"alice": (), "bob": (), "source": (), "receiver": (0,)}


def test_the_manifest_and_info_tell_which_chains_are_calibrated(relay, tmp_path, monkeypatch, capsys):
    hold_calibration(relay, 0, 2)
    text = run_text(relay, tmp_path)
    outcome = execute(parse_config(text), text)
    assert outcome.trouble is None
    stations = outcome.manifest["stations"]
    assert stations["receiver"]["calibrated_chains"] == [0, 2]
    assert stations["alice"]["calibrated_chains"] == []
    hold = relay.stations["receiver"].put
    hold("tdc.high_from_2", 1)
    hold("tdc.low_from_2", 36)
    code, out, _ = call(monkeypatch, capsys, "info", relay.urls["receiver"], "--json")
    assert code == 0
    assert json.loads(out)["calibrated_chains"] == [0]
    with Board.open(relay.urls["receiver"]) as board:
        assert calibrated_detectors(board) == (0,)


def test_simulated_boards_are_calibrated_before_they_are_checked(relay, monkeypatch):
    """Their chains are as those of a board that has just been loaded."""
    measured = []

    def measure(board, progress):
        measured.append(board.url)
        if board.url == relay.urls["receiver"]:
            hold_calibration(relay, 0, 2)

    monkeypatch.setattr(bench, "start_twin", lambda config, progress, link="tcp": relay)
    monkeypatch.setattr(bench, "measure", measure)
    with Bench(parse_config(demo_text(), "demo")) as opened:
        assert opened.calibrated["receiver"] == (0, 2)
    assert measured == list(relay.urls.values())


def leave_on_the_oscillator(station):
    """As a calibration whose link went down leaves a station."""
    for d in range(4):
        station.put(f"tdc.oscillator_{d}", 1)
    station.put("tdc.run", 1)


def test_a_run_and_a_self_test_see_the_pads(relay, tmp_path):
    """Whatever a calibration has left that could not end. Detectors without a chain are not asked."""
    hold_calibration(relay, 0, 2)
    receiver = relay.stations["receiver"]
    leave_on_the_oscillator(receiver)
    text = run_text(relay, tmp_path)
    assert execute(parse_config(text), text).trouble is None
    sources = [receiver.get(f"tdc.oscillator_{d}") for d in range(4)]
    assert (sources, receiver.get("tdc.run")) == ([0, 1, 0, 1], 0)
    leave_on_the_oscillator(receiver)
    with Board.open(receiver.url) as board:
        _configure(board, TRIALS[0], {})
    sources = [receiver.get(f"tdc.oscillator_{d}") for d in range(4)]
    assert (sources, receiver.get("tdc.run")) == ([0, 1, 0, 1], 0)


def test_closer_hits_are_kept_and_told(relay, tmp_path, monkeypatch, capsys):
    """Of the chains that the run uses, in counters and result; a warning only where there are any."""
    hold_calibration(relay, 0, 2)
    receiver = relay.stations["receiver"]
    for d, (closer, singles, clicks) in enumerate([(1234, 5678, 4321), (7, 80, 70), (0, 900, 800), (9, 9, 9)]):
        receiver.put(f"tdc.extra_{d}", closer)
        receiver.put(f"counters.singles_{d}", singles)
        receiver.put(f"counters.clicks_{d}", clicks)
    path = tmp_path / "chains.toml"
    path.write_text(run_text(relay, tmp_path))
    code, out, err = call(monkeypatch, capsys, "run", path, "--json")
    assert code == 0, err
    shown = json.loads(out)
    expected = {
        "0": {"name": "m1_plus", "closer": 1234, "placed": 5678, "clicks": 4321},
        "2": {"name": "m2_plus", "closer": 0, "placed": 900, "clicks": 800},
    }
    folder = Path(shown["run_folder"])
    assert shown["closer_hits"] == json.loads((folder / "result.json").read_text())["closer_hits"] == expected
    counters = json.loads((folder / "manifest.json").read_text())["counters"]
    assert {name: n for name, n in counters.items() if "extra" in name} == {"extra_0": 1234, "extra_2": 0}
    print_summary(shown)
    words = " ".join(capsys.readouterr().out.split())
    assert "warning: 1,234 hits of detector 0 (m1_plus) came closer than two slots to another" in words
    assert "5,678 hits have a time, of which 4,321 are clicks" in words
    assert "detector 2" not in words


def test_clicks_of_chains_and_gearboxes_in_one_plot(relay, tmp_path):
    """Every click is in one bar of its detector: 256 of a chain, two of a gearbox."""
    hold_calibration(relay, 0, 2)
    text = run_text(relay, tmp_path)
    outcome = execute(parse_config(text), text)
    counts = np.random.default_rng(1).integers(0, 9, (4, 256))
    axes = Figure().add_subplot()
    plots._clicks(axes, parse_config(text), outcome.manifest | {"click_fines": counts.tolist()}, outcome.result)
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
    assert [len(of_detector) for of_detector in heights] == [256, 2, 256, 2]
    assert heights[0] == counts[0].tolist()
    assert heights[1] == [counts[1, :128].sum(), counts[1, 128:].sum()]
    assert axes.get_xticks().tolist() == [64, 192]
