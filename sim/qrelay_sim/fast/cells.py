"""A cell: a part of a run with random streams of its own, and the light in it."""

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qrelay.choice_keys import SENDERS

from .frame_map import FrameMap, count_before, to_slots
from .kernels import choose, rare_places
from .keystream import Keystream
from .light_tables import Selection
from .plan import Plan
from .slow_knots import SlowKnots, SlowPath, SlowState, slow_path

__all__ = ["Cell", "Choices", "Kind", "Light", "Stream", "cells_of", "draw_light", "draw_reference_light", "seed_of"]

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class Kind(IntEnum):
    """What is drawn in a cell."""

    CLICKS = 0
    SUCCESSES = 1


class Stream(IntEnum):
    """Random streams of a cell; those of the knots have no cell."""

    PHASE_KNOTS = 0
    DELAY_KNOTS = 1
    BLINK_KNOTS = 2
    CANDIDATES = 3
    MARKS = 4
    REFERENCE_CANDIDATES = 5
    REFERENCE_MARKS = 6
    TIMING = 7
    AFTERPULSES = 8
    DARK = 9
    DARK_TIMING = 10
    DARK_AFTERPULSES = 11
    PHASE = 12
    DELAY_1 = 13
    DELAY_2 = 14
    BLINK = 15
    TOTALS = 16


class Cell(NamedTuple):
    """Slots `first` to `last` - 1, relative to the plan's origin, of a cell from `begin` to `end`."""

    kind: Kind
    number: int
    begin: int
    end: int
    first: int
    last: int
    left: SlowState
    right: SlowState


def seed_of(plan: Plan, stream: Stream, cell: Cell | None = None) -> np.random.SeedSequence:
    """Seed of one stream: of a cell, or of the whole run."""
    place = () if cell is None else (int(cell.kind), cell.number)
    return np.random.SeedSequence(plan.config.twin.seed, spawn_key=(int(stream), *place))


def cells_of(plan: Plan) -> Iterator[Cell]:
    """All cells of a run in order: single clicks first, where they are wanted, then successes where they suffice."""
    streams = (Stream.PHASE_KNOTS, Stream.DELAY_KNOTS, Stream.BLINK_KNOTS)
    knots = SlowKnots(plan.slow, tuple(seed_of(plan, stream) for stream in streams), plan.first)
    at = plan.first
    while plan.end is None or at < plan.end:
        kind = Kind.SUCCESSES if plan.direct and at >= plan.sample_end else Kind.CLICKS
        length = plan.success_cell if kind == Kind.SUCCESSES else plan.click_cell
        number = at // length
        end = (number + 1) * length
        left = knots.state
        # The knots do not depend on where the run ends.
        right = knots.advance(end)
        yield Cell(kind, number, at, end, at, end if plan.end is None else min(end, plan.end), left, right)
        at = end


class Choices:
    """Choices of both senders as codes ``setting << 4 | phase``. One of these for each thread."""

    def __init__(self, plan: Plan) -> None:
        self._origin = plan.origin
        self._keystream = Keystream([plan.keys[name] for name in SENDERS])

    def at(self, slots: Integers) -> tuple[Bytes, Bytes]:
        """Codes of Alice and of Bob at slots relative to the plan's origin."""
        code_a, code_b = self._keystream.codes(slots, self._origin)
        return code_a, code_b


class Light(NamedTuple):
    """Events of light in a cell: ascending slots, patterns, codes of both senders, and what drifted meanwhile."""

    slots: Integers
    patterns: Integers
    code_a: Bytes
    code_b: Bytes
    candidates: Integers
    """Slots of all candidates, which are evenly spread over the quantum segments of the cell."""
    path: SlowPath
    """At the candidates; empty if there was none."""


_NONE, _NO_BYTES, _NO_FLOATS = np.zeros(0, np.int64), np.zeros(0, np.uint8), np.zeros(0)
_NO_LIGHT = Light(_NONE, _NONE, _NO_BYTES, _NO_BYTES, _NONE, SlowPath(_NO_BYTES, _NO_FLOATS, _NO_FLOATS, _NO_FLOATS))


def draw_light(plan: Plan, choices: Choices, cell: Cell, selection: Selection) -> Light:
    """Events of `selection` in the quantum segments of a cell."""
    # Drawn and drifting to the cell's end, also where the run ends before: a longer run begins like a shorter one.
    slots = _candidates(plan, cell, selection.bound, plan.quantum, Stream.CANDIDATES)
    streams = (Stream.PHASE, Stream.DELAY_1, Stream.DELAY_2, Stream.BLINK)
    seeds = tuple(seed_of(plan, stream, cell) for stream in streams)
    path = slow_path(plan.slow, seeds, slots, cell.begin, cell.end, cell.left, cell.right)
    inside = int(np.searchsorted(slots, cell.last))
    if not inside:
        return _NO_LIGHT
    slots = slots[:inside]
    return _thin(plan, cell, selection, slots, *choices.at(slots), path.before(inside), Stream.MARKS)


def draw_reference_light(plan: Plan, cell: Cell) -> Light:
    """Clicks of light in the reference segments of a cell."""
    selection = plan.reference_light
    slots = _candidates(plan, cell, selection.bound, plan.reference, Stream.REFERENCE_CANDIDATES)
    slots = slots[: int(np.searchsorted(slots, cell.last))]
    begins = plan.reference.begins
    place = slots % plan.layout.slots
    segment = np.searchsorted(begins, place, side="right") - 1
    step = (place - begins[segment]) // plan.config.frame.step_slots % len(plan.step_codes)
    codes = plan.step_codes[step]
    # Without the source no pattern depends on phase or overlap.
    path = SlowPath(np.zeros(1, np.uint8), np.zeros(1), np.ones(1), np.ones(1))
    return _thin(plan, cell, selection, slots, codes, codes, path, Stream.REFERENCE_MARKS)


def _candidates(plan: Plan, cell: Cell, bound: float, kind: FrameMap, stream: Stream) -> Integers:
    if kind.per_frame == 0:
        return np.zeros(0, np.int64)
    before = count_before(kind, cell.first)
    places = count_before(kind, cell.end) - before
    rng = np.random.default_rng(seed_of(plan, stream, cell))
    return to_slots(kind, rare_places(rng, bound, places), before)


def _thin(
    plan: Plan,
    cell: Cell,
    selection: Selection,
    slots: Integers,
    code_a: Bytes,
    code_b: Bytes,
    path: SlowPath,
    stream: Stream,
) -> Light:
    index, patterns = choose(
        np.random.default_rng(seed_of(plan, stream, cell)),
        selection.bound,
        selection.patterns,
        selection.terms,
        selection.row_bound,
        code_a,
        code_b,
        *path,
    )
    return Light(slots[index], patterns, code_a[index], code_b[index], slots, path)
