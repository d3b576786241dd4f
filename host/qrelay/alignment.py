"""Start slots and delays that let every station call the same light by the same slot index.

All stations see the start pulse together, up to their start cables. A station's word of slot S leaves its slot counter
``start latency`` words after the pulse if S is its start slot; its light leaves `line_latency` and `pin_latency` words
later and reaches the node after the path delay; a hit carries the slot of the word that left the receiver's counter
`receiver_latency` words before, plus the detector delay. Offsets between stations are multiples of 8 slots (and of the
frame, where its segments differ); line delays (0 to 255) and detector delays (0 to 4095) make the rest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import ConfigError
from .protocol.identity import Identity
from .protocol.units import SLOTS_PER_BLOCK, SLOTS_PER_WORD

__all__ = ["Alignment", "StationTiming", "align"]

_LINE_DELAY_LIMIT = 255
_DETECTOR_DELAY_LIMIT = 4095
_NODE_OF_DETECTOR = (0, 0, 1, 1)


@dataclass(frozen=True)
class StationTiming:
    """Slot coordinates of one station."""

    start_slot: int
    line_delay_slots: int
    length: int
    """Slots to run from `start_slot` on; 0: no end."""


@dataclass(frozen=True)
class Alignment:
    """Slot coordinates of a run.

    `first_slot` is the first slot in which light of all stations can meet and be recorded; `end_slot` is one past the
    last, None without an end. `detector_delay_slots` holds the delay of each detector, without its trim.
    """

    stations: dict[str, StationTiming]
    detector_delay_slots: tuple[int, ...]
    first_slot: int
    end_slot: int | None

    @property
    def lead_in_slots(self) -> int:
        """Slots that the receiver counts before the first slot of the run."""
        return self.first_slot - self.stations["receiver"].start_slot


def align(
    identities: Mapping[str, Identity],
    path_delays: Mapping[str, int],
    *,
    slots: int,
    frame_slots: int = SLOTS_PER_BLOCK,
    start_delay_words: Mapping[str, int] | None = None,
    trims: Sequence[int] = (0, 0, 0, 0),
) -> Alignment:
    """Place four stations on one slot axis.

    Parameters
    ----------
    identities : of "alice", "bob", "source" and "receiver"; their latencies are used.
    path_delays : slots, by "alice_m1", "source_m1", "source_m2", "bob_m2".
    slots : length of the run, a multiple of 8; 0: no end.
    frame_slots : frame length where the segments of all stations must coincide; 8 where they need not.
    start_delay_words : by station, how many words later than the others it sees the start pulse.
    trims : extra delay of each detector in slots, already wanted by the user.

    Raises
    ------
    ConfigError
        If the paths differ by more than the delays can make up for.
    """
    step = math.lcm(SLOTS_PER_BLOCK, frame_slots)
    late = start_delay_words or {}

    def ready(name: str, after: int) -> int:
        return SLOTS_PER_WORD * (late.get(name, 0) + identities[name].start_latency + after)

    def pins(name: str) -> int:
        """Words at a sender's output pins and the receiver's input pins together."""
        inputs = [identities[one].pin_to_event - identities[one].event_latency for one in (name, "receiver")]
        return identities[name].pin_latency - inputs[0] + inputs[1]

    emits = {name: ready(name, identities[name].line_latency + pins(name)) for name in ("alice", "bob", "source")}
    records = ready("receiver", identities["receiver"].receiver_latency)
    ahead = {
        # How many slots a sender must be ahead of the source for its light to meet the source's photon of that slot.
        "alice": emits["source"] - emits["alice"] + path_delays["source_m1"] - path_delays["alice_m1"],
        "bob": emits["source"] - emits["bob"] + path_delays["source_m2"] - path_delays["bob_m2"],
    }
    source_delay = _common_line_delay(ahead, step)
    line_delay = {"source": source_delay}
    offset = {"source": 0}
    for name, slots_ahead in ahead.items():
        line_delay[name] = (slots_ahead + source_delay) % step
        # start slot of the sender relative to that of the source: negative if it must emit a slot earlier
        offset[name] = line_delay[name] - source_delay - slots_ahead
    arrival = [emits["source"] + source_delay + path_delays[path] for path in ("source_m1", "source_m2")]
    # tag = slot of the source + arrival - records + (start slot of receiver - that of source) + detector delay
    offset["receiver"] = _round_down(records - max(arrival), step)
    delays = tuple(records - arrival[node] - offset["receiver"] for node in _NODE_OF_DETECTOR)
    for detector, (delay, trim) in enumerate(zip(delays, trims, strict=False)):
        if delay + trim > _DETECTOR_DELAY_LIMIT:
            raise ConfigError(
                f"path_delay_slots: detector {detector} would need a delay of {delay} + {trim} slots, at most "
                f"{_DETECTOR_DELAY_LIMIT} are possible; make the two source paths more equal"
                + (f" or the frame of {frame_slots} slots shorter" if step > SLOTS_PER_BLOCK else "")
            )
    base = step * -(-max(-min(offset.values()), 0) // step)
    starts = {name: base + value for name, value in offset.items()}
    settled = starts["receiver"] + max(d + t for d, t in zip(delays, trims, strict=False))
    first = _round_down(max(*starts.values(), settled) + SLOTS_PER_BLOCK - 1, SLOTS_PER_BLOCK)
    end = first + slots if slots else None
    # What is still in a line's delay when a sender's run ends does not leave: it runs a little longer.
    tail = {name: -(-delay // SLOTS_PER_BLOCK) * SLOTS_PER_BLOCK for name, delay in line_delay.items()}
    stations = {
        name: StationTiming(start, line_delay.get(name, 0), 0 if end is None else end - start + tail.get(name, 0))
        for name, start in starts.items()
    }
    return Alignment(stations, delays, first, end)


def _common_line_delay(ahead: Mapping[str, int], step: int) -> int:
    """Smallest line delay of the source with which both senders need no more than their line delays."""
    for delay in range(_LINE_DELAY_LIMIT + 1):
        if all((slots + delay) % step <= _LINE_DELAY_LIMIT for slots in ahead.values()):
            return delay
    differences = ", ".join(f"{name} {slots % step}" for name, slots in ahead.items())
    raise ConfigError(
        f"path_delay_slots: modulo the frame of {step} slots, the senders are off the source by {differences} slots, "
        f"and line delays make up for {_LINE_DELAY_LIMIT}; change a path, or a frame length that divides the rest"
    )


def _round_down(value: int, step: int) -> int:
    return value // step * step
