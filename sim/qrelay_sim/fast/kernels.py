"""Compiled loops over candidates and clicks. Times are slots from the origin of the frames, see `frame_map`."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

__all__ = ["choose", "rare_places", "spread"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
_TURN = 2 * math.pi / 16


@compiled
def rare_places(rng: Any, probability: float, places: int) -> Integers:
    """Offsets of independent events of one probability in a row of places, ascending, by their geometric gaps."""
    expected = probability * places
    found = np.empty(int(expected + 6 * math.sqrt(expected)) + 16, np.int64)
    count = 0
    if probability <= 0:
        return found[:0]
    scale = -1 / math.log1p(-probability) if probability < 1 else 0.0
    place = -1
    while True:
        gap = rng.standard_exponential() * scale
        # Compared as floats first: a gap of a tiny probability may not fit an integer.
        if gap >= places - place:
            break
        place += int(gap) + 1
        if place >= places:
            break
        if count == len(found):
            longer = np.empty(2 * count, np.int64)
            longer[:count] = found
            found = longer
        found[count] = place
        count += 1
    return found[:count]


@compiled
def choose(
    rng: Any,
    bound: float,
    patterns: Integers,
    terms: Floats,
    row_bound: Floats,
    code_a: Bytes,
    code_b: Bytes,
    source_on: Bytes,
    phase_error: Floats,
    factor_1: Floats,
    factor_2: Floats,
) -> tuple[Integers, Integers]:
    """Thin candidates of rate `bound` down to events with the probability of their own slot.

    Returns the indices of the candidates that are events, and their patterns. `code_a`, `code_b` are
    ``setting << 4 | phase``; `source_on`, `phase_error`, `factor_1` and `factor_2` hold one value for all candidates
    or one for each.
    """
    count = len(code_a)
    index = np.empty(count, np.int64)
    pattern = np.empty(count, np.int64)
    kept = 0
    switching, moving, drifting = len(source_on) > 1, len(phase_error) > 1, len(factor_1) > 1
    linear = np.any(terms[1] != 0) or np.any(terms[2] != 0)
    grid = np.empty(16)
    for k in range(16):
        grid[k] = math.cos(_TURN * k + phase_error[0])
    on = int(source_on[0])
    f1 = factor_1[0]
    f2 = factor_2[0]
    f12 = math.sqrt(f1 * f2)
    for i in range(count):
        mark = rng.random() * bound
        if switching:
            on = int(source_on[i])
        row = on << 6 | (int(code_a[i]) >> 4) << 3 | int(code_b[i]) >> 4
        if mark >= row_bound[row]:
            continue
        steps = (int(code_a[i]) - int(code_b[i])) & 15
        cosine = math.cos(_TURN * steps + phase_error[i]) if moving else grid[steps]
        if drifting:
            f1 = factor_1[i]
            f2 = factor_2[i]
            f12 = math.sqrt(f1 * f2)
        for k in range(len(patterns)):
            mark -= terms[0, row, k] + terms[3, row, k] * f12 * cosine
            if linear:
                mark -= terms[1, row, k] * f1 + terms[2, row, k] * f2
            if mark < 0:
                index[kept] = i
                pattern[kept] = patterns[k]
                kept += 1
                break
    return index[:kept], pattern[:kept]


@compiled
def spread(
    timing: Any,
    afterpulse: Any,
    slots: Integers,
    patterns: Integers,
    stray: bool,
    place: tuple[float, float, float, int],
    after: tuple[float, float, int],
) -> tuple[Integers, Integers, Integers, Integers]:
    """Clicks of the detectors of each pattern: when the light came, and where the edge lies.

    Parameters
    ----------
    stray : the edge is uniform in the slot (dark counts).
    place : (centre, rms of the jitter, mean of the tail, width of a bin) in fines.
    after : (probability, mean delay in slots beyond the dead time, dead slots) of afterpulses.

    Returns
    -------
    starts : detector d has the clicks ``starts[d]`` to ``starts[d + 1]`` of the other arrays
    light : slot of the light
    edge : place of the edge in fines, the slot of light being ``light * 256``
    afterpulse : slot of the afterpulse's edge * 256 + fine, -1 for none
    """
    centre, jitter, tail, width = place
    chance, decay, dead = after
    starts = np.zeros(5, np.int64)
    for pattern in patterns:
        for d in range(4):
            starts[d + 1] += pattern >> d & 1
    for d in range(4):
        starts[d + 1] += starts[d]
    total = starts[4]
    light = np.empty(total, np.int64)
    edge = np.empty(total, np.int64)
    later = np.full(total, -1, np.int64)
    free = starts.copy()
    for i in range(len(slots)):
        for d in range(4):
            if not patterns[i] >> d & 1:
                continue
            k = free[d]
            free[d] += 1
            if stray:
                position = 256 * timing.random()
            else:
                position = centre
                if jitter > 0:
                    position += jitter * timing.standard_normal()
                if tail > 0:
                    position += tail * timing.standard_exponential()
            fine = math.floor(position / width) * width + width // 2
            light[k] = slots[i]
            edge[k] = slots[i] * 256 + fine
            if chance > 0:
                # Three numbers for each click, whatever comes of it: a later click does not depend on dead time.
                hit = afterpulse.random() < chance
                delay = int(afterpulse.standard_exponential() * decay)
                inside = int(afterpulse.random() * (256 // width)) * width + width // 2
                if hit:
                    later[k] = (slots[i] + dead + 1 + delay) * 256 + inside
    return starts, light, edge, later
