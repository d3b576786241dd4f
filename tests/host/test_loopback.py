"""The comparison of a loop-back test: lines are told apart, and every slip, loss and double edge is seen."""

import dataclasses

import numpy as np
import pytest
from fake_station import IDENTITY, FakeStation, click_words

from qrelay.bench import describe_identity
from qrelay.board import Board
from qrelay.commands_selftest import _plain, _reason, parse_wires
from qrelay.errors import ConfigError
from qrelay.loopback import TRIALS, Pattern, _clicks, compare
from qrelay.protocol.identity import Identity, Phy
from qrelay.protocol.records import RecordKind
from qrelay.protocol.status import State

PATTERN = Pattern()
LAG = 14_592
PLAIN = TRIALS[0]


def report(clicks, *, detector=1, wanted=None, **limit):
    return compare(
        PATTERN, np.sort(clicks), detector=detector, wanted_line=wanted, trial=PLAIN, expected_lag_fines=LAG, **limit
    )


@pytest.mark.parametrize("line", range(8))
def test_each_line_is_recognised(line):
    found = report(PATTERN.edges(line) + LAG, wanted=line)
    assert (found.line, found.measured_lag_fines, found.missing, found.extra) == (line, LAG, 0, 0)
    assert found.sent == found.seen > 500
    assert found.passed
    assert report(PATTERN.edges(line) + LAG).passed


@pytest.mark.parametrize("slots", [-1000, -4, -1, -0.5, 0.5, 1, 2, 4, 1000])
def test_a_slip_fails(slots):
    found = report(PATTERN.edges(3) + LAG + int(256 * slots), wanted=3)
    assert found.slip_slots == slots
    assert not found.passed


def test_the_wrong_line_fails():
    found = report(PATTERN.edges(3) + LAG, wanted=4)
    assert found.line == 3
    assert not found.passed
    assert found.slip_slots == 0


def test_lost_and_double_edges_fail():
    edges = PATTERN.edges(2) + LAG
    lost = report(np.delete(edges, 77))
    assert (lost.missing, lost.extra, lost.passed) == (1, 0, False)
    double = report(np.append(edges, edges[5] + 600))
    assert (double.missing, double.extra, double.passed) == (0, 1, False)


def test_no_clicks_and_noise_are_no_line():
    silent = report(np.zeros(0, np.int64), wanted=2)
    assert silent.line is silent.slip_slots is None
    assert silent.missing == silent.sent == len(PATTERN.edges(2))
    noise = np.random.default_rng(1).integers(0, 6 * 4096 * 256, 700)
    assert not report(noise).passed
    assert report(noise).line is None


def test_jitter_within_a_bin_is_allowed():
    """A board with fine time stamps measures edges off the grid."""
    jitter = np.random.default_rng(2).integers(-20, 21, len(PATTERN.edges(0)))
    found = report(PATTERN.edges(0) + LAG + jitter)
    assert (found.line, found.missing, found.extra) == (0, 0, 0)
    assert found.passed


def test_patterns_have_both_bins_and_every_lane():
    """Rising edges in the first and in the second bin of each lane, on every line.

    A sparse pattern has them in the first bin, and in every lane by the delays of the trials.
    """
    sparse = Pattern(sparse=True)
    for line in range(8):
        edges = PATTERN.edges(line)
        assert set((edges // 128 % 8).tolist()) == set(range(8))
        edges = sparse.edges(line)
        lanes = np.concatenate([edges // 256 + trial.line_delay_slots for trial in TRIALS]) % 4
        assert set(lanes.tolist()) == {0, 1, 2, 3}


def test_limit_of_the_lag():
    """Half a slot, or what a chain with an offset allows: 32 fines."""
    for slip in (-127, 127):
        assert report(PATTERN.edges(3) + LAG + slip, wanted=3).passed
    for slip, passed in ((-32, False), (-31, True), (31, True), (32, False)):
        found = report(PATTERN.edges(3) + LAG + slip, wanted=3, limit_fines=32)
        assert found.passed is passed
        assert _plain(found)["limit_fines"] == 32
    assert _reason(found).endswith("no delay: +0.125 slots off, allowed are less than 0.125")


def test_trials_put_each_lane_in_place_of_others():
    assert {trial.fines // 256 % 4 for trial in TRIALS} >= {0, 1, 2}
    assert any(trial.fines % 256 for trial in TRIALS)
    assert len({dataclasses.astuple(trial)[1:] for trial in TRIALS}) == len(TRIALS)


def test_wires():
    assert parse_wires(["3:0", "7:2"]) == {0: 3, 2: 7}
    with pytest.raises(ConfigError, match="--wire 8:0: give LINE:DETECTOR with line 0 to 7 and detector 0 to 3"):
        parse_wires(["8:0"])
    with pytest.raises(ConfigError, match="--wire 2:0: detector 0 has a wire already"):
        parse_wires(["1:0", "2:0"])


@pytest.mark.parametrize("phy", [Phy.TDC, Phy.TWIN_TDC])
def test_inputs_beside_chains_keep_their_two_bins(phy):
    """The identity block has one place for all detectors, and it tells of the chains."""
    mixed = dataclasses.replace(IDENTITY, phy=phy, chains=0b0101, fine_first=0, fine_step=1)
    for identity in (mixed, Identity.from_words(mixed.to_words())):
        assert [identity.fines_of(d) for d in range(4)] == [range(256), range(64, 256, 128)] * 2
    assert [IDENTITY.fines_of(d) for d in range(4)] == [range(64, 256, 128)] * 4
    shown = describe_identity(mixed)
    assert shown["detector_fines"] == [{"first": 0, "step": 1}, {"first": 64, "step": 128}] * 2
    assert describe_identity(dataclasses.replace(mixed, detectors=1))["detector_fines"] == [{"first": 0, "step": 1}]


def test_times_of_clicks_by_input():
    """A bin has its middle as fine value, a tap its time: an edge at the slot's beginning is at the same place."""
    mixed = dataclasses.replace(IDENTITY, phy=Phy.TDC, chains=0b0101, fine_first=0, fine_step=1)

    def answer(strobe):
        if strobe == "system.start":
            detectors, fines = [0, 1, 0, 1], [0, 64, 130, 192]
            station.send_records(RecordKind.CLICK, click_words([10, 10, 20, 20], detectors, fines))
            station.put("system.state", State.FINISHED)

    with FakeStation(mixed) as station, Board.open(station.url) as board:
        station.on_strobe = answer
        assert _clicks(board, 0).tolist() == [10 * 256, 20 * 256 + 130]
        station.put("events.sent_click", 0)
        assert _clicks(board, 1).tolist() == [10 * 256, 20 * 256 + 128]
