"""Histograms on board in a run of the twin: exact sums against the counters, and the light's second-order coherence.

The seed is fixed. With a new one, the bounds of 5 standard errors together fail in 3e-6 of all runs.
"""

import json

import numpy as np
import pytest
from test_twin import go

from qrelay.bench import start_twin
from qrelay.board import Board
from qrelay.cli import main
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.plots import plot_run
from qrelay.protocol.status import State

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fine", ["clicks", "hits"])
def test_a_run_counts_every_click(tmp_path, fine):
    text = demo_text(slots=4_000_000, seed=3, dead_slots=2, length_km=120, output=str(tmp_path))
    text += f'\n[histograms]\nfine = "{fine}"\nlag = [0, 2]\n'
    outcome = go(text)
    counters, taken = outcome.manifest["counters"], outcome.manifest["histograms"]
    source = "clicks" if fine == "clicks" else "singles"
    counts = np.array(taken["fine_counts"])
    assert counts.sum(axis=1).tolist() == [counters[f"{source}_{d}"] for d in range(4)]
    assert counts.sum() > 5_000
    assert set(np.flatnonzero(counts.sum(axis=0))) <= {64, 192}
    assert (taken["clicks_a"], taken["clicks_b"]) == (counters["clicks_0"], counters["clicks_2"])
    assert (taken["lost_a"], taken["lost_b"], taken["lost_fine"]) == (0, 0, 0)
    assert 4 * taken["counted_words"] == counters["slots"]
    assert taken["live_slots"] == counters["live_slots"]

    # Without a phase reference between slots, clicks of different slots are independent. The receiver starts some words
    # before the light does: clicks are denser in the lit slots than in all that count.
    alignment = outcome.manifest["alignment"]
    lit = (alignment["end_slot"] - alignment["first_slot"]) / counters["slots"]
    g2, error = np.array(taken["g2"]), np.array(taken["g2_std"])
    apart = np.abs(np.arange(-512, 513)) > 0
    mean_error = 1 / np.sqrt(np.array(taken["lag_counts"])[apart].sum())
    assert abs(g2[apart].mean() * lit - 1) < 5 * mean_error
    # The source sends single photons, which click at one of the nodes only.
    assert g2[512] + 5 * error[512] < 0.5
    assert g2.shape == error.shape == (1025,)
    plots = plot_run(outcome.folder, parse_config(text), outcome.manifest, outcome.result)
    assert {"fine-histogram.png", "g2.png"} <= {path.rpartition("/")[2] for path in plots}


def test_command_counts_an_idle_station(monkeypatch, capsys, tmp_path):
    with start_twin(parse_config(demo_text(slots=1_000_000, seed=1, output=str(tmp_path))), lambda _: None) as twin:
        url = twin.urls["receiver"]
        with Board.open(url) as board:
            board.write_many(
                {"receiver.pulser_period": 16, "receiver.pulser_mask": 0b0101, "receiver.pulser_fine": 200}
            )
        taken = {}
        for fine in ("hits", "clicks"):
            command = ["histogram", url, "--seconds", "0.5", "--fine", fine, "--lag", "0", "--lag", "2", "--json"]
            monkeypatch.setattr("sys.argv", ["qrelay", *command])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code
            taken[fine] = json.loads(capsys.readouterr().out)
        with Board.open(url) as board:
            assert board.state() & (State.ARMED | State.RUNNING) == State(0)
    for fine, values in taken.items():
        assert values["fine"] == fine
        counts = np.array(values["fine_counts"])
        pulses = values["words"] / 16
        # The pulser begins where it likes, and dark counts are rarer than one in the time of counting.
        assert pulses > 100
        for detector, expected in enumerate((pulses, 0, pulses, 0)):
            assert counts[detector].sum() == pytest.approx(expected, abs=3)
            assert counts[detector].sum() - counts[detector][200] <= 2
        lags = np.array(values["lag_counts"])
        assert lags[512] == pytest.approx(pulses, abs=3)
        # From a pulse to the one before and the one after, and to no slots between.
        peaks = np.arange(0, 1025, 64)
        assert lags[peaks].min() > lags[512] - 12
        assert np.delete(lags, peaks).sum() <= 2 * 17
