"""All clicks of all detectors, through the receiver's gateware rules."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RECORDS, RecordKind

from .cells import Cell, Choices, Stream, draw_light, draw_reference_light, seed_of
from .frame_records import frame_words
from .kernels import rare_places, spread
from .parts import Drifted, Part, fringes_of
from .plan import Plan
from .receiver_sweep import detect, sweep
from .success_part import drifted_in

__all__ = ["click_part"]

Integers = NDArray[np.int64]
Clicks = tuple[Integers, Integers, Integers, Integers]
_OUTCOME = np.uint64(RECORDS[RecordKind.SUCCESS].offset("outcome"))
_SLOT = np.uint64((1 << 48) - 1)
_NONE = np.zeros(0, np.int64)


def click_part(
    plan: Plan, choices: Choices, cells: Sequence[Cell], before: Sequence[Cell], after: Sequence[Cell]
) -> Part:
    """Records of consecutive cells; `before` and `after` are neighbours whose clicks reach into them."""
    span = [*before, *cells, *after]
    light: list[Clicks] = []
    dark: list[Clicks] = []
    drifted: list[Drifted] = []
    for cell in span:
        clicks, moved = _light_clicks(plan, choices, cell)
        light.append(clicks)
        dark.append(_dark_clicks(plan, cell))
        if cell in cells:
            drifted.append(moved)
    edges = tuple(_edges(plan, light, dark, d) for d in range(4))
    begin, end = cells[0].first, cells[-1].last
    wanted = plan.config.events.clicks != "off" and (not plan.direct or begin < plan.sample_end)
    successes, clicks_found, counters, click_slots = sweep(
        (edges[0], edges[1], edges[2], edges[3]), plan.receiver, plan.quantum, begin, end, plan.origin, wanted
    )
    outcomes = (successes >> _OUTCOME & np.uint64(15)).astype(np.uint8)
    slots = (successes & _SLOT).astype(np.int64) - plan.origin
    fringes = fringes_of(plan.config, outcomes, *choices.at(slots))
    return Part(
        begin + plan.origin,
        end + plan.origin,
        successes,
        clicks_found,
        _frames(plan, begin, end, slots, click_slots),
        counters,
        fringes,
        tuple(drifted),
    )


def _light_clicks(plan: Plan, choices: Choices, cell: Cell) -> tuple[Clicks, Drifted]:
    light = draw_light(plan, choices, cell, plan.light)
    slots, patterns = light.slots, light.patterns
    if plan.reference.per_frame:
        bright = draw_reference_light(plan, cell)
        slots, patterns = np.concatenate((slots, bright.slots)), np.concatenate((patterns, bright.patterns))
        order = np.argsort(slots, kind="stable")
        slots, patterns = slots[order], patterns[order]
    return _spread(plan, cell, slots, patterns, (Stream.TIMING, Stream.AFTERPULSES), stray=False), drifted_in(
        plan, cell, light
    )


def _dark_clicks(plan: Plan, cell: Cell) -> Clicks:
    probability = plan.optics.dark_count_per_slot
    rng = np.random.default_rng(seed_of(plan, Stream.DARK, cell))
    places = rare_places(rng, probability, 4 * (cell.last - cell.first))
    slots = cell.first + (places >> 2)
    streams = (Stream.DARK_TIMING, Stream.DARK_AFTERPULSES)
    return _spread(plan, cell, slots, np.left_shift(1, places & 3), streams, stray=True)


def _spread(
    plan: Plan, cell: Cell, slots: Integers, patterns: Integers, streams: tuple[Stream, Stream], *, stray: bool
) -> Clicks:
    optics = plan.optics
    fines_per_ps = 256 * optics.parameters.slot_rate_hz * 1e-12
    place = (
        optics.pulse_fine + 0.5,
        optics.jitter_ps * fines_per_ps,
        optics.tail_ps * fines_per_ps,
        256 // optics.fine_bins,
    )
    after = (float(optics.afterpulse_probability), float(optics.afterpulse_decay_slots), optics.dead_slots)
    timing, afterpulse = (np.random.default_rng(seed_of(plan, stream, cell)) for stream in streams)
    return spread(timing, afterpulse, slots, patterns, stray, place, after)


def _edges(plan: Plan, light: list[Clicks], dark: list[Clicks], d: int) -> Integers:
    """Ascending edges of one detector in all cells, afterpulses included."""
    seen, dark_seen = (
        tuple(np.concatenate([clicks[k][clicks[0][d] : clicks[0][d + 1]] for clicks in source]) for k in (1, 2, 3))
        for source in (light, dark)
    )
    edges, after = detect(seen[0], seen[1], seen[2], (dark_seen[0], dark_seen[1], dark_seen[2]), plan.optics.dead_slots)
    if len(after):
        # An afterpulse in the slot of a click is lost in it.
        after = after[~np.isin(after >> 8, edges >> 8)]
        edges = np.concatenate((edges, after))
    if len(after) or plan.coupled:
        edges = np.sort(edges)
    return edges


def _frames(plan: Plan, begin: int, end: int, successes: Integers, clicks: Integers) -> NDArray[np.uint64]:
    """Records of the frames that end in this part; cells begin where frames begin."""
    mode = plan.config.events.frames
    length = plan.layout.slots
    if mode == "off":
        return np.zeros(0, np.uint64)
    first, last = begin // length, end // length
    count = last - first
    frames = np.arange(first, last)
    of_clicks = np.bincount(clicks // length - first, minlength=count)[:count]
    of_successes = np.bincount(successes // length - first, minlength=count)[:count]
    if mode == "with_success":
        kept = of_successes > 0
        frames, of_clicks, of_successes = frames[kept], of_clicks[kept], of_successes[kept]
    return frame_words(frames, of_clicks, of_successes)
