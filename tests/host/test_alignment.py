"""The alignment against a simulation that knows only what the identity block promises."""

import random
from dataclasses import replace

import pytest
from fake_station import IDENTITY

from qrelay.alignment import align
from qrelay.errors import ConfigError

PATHS = ("alice_m1", "source_m1", "source_m2", "bob_m2")


def emission_time(identity, timing, late, slot):
    """Absolute slot at which the light of `slot` leaves, the start pulse being at 0."""
    word_of_start = late + identity.start_latency
    return (
        4 * (word_of_start + identity.line_latency + identity.pin_latency)
        + slot
        - timing.start_slot
        + (timing.line_delay_slots)
    )


def tagged(identity, timing, late, delay, time):
    """Slot index that the receiver gives to a hit at absolute slot `time`."""
    return time - 4 * (late + identity.start_latency + identity.receiver_latency) + timing.start_slot + delay


def check(identities, paths, late, frame, slots, trims=(0, 0, 0, 0)):
    alignment = align(identities, paths, slots=slots, frame_slots=frame, start_delay_words=late, trims=trims)
    step = max(frame, 8)
    at = dict(alignment.stations)
    for timing in at.values():
        assert timing.start_slot % 8 == 0
        assert timing.start_slot % step == at["source"].start_slot % step
        assert timing.start_slot >= 0
        assert 0 <= timing.line_delay_slots <= 255
    slot = alignment.first_slot
    for detector, (sender, path, source_path) in enumerate(
        [("alice", "alice_m1", "source_m1")] * 2 + [("bob", "bob_m2", "source_m2")] * 2
    ):
        delay = alignment.detector_delay_slots[detector]
        assert 0 <= delay <= 4095
        for name, way in ((sender, path), ("source", source_path)):
            arrival = emission_time(identities[name], at[name], late.get(name, 0), slot) + paths[way]
            assert tagged(identities["receiver"], at["receiver"], late.get("receiver", 0), delay, arrival) == slot
        # A hit comes out of the delay in its slot, which the receiver must not have left behind.
        assert slot - delay - trims[detector] >= at["receiver"].start_slot
    if slots:
        assert alignment.end_slot - slot == slots
        for name in ("alice", "bob", "source"):
            assert at[name].start_slot + at[name].length - at[name].line_delay_slots >= alignment.end_slot
        assert at["receiver"].start_slot + at["receiver"].length == alignment.end_slot
    assert all(timing.start_slot <= slot for timing in at.values())
    return alignment


STATIONS = ("alice", "bob", "source", "receiver")


def test_equal_arms_need_no_line_delays():
    alignment = check(dict.fromkeys(STATIONS, IDENTITY), dict.fromkeys(PATHS, 18652), {}, 8, 8000)
    assert {t.line_delay_slots for t in alignment.stations.values()} == {0}
    assert max(alignment.detector_delay_slots) < 8


@pytest.mark.parametrize("seed", range(40))
def test_any_lengths_latencies_and_cables(seed):
    dice = random.Random(seed)
    identities = {
        name: replace(
            IDENTITY,
            start_latency=dice.randrange(1, 200),
            line_latency=dice.randrange(20),
            pin_latency=dice.randrange(5),
            receiver_latency=dice.randrange(20),
        )
        for name in STATIONS
    }
    paths = {path: dice.randrange(120_000) for path in PATHS}
    paths["source_m2"] = paths["source_m1"] + dice.randrange(-2000, 2000) if paths["source_m1"] > 2000 else 0
    paths["source_m1"] = paths["source_m1"] if paths["source_m2"] else 100
    late = {name: dice.randrange(50) for name in STATIONS}
    check(identities, paths, late, 8, 8 * dice.randrange(1000))


def test_a_receiver_that_starts_last_sets_the_first_slot():
    late = {"receiver": 100}
    alignment = check(dict.fromkeys(STATIONS, IDENTITY), dict.fromkeys(PATHS, 0), late, 8, 800, (2000, 0, 0, 7))
    assert alignment.lead_in_slots >= 2000


def test_frames_of_unlike_segments_keep_their_phase():
    check(dict.fromkeys(STATIONS, IDENTITY), dict.fromkeys(PATHS, 18652), {}, 3496, 8 * 10**6)


def test_paths_that_cannot_be_made_up_for_are_refused():
    identities = dict.fromkeys(STATIONS, IDENTITY)
    with pytest.raises(
        ConfigError, match=r"detector 0 would need a delay of 49996 .* make the two source paths more equal"
    ):
        align(identities, {"alice_m1": 0, "source_m1": 0, "source_m2": 49994, "bob_m2": 49994}, slots=8)
    paths = {"alice_m1": 1000, "source_m1": 0, "source_m2": 0, "bob_m2": 2000}
    with pytest.raises(ConfigError, match="line delays make up for 255"):
        align(identities, paths, slots=8, frame_slots=4096)
