"""What the host makes of histograms."""

import numpy as np
import pytest
from fake_station import FakeStation, lose_once

from qrelay.board import Board
from qrelay.commands_histogram import _print_fine
from qrelay.errors import LinkTimeout
from qrelay.histograms import HistogramsTaken, take
from qrelay.protocol.windows import window


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


@pytest.fixture
def counting():
    """A station that has counted 1000 hits: they can be read from the first swap to the second."""
    with FakeStation() as station:
        counted = [1000]

        def swap(name):
            if name == "histograms.swap":
                station.words[window("fine_counts").base] = counted.pop() if counted else 0
                station.put("histograms.swaps", station.get("histograms.swaps") + 1)

        station.on_strobe = swap
        yield station


@pytest.mark.parametrize("lost", ["answer", "request"])
def test_a_lost_packet_loses_no_counts(counting, lost):
    lose_once(counting, "histograms.swap", lost)
    with Board.open(counting.url, timeout_s=0.2) as board:
        assert take(board).fine_counts.sum() == 1000
        assert board.statistics.retries == (lost == "request")
    assert counting.get("histograms.swaps") == 1


def test_a_swap_that_never_arrives_is_told(counting):
    with Board.open(counting.url, timeout_s=0.05) as board:
        board.link.write = deaf
        with pytest.raises(LinkTimeout, match="no answer"):
            take(board)
        assert board.statistics.retries == board.link.attempts - 1
    assert counting.get("histograms.swaps") == 0


def deaf(address, words, *, once):
    assert once
    raise LinkTimeout("no answer")


def test_losses_are_told(capsys):
    _print_fine(taken(lost_fine=0))
    assert "not counted" not in capsys.readouterr().out
    _print_fine(taken(lost_fine=7))
    assert capsys.readouterr().out.endswith("hits not counted by fine (too many at once): 7\n")
