"""What the host makes of histograms."""

import numpy as np
import pytest

from qrelay.commands_histogram import _print_fine
from qrelay.histograms import HistogramsTaken


def taken(**changes):
    lag = np.full(1025, 100, np.int64)
    lag[512] = 0
    values = {
        "fine_counts": np.ones((4, 256), np.int64),
        "lag_counts": lag,
        "words": 600_000,
        "counted_words": 500_000,
        "live_slots": 1_900_000,
        "clicks_a": 10_000,
        "clicks_b": 20_000,
        "lost_a": 0,
        "lost_b": 1,
        "lost_fine": 3,
    }
    return HistogramsTaken(**(values | changes))


def test_g2_is_pairs_over_those_of_independent_clicks():
    g2, error = taken().g2()
    assert g2[0] == pytest.approx(100 / (10_000 * 20_000 / 2_000_000))
    assert g2[512] == 0
    assert (error[0], error[512]) == pytest.approx((0.1, 0.01))
    assert taken().lags[[0, 512, 1024]].tolist() == [-512, 0, 512]


def test_parts_add_up():
    total = taken() + taken()
    assert (total.words, total.lost_b, total.clicks_b, total.lost_fine) == (1_200_000, 2, 40_000, 6)
    assert total.fine_counts.sum() == 2048
    assert total.g2()[0][0] == pytest.approx(0.5 * taken().g2()[0][0] * 2)


def test_without_clicks_there_is_no_g2():
    nothing = taken(clicks_a=0).to_json()
    assert nothing["g2"] is None
    assert np.isnan(taken(counted_words=0).g2()[0]).all()


def test_losses_are_told(capsys):
    _print_fine(taken(lost_fine=0))
    assert "not counted" not in capsys.readouterr().out
    _print_fine(taken(lost_fine=7))
    assert capsys.readouterr().out.endswith("hits not counted by fine (too many at once): 7\n")
