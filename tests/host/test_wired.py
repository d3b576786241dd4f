"""Boards with fewer lines or detectors: accepted where they suffice, refused with a reason where not."""

from dataclasses import replace

import pytest
from fake_station import IDENTITY, FakeRelay, FakeStation

import qrelay.bench
from qrelay.alignment import align
from qrelay.bench import Bench
from qrelay.board import Board
from qrelay.config import FineDelays, parse_config
from qrelay.configure import configure
from qrelay.demo_config import demo_text
from qrelay.errors import RunError
from qrelay.loopback import TRIALS, _configure, loop_back, measure_offsets
from qrelay.modulation import sender_lines, source_lines
from qrelay.protocol.identity import Capability
from qrelay.protocol.windows import window
from qrelay.wired import check_wired, lines_of

CONFIG = parse_config(demo_text(), "demo")
DELAYING = replace(IDENTITY, capabilities=IDENTITY.capabilities | Capability.FINE_DELAY)
ORANGECRAB = replace(IDENTITY, board="orangecrab-85f", lines=4, detectors=1)


def test_lines_of_each_role_are_those_of_its_table():
    """No more lines than a role needs are ever high, but for the sender's frame marker."""
    assert (lines_of("alice"), lines_of("bob"), lines_of("source"), lines_of("receiver")) == (7, 7, 3, 0)
    source = int(max(source_lines()))
    assert source < 1 << 2 * lines_of("source")
    assert source >= 1 << 2 * (lines_of("source") - 1)
    used = 0
    for entry in sender_lines([3] * 8):
        used |= int(entry)
    assert used & ((1 << 2 * 7) - 1) >= 1 << 2 * 6


def test_a_small_board_is_a_source():
    check_wired("source", ORANGECRAB, CONFIG)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "alice",
            r"^station alice \(orangecrab-85f\) has 4 lines, its role needs 7: use a board with more, or this one",
        ),
        (
            "receiver",
            r"^station receiver \(orangecrab-85f\) has 1 detectors, receiver.detectors lists 4: use a board with more",
        ),
    ],
)
def test_a_small_board_is_refused_elsewhere(name, message):
    with pytest.raises(RunError, match=message):
        check_wired(name, ORANGECRAB, CONFIG)


def test_fine_delay_needs_delay_elements():
    config = CONFIG.model_copy(update={"fine_delay_taps": FineDelays(bob=(0, 0, 17))})
    with pytest.raises(
        RunError, match=r"^station bob \(fake\) has no fine delay, fine_delay_taps.bob asks .* line 2: le"
    ):
        check_wired("bob", IDENTITY, config)
    check_wired("alice", IDENTITY, config)
    check_wired("bob", DELAYING, config)


def test_fine_delay_reaches_the_registers():
    """Every line is set, also those that the run file does not list; a station that never settles is named."""
    config = CONFIG.model_copy(update={"fine_delay_taps": FineDelays(source=(3, 0, 126))})
    alignment = align(
        dict.fromkeys(("alice", "bob", "source", "receiver"), DELAYING), config.path_delays(), slots=config.slots
    )
    with FakeStation(DELAYING) as station, Board.open(station.url) as board:
        for line in range(8):
            station.put(f"fine_delay.taps_{line}", 99)
        configure(board, "source", config, alignment, None)
        assert [station.get(f"fine_delay.taps_{line}") for line in range(8)] == [3, 0, 126, 0, 0, 0, 0, 0]
        station.put("fine_delay.moving", 1)
        with pytest.raises(
            RunError, match=r"^station source: fine_delay.moving is still 1 after 2.0 s; flash the board"
        ):
            configure(board, "source", config, alignment, None)


@pytest.mark.parametrize(
    "test", [loop_back, lambda board: measure_offsets(board, {0: 0})], ids=["self-test", "measurement of offsets"]
)
def test_loop_back_has_no_taps_and_waits_for_the_elements(test, monkeypatch):
    """Taps that an earlier run has left would be part of the lag: no click is taken before they are gone."""

    class Clicks(Exception):
        pass

    def clicks(board, detector):
        assert [station.get(f"fine_delay.taps_{line}") for line in range(8)] == [0] * 8
        assert station.get("fine_delay.moving") == 0
        raise Clicks

    def settle():
        if not any(station.get(f"fine_delay.taps_{line}") for line in range(8)):
            reads.append(0)
            station.put("fine_delay.moving", len(reads) < 5)

    reads = []
    monkeypatch.setattr("qrelay.loopback._clicks", clicks)
    with FakeStation(DELAYING) as station, Board.open(station.url) as board:
        for line in range(8):
            station.put(f"fine_delay.taps_{line}", 99)
        station.put("fine_delay.moving", 1)
        station.before_read = settle
        with pytest.raises(Clicks):
            test(board)
        station.before_read = lambda: None
        station.put("fine_delay.moving", 1)
        monkeypatch.setattr("qrelay.fine_delay.SETTLE_SECONDS", 0.1)
        message = f"^station at {station.url}: fine_delay.moving is still 1 after 0.1 s; flash the board again"
        with pytest.raises(RunError, match=message):
            test(board)


def test_boards_without_delay_elements_are_not_asked_for_them():
    with FakeStation() as station, Board.open(station.url) as board:
        station.put("fine_delay.taps_0", 99)
        station.put("fine_delay.moving", 1)
        _configure(board, TRIALS[0], {})
        assert station.get("fine_delay.taps_0") == 99


def test_bench_checks_its_stations(monkeypatch):
    relay = FakeRelay(CONFIG.twin_settings())
    monkeypatch.setattr(qrelay.bench, "start_twin", lambda config, progress, link="tcp": relay)
    base = window("identity").base
    for index, word in enumerate(ORANGECRAB.to_words()):
        relay.stations["bob"].words[base + index] = word
    with pytest.raises(RunError, match=r"^station bob \(orangecrab-85f\) has 4 lines"):
        Bench(CONFIG)
