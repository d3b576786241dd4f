"""The receiver's gateware in one pass over the edges: delay, dead time, gate, success table, counters, records.

Held against the golden model `qrelay_sim.golden.receiver`, bit for bit, by the tests.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RECORDS, RecordKind

from .compiled import compiled
from .frame_map import FrameMap, count_before

__all__ = ["COUNTERS", "ReceiverSettings", "detect", "sweep"]

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

_OUTCOMES = 16
COUNTERS = (
    "slots",
    "live_slots",
    "doubles",
    "vetoed",
    *(f"{name}_{d}" for name in ("singles", "dead", "gated_out", "clicks") for d in range(4)),
    *(f"outcome_{k}" for k in range(_OUTCOMES)),
)
"""Names of the counters that a sweep returns, in its order; ``outcome_0`` stays zero."""
_SLOTS, _LIVE, _DOUBLES, _VETOED = range(4)
_SINGLES, _DEAD, _GATED_OUT, _CLICKS, _OUTCOME = 4, 8, 12, 16, 20

_FINE_BIT = RECORDS[RecordKind.CLICK].offset("fine")
_DETECTOR_BIT = RECORDS[RecordKind.CLICK].offset("detector")
_PATTERN_BIT = RECORDS[RecordKind.SUCCESS].offset("pattern")
_OUTCOME_BIT = RECORDS[RecordKind.SUCCESS].offset("outcome")
_NEVER = 1 << 62
_RECORDS_PER_WORD = 4


class ReceiverSettings(NamedTuple):
    """Registers of the receiver as the kernel takes them, arrays by detector."""

    delay_fines: Integers
    """Trim in slots * 256 + fines, on top of the delay that aligns the stations."""
    dead_slots: Integers
    gate_start: Integers
    gate_width: Integers
    late_start: Integers
    late_width: Integers
    enabled: Integers
    windows: bool
    table: NDArray[np.uint8]


@compiled
def detect(
    light: Integers, edge: Integers, later: Integers, dark: tuple[Integers, Integers, Integers], dead: int
) -> tuple[Integers, Integers]:
    """Edges of one detector, and of its afterpulses.

    Light goes before a dark click in the same slot; a detector that has clicked is blind for `dead` slots. `light`,
    `edge`, `later` and the same of `dark` are what `kernels.spread` returns, ascending in slots.
    """
    dark_slots, dark_edge, dark_later = dark
    edges = np.empty(len(light) + len(dark_slots), np.int64)
    after = np.empty(len(light) + len(dark_slots), np.int64)
    count = pending = 0
    i = j = 0
    seeing_from = -_NEVER
    while i < len(light) or j < len(dark_slots):
        if j == len(dark_slots) or (i < len(light) and light[i] <= dark_slots[j]):
            slot, place, follows = light[i], edge[i], later[i]
            if j < len(dark_slots) and dark_slots[j] == slot:
                j += 1
            i += 1
        else:
            slot, place, follows = dark_slots[j], dark_edge[j], dark_later[j]
            j += 1
        if slot < seeing_from:
            continue
        seeing_from = slot + dead + 1
        edges[count] = place
        count += 1
        if follows >= 0:
            after[pending] = follows
            pending += 1
    return edges[:count], after[:pending]


@compiled
def _delayed(edges: Integers, delay: int, dead: int, hits: Integers, first: int, extra: Integers) -> tuple[int, int]:
    """Hits of one detector behind delay and dead time: first edges of a slot at the input, delayed, the first of a
    slot again. Writes ``place * 2 + live`` from ``hits[first]`` on, and to `extra` the places of second hits that the
    delay brought together; returns where both end."""
    count, extras = first, 0
    before = -_NEVER
    last = -_NEVER
    seeing_from = -_NEVER
    for edge in edges:
        # The input reports one edge per slot, the first.
        if edge >> 8 == before:
            continue
        before = edge >> 8
        place = edge + delay
        slot = place >> 8
        if slot == last:
            extra[extras] = place
            extras += 1
            continue
        last = slot
        hits[count] = place * 2
        if slot >= seeing_from:
            hits[count] += 1
            seeing_from = slot + dead + 1
        count += 1
    return count, extras


@compiled
def sweep(
    edges: tuple[Integers, Integers, Integers, Integers],
    settings: ReceiverSettings,
    quantum: FrameMap,
    begin: int,
    end: int,
    origin: int,
    record_clicks: bool,
) -> tuple[Words, Words, Integers, Integers]:
    """What the receiver makes of the ascending edges of each detector, for the slots `begin` to `end` - 1.

    Earlier edges only start dead times. Returns success records, click records (the first four of a word), counters
    as in `COUNTERS`, and the slots of all gated clicks. `origin` is the slot index of slot 0 of the arguments.
    """
    counters = np.zeros(_OUTCOME + _OUTCOMES, np.int64)
    room = len(edges[0]) + len(edges[1]) + len(edges[2]) + len(edges[3])
    hits = np.empty(room, np.int64)
    extra = np.empty(room, np.int64)
    # Detector d's hits are hits[ahead[d]:ends[d]]; due[d] is the slot of the first of them.
    ahead, ends, due = np.zeros(4, np.int64), np.zeros(4, np.int64), np.full(4, _NEVER, np.int64)
    total = 0
    for d in range(4):
        ahead[d] = ends[d] = total
        if not settings.enabled[d]:
            continue
        ends[d], extras = _delayed(edges[d], settings.delay_fines[d], settings.dead_slots[d], hits, total, extra)
        for place in extra[:extras]:
            if begin <= place >> 8 < end:
                counters[_SINGLES + d] += 1
                counters[_DEAD + d] += 1
        if ends[d] > total:
            due[d] = hits[total] >> 9
        total = ends[d]
    successes = np.empty(total, np.uint64)
    clicks = np.empty(total if record_clicks else 0, np.uint64)
    click_slots = np.empty(total, np.int64)
    n_successes = n_clicks = n_records = 0
    word = -1
    in_word = 0
    blind_until = np.full(4, -_NEVER, np.int64)
    covered = begin
    blind = 0
    counted = count_before(quantum, end) - count_before(quantum, begin)
    everything = quantum.per_frame == quantum.frame_slots
    while True:
        slot = min(min(due[0], due[1]), min(due[2], due[3]))
        if slot >= end:
            break
        inside = slot >= begin
        counts = everything or count_before(quantum, slot + 1) - count_before(quantum, slot) == 1
        veto = False
        for d in range(4):
            veto |= bool(settings.enabled[d]) and slot < blind_until[d]
        pattern = 0
        gated = 0
        for d in range(4):
            if due[d] != slot:
                continue
            hit = hits[ahead[d]]
            ahead[d] += 1
            due[d] = hits[ahead[d]] >> 9 if ahead[d] < ends[d] else _NEVER
            fine = hit >> 1 & 255
            live = hit & 1
            if inside:
                counters[_SINGLES + d] += 1
                counters[_DEAD + d] += 1 - live
            if not live:
                continue
            until = slot + 1 + settings.dead_slots[d]
            blind_until[d] = until
            if until > covered and until > slot + 1:
                first, last = max(slot + 1, covered), min(until, end)
                if last > first:
                    blind += count_before(quantum, last) - count_before(quantum, first)
                    covered = last
            early = (fine - settings.gate_start[d]) & 255 < settings.gate_width[d]
            late = not early and (fine - settings.late_start[d]) & 255 < settings.late_width[d]
            if not counts or not (early or (late and settings.windows)):
                if inside:
                    counters[_GATED_OUT + d] += 1
                continue
            pattern |= (1 if early else 2) << 2 * d if settings.windows else 1 << d
            gated += 1
            if not inside:
                continue
            counters[_CLICKS + d] += 1
            click_slots[n_clicks] = slot
            n_clicks += 1
            if record_clicks:
                absolute = slot + origin
                if absolute >> 2 != word:
                    word = absolute >> 2
                    in_word = 0
                in_word += 1
                if in_word <= _RECORDS_PER_WORD:
                    clicks[n_records] = absolute | fine << _FINE_BIT | d << _DETECTOR_BIT
                    n_records += 1
        if not inside or pattern == 0:
            continue
        counters[_DOUBLES] += gated > 1
        outcome = np.int64(settings.table[pattern])
        if outcome == 0:
            continue
        if veto:
            counters[_VETOED] += 1
            continue
        counters[_OUTCOME + outcome] += 1
        successes[n_successes] = (slot + origin) | pattern << _PATTERN_BIT | outcome << _OUTCOME_BIT
        n_successes += 1
    counters[_SLOTS] = counted
    counters[_LIVE] = counted - blind
    return successes[:n_successes], clicks[:n_records], counters, click_slots[:n_clicks]
