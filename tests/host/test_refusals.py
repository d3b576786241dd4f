"""Each cause of a refused arm has its own words and its own remedy."""

from dataclasses import replace

import pytest
from fake_station import IDENTITY, FakeRelay, FakeStation

import qrelay.bench
from qrelay.board import Board
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import RunError
from qrelay.protocol.identity import Capability, Entropy
from qrelay.protocol.status import Alarm, State
from qrelay.refusals import REFUSALS, why_refused
from qrelay.run import execute

_READY = State.CLOCK_LOCKED | State.KEYSTREAM_READY | State.NONCE_FRESH
_HEALTHY = 3
_CAUSES = {
    "no clock": ({"system.state": State(0)}, "its clock is not locked: connect its reference clock"),
    "no key": ({"system.state": State.CLOCK_LOCKED}, "its keystream has no key: start the run again"),
    "stale nonce": (
        {"system.state": State.CLOCK_LOCKED | State.KEYSTREAM_READY, "keystream.nonce": 77},
        "its nonce 77 is not larger than all that were used under this key: start the run again",
    ),
    "start-up test": (
        {"entropy.required": 1, "entropy.health": 1},
        "its noise source has not passed the start-up test: see `qrelay entropy health socket://",
    ),
    "failed source": (
        {"entropy.required": 1, "entropy.health": 5, "entropy.failed_at": 4711},
        "its noise source is not healthy, repetition count test failed at sample 4711: see `qrelay entropy health",
    ),
    "key of the host": (
        {"entropy.on_board": 1},
        "its key was made by the host, and entropy.on_board = 1 asks for one made by the station: start the run again",
    ),
    "key of the station": (
        {"entropy.key_state": 2},
        "its key was made by the station, and entropy.on_board = 0 asks for one made by the host: start the run again",
    ),
    "gone": ({}, "nothing stands against it any more; its state bits: keystream ready, nonce fresh, clock locked"),
}


def refused(station, alarms=Alarm.ARM_REFUSED, **registers):
    """What is said of a station with these registers, which could be armed otherwise."""
    ready = {"system.state": _READY, "keystream.enable": 1, "entropy.health": _HEALTHY}
    for register, value in (ready | registers).items():
        station.put(register, value)
    with Board.open(station.url, timeout_s=0.5) as board:
        return why_refused("bob", board, alarms)


@pytest.mark.parametrize("cause", _CAUSES)
def test_a_refused_arm_says_its_cause_and_only_that(cause):
    registers, words = _CAUSES[cause]
    registers = {"keystream.enable": 0} | registers if cause == "no clock" else registers
    with FakeStation() as station:
        told = refused(station, **registers)
    assert told.startswith(f"station bob: arm refused ({words}")
    assert "cable by a few ns" not in told
    assert ";" not in told or cause in ("stale nonce", "gone")


def test_causes_that_hold_together_are_all_told():
    with FakeStation() as station:
        told = refused(station, **{"system.state": State(0), "entropy.required": 1, "entropy.health": 1})
    for words in ("its clock is not locked", "its keystream has no key", "has not passed the start-up test"):
        assert words in told


def test_what_a_station_lacks_is_told():
    lacking = replace(
        IDENTITY, entropy=Entropy.HOST, capabilities=IDENTITY.capabilities - Capability.EXTERNAL_REFERENCE
    )
    with FakeStation(lacking) as station:
        registers = {"system.state": State.NONCE_FRESH, "entropy.required": 1, "entropy.health": 0}
        told = refused(station, **registers)
    assert "its clock is not locked: power it up again" in told
    assert "it has no noise source: build its bitstream with --rings" in told


def test_other_refusals():
    with FakeStation() as station:
        told = refused(station, REFUSALS, **{"timebase.start_place": 7, "entropy.stopped_slot": 96})
    assert "start refused (start pulse seen in bin 7 of its word; bins 0 and 7 are too close" in told
    assert "its keystream was not ready and choices stopped at slot 96 (start the run again)" in told


def test_a_run_tells_why_a_station_does_not_arm(monkeypatch, tmp_path):
    class NoClock(FakeRelay):
        def _strobe(self, name, strobe):
            if (name, strobe) == ("bob", "system.arm"):
                self._state(name, off=State.CLOCK_LOCKED)
                self.stations[name].put("system.alarms", Alarm.ARM_REFUSED)
            else:
                super()._strobe(name, strobe)

    monkeypatch.setattr(
        qrelay.bench, "start_twin", lambda config, progress, *, link="tcp": NoClock(config.twin_settings())
    )
    text = demo_text(slots=800_000, output=str(tmp_path))
    with pytest.raises(RunError, match=r"^station bob: arm refused \(its clock is not locked: connect its reference "):
        execute(parse_config(text), text)
