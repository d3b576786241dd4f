"""Successes drawn directly at the slots where they happen, everything else as totals."""

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.records import RECORDS, RecordKind
from qrelay_sim.click_model import PATTERNS

from .cells import Cell, Choices, Light, Stream, draw_light, seed_of
from .frame_map import count_before
from .frame_records import frame_words
from .light_tables import PAIRS, SOURCES
from .parts import Drifted, Part, fringes_of
from .plan import Plan
from .receiver_sweep import COUNTERS

__all__ = ["drifted_in", "success_part"]

_PATTERN = np.uint64(RECORDS[RecordKind.SUCCESS].offset("pattern"))
_OUTCOME = np.uint64(RECORDS[RecordKind.SUCCESS].offset("outcome"))
_BITS = np.arange(PATTERNS)[:, None] >> np.arange(4) & 1
_PHASES_PER_CELL = 1024


def success_part(plan: Plan, choices: Choices, cell: Cell) -> Part:
    """Successes of one cell, where the plan allows to draw them directly."""
    light = draw_light(plan, choices, cell, plan.success)
    outcomes = plan.receiver.table[light.patterns]
    words = (light.slots + plan.origin).astype(np.uint64)
    words |= light.patterns.astype(np.uint64) << _PATTERN | outcomes.astype(np.uint64) << _OUTCOME
    drifted = drifted_in(plan, cell, light)
    rng = np.random.default_rng(seed_of(plan, Stream.TOTALS, cell))
    probabilities = _recorded(plan, drifted)
    slots = count_before(plan.quantum, cell.last) - count_before(plan.quantum, cell.first)
    counters = _totals(plan, cell, light, rng, probabilities, slots)
    frames = np.zeros(0, np.uint64)
    if plan.config.events.frames == "with_success":
        frames = _frames(plan, light, rng, probabilities)
    fringes = fringes_of(plan.config, outcomes, light.code_a, light.code_b)
    return Part(
        cell.first + plan.origin,
        cell.last + plan.origin,
        words,
        np.zeros(0, np.uint64),
        frames,
        counters,
        fringes,
        (drifted,),
    )


def drifted_in(plan: Plan, cell: Cell, light: Light) -> Drifted:
    """What the drifting processes did in a cell."""
    if not len(light.candidates):
        return Drifted()
    on, phase, f1, f2 = light.path
    # The same distance everywhere in the run, whatever is drawn there.
    distance = max(1, (plan.success_cell if plan.direct else plan.click_cell) // _PHASES_PER_CELL)
    marks = np.arange(-(-cell.first // distance), -(-cell.last // distance)) * distance
    nearest = np.minimum(np.searchsorted(light.candidates, marks), len(light.candidates) - 1)
    return Drifted(
        cell.last - cell.first,
        float(on.mean()),
        float(f1.mean()),
        float(f2.mean()),
        float(np.sqrt(f1 * f2).mean()),
        phase[nearest] if len(phase) > 1 else np.repeat(phase, len(marks)),
    )


def _recorded(plan: Plan, drifted: Drifted) -> NDArray[np.float64]:
    """Probability of each recorded pattern in a quantum slot, averaged over the choices and over what drifted."""
    n = plan.config.drawn_probabilities()
    weights = np.zeros((8, 8))
    weights[: len(n), : len(n)] = np.outer(n, n)
    on = drifted.source_on if drifted.slots else plan.slow.on_probability
    f1, f2 = (drifted.factor_1, drifted.factor_2) if drifted.slots else (1.0, 1.0)
    terms = plan.recorded.reshape(4, SOURCES, PAIRS, PATTERNS)
    # Every phase is drawn equally often: the term with the phase is zero on average.
    mean = terms[0] + terms[1] * f1 + terms[2] * f2
    averaged: NDArray[np.float64] = np.clip(weights.ravel() @ ((1 - on) * mean[0] + on * mean[1]), 0, 1)
    return averaged


def _not_success(plan: Plan, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of each pattern in a slot that is no success, the last entry that of no click."""
    left = np.where(plan.receiver.table[:PATTERNS] > 0, 0.0, probabilities)
    left[0] = 0
    left /= max(float(left.sum()) + float(probabilities[0]), 1e-300)
    return np.append(left, max(0.0, 1 - float(left.sum())))


def _totals(
    plan: Plan,
    cell: Cell,
    light: Light,
    rng: np.random.Generator,
    probabilities: NDArray[np.float64],
    slots: int,
) -> NDArray[np.int64]:
    """Counters of a cell. Those of single clicks follow the law of their totals, given the successes."""
    patterns = np.bincount(light.patterns, minlength=PATTERNS)
    others = rng.multinomial(slots - len(light.slots), _not_success(plan, probabilities))[:PATTERNS]
    found = patterns + others
    clicks = found @ _BITS
    counters = dict.fromkeys(COUNTERS, 0)
    counters["slots"] = counters["live_slots"] = slots
    counters["doubles"] = int(found[_BITS.sum(axis=1) > 1].sum())
    for outcome, count in enumerate(np.bincount(plan.receiver.table[light.patterns], minlength=16)):
        counters[f"outcome_{outcome}"] = int(count)
    for d in range(4):
        counters[f"clicks_{d}"] = int(clicks[d])
        if plan.receiver.enabled[d]:
            lost = _gated_out(plan, cell, rng, float(probabilities @ _BITS[:, d]), d, slots)
            counters[f"gated_out_{d}"] = lost
            counters[f"singles_{d}"] = int(clicks[d]) + lost
    return np.array(list(counters.values()), np.int64)


def _gated_out(plan: Plan, cell: Cell, rng: np.random.Generator, clicks: float, d: int, slots: int) -> int:
    """Edges of a detector that its gate, or a segment that does not count, keeps out."""
    light, dark = plan.passes_light[d], plan.passes_dark[d]
    raw_dark = plan.optics.dark_count_per_slot
    # clicks = seen * light + (1 - seen) * dark, with the probability `seen` of light at the detector
    seen = min(1.0, max(0.0, (clicks - dark) / (light - dark))) if light > dark else 0.0
    lost = int(rng.binomial(slots, min(1.0, seen * (1 - light) + (1 - seen) * max(raw_dark - dark, 0.0))))
    if plan.quantum.is_everything():
        return lost
    bright = plan.reference_light
    rest = cell.last - cell.first - slots
    reference = count_before(plan.reference, cell.last) - count_before(plan.reference, cell.first)
    lost += int(rng.binomial(rest, raw_dark))
    has = _BITS[bright.patterns, d]
    settings = plan.step_codes >> 4
    share = [float(bright.terms[0, s << 3 | s] @ has) for s in settings.astype(np.int64)]
    return lost + int(rng.binomial(reference, min(1.0, float(np.mean(share)))))


def _frames(
    plan: Plan, light: Light, rng: np.random.Generator, probabilities: NDArray[np.float64]
) -> NDArray[np.uint64]:
    """Records of the frames with a success; their other clicks follow the law of their number."""
    frames, place, successes = np.unique(light.slots // plan.layout.slots, return_inverse=True, return_counts=True)
    weight = _BITS.sum(axis=1)
    clicks = np.bincount(place, weights=weight[light.patterns], minlength=len(frames)).astype(np.int64)
    others = rng.multinomial(plan.quantum.per_frame - successes, _not_success(plan, probabilities))
    return frame_words(frames, clicks + others[:, :PATTERNS] @ weight, successes)
