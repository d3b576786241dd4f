"""Whole runs against a relay in Python: run files, and what the relay is made to do."""

from collections import deque

from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.run import execute


def text(tmp_path, slots=40_000_000, **changes):
    made = demo_text(slots=slots, output=str(tmp_path), seed=5)
    for old, new in changes.values():
        assert old in made
        made = made.replace(old, new)
    return made


def go(run_text, **options):
    return execute(parse_config(run_text), run_text, **options)


def left_on(relay):
    """Stations that are armed or running."""
    return [name for name, station in relay.now.stations.items() if station.get("system.state") & 0b11]


def keep_back(station, packets):
    """The link of `station` is slow: its last `packets` packets of successes are on their way."""
    waiting = deque()

    def mangle(packet):
        if packet[1] != 0x40:
            return packet
        waiting.append(packet)
        return b"".join(waiting.popleft() for _ in range(len(waiting) - packets))

    station.mangle = mangle
