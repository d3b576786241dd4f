"""Boards with fewer lines or detectors: accepted where they suffice, refused with a reason where not."""

from dataclasses import replace

import pytest
from fake_station import IDENTITY, FakeRelay

import qrelay.bench
from qrelay.bench import Bench
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import RunError
from qrelay.modulation import sender_lines, source_lines
from qrelay.protocol.registers import window
from qrelay.wired import check_wired, lines_of

CONFIG = parse_config(demo_text(), "demo")
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


def test_bench_checks_its_stations(monkeypatch):
    relay = FakeRelay(CONFIG.twin_settings())
    monkeypatch.setattr(qrelay.bench, "start_twin", lambda config, progress, link="tcp": relay)
    base = window("identity").base
    for index, word in enumerate(ORANGECRAB.to_words()):
        relay.stations["bob"].words[base + index] = word
    with pytest.raises(RunError, match=r"^station bob \(orangecrab-85f\) has 4 lines"):
        Bench(CONFIG)
