"""What a relay needs for a finite key: the limit of each parameter with the others as they are, and which one limits.

Each parameter is looked at through its imperfection u, a number that is better the smaller it is: g2 itself, 1 - M,
1/brightness and so on. The limit is where the best settings just leave no key; its ratio to the present u says how much
worse the parameter may get (above 1) or how much better it must get (below 1).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.optimise import Best, optimise
from qrelay_sim.parameters import RelayParameters
from qrelay_sim.protocols import Block, Protocol, protocol

__all__ = [
    "KNOBS",
    "Design",
    "DesignMap",
    "Knob",
    "Requirement",
    "design",
    "design_map",
    "largest_useful_g2",
    "limiting",
]

FloatArray = NDArray[np.float64]
Case = tuple[RelayParameters, Block]

_STEPS: Final = 14
"""Halvings of a range of at most 40 e-folds: the limit to better than 1 %."""


@dataclass(frozen=True)
class Knob:
    """A parameter by its imperfection, between `best` and `worst`."""

    name: str
    unit: str
    get: Callable[[RelayParameters, Block], float]
    to_value: Callable[[float], float]
    put: Callable[[RelayParameters, Block, float], Case]
    best: float
    worst: float


def _field(name: str) -> Callable[[RelayParameters, Block, float], Case]:
    def put(relay: RelayParameters, block: Block, value: float) -> Case:
        change: dict[str, Any] = {name: value}
        return dataclasses.replace(relay, **change), block

    return put


def _dark(relay: RelayParameters, block: Block, value: float) -> Case:
    if relay.timing is None:
        return dataclasses.replace(relay, dark_count_per_gate=value), block
    rate = value / (relay.timing.gate_width_ps * 1e-12)
    return dataclasses.replace(relay, timing=dataclasses.replace(relay.timing, dark_counts_per_s=rate)), block


def _overlap(relay: RelayParameters, block: Block, value: float) -> Case:
    return dataclasses.replace(relay, overlap=value, node_overlaps=None), block


def _slots(relay: RelayParameters, block: Block, value: float) -> Case:
    return relay, dataclasses.replace(block, slots=value)


def _same(u: float) -> float:
    return u


def _one_minus(u: float) -> float:
    return 1 - u


def _inverse(u: float) -> float:
    return 1 / u


KNOBS: Final = (
    Knob("g2", "", lambda r, b: r.g2, _same, _field("g2"), 1e-6, 1.0),
    Knob("overlap", "", lambda r, b: 1 - r.overlap, _one_minus, _overlap, 1e-6, 1.0),
    Knob(
        "source_mean_photons",
        "per slot",
        lambda r, b: 1 / max(r.source_mean_photons, 1e-9),
        _inverse,
        _field("source_mean_photons"),
        1.0,
        1e6,
    ),
    Knob("dark_count_per_gate", "", lambda r, b: r.dark_probability, _same, _dark, 1e-14, 0.1),
    Knob(
        "phase_residual_rms_rad",
        "rad",
        lambda r, b: r.phase_residual_rms_rad,
        _same,
        _field("phase_residual_rms_rad"),
        1e-4,
        3.0,
    ),
    Knob("eta_d", "", lambda r, b: 1 / max(r.eta_d, 1e-9), _inverse, _field("eta_d"), 1.0, 1e6),
    Knob("slots", "", lambda r, b: 1 / b.slots, _inverse, _slots, 1e-20, 1e-3),
)


@dataclass(frozen=True)
class Requirement:
    """One parameter: where it is, where it must be.

    ``needed`` is None if even the best value leaves no key. ``factor`` is the ratio of the imperfections, needed over
    present: how much worse it may get, or, below 1, must become better. ``rate_if_best`` is the rate [bit per slot]
    with this parameter alone at its best.
    """

    parameter: str
    unit: str
    value: float
    needed: float | None
    factor: float | None
    rate_if_best: float


@dataclass(frozen=True)
class Design:
    """A relay, a block, and what each parameter needs."""

    relay: RelayParameters
    block: Block
    protocol: str
    best: Best
    requirements: tuple[Requirement, ...]

    @property
    def rate(self) -> float:
        """Bit per slot, 0 without key."""
        return max(0.0, self.best.value)


@dataclass(frozen=True)
class DesignMap:
    """Best rate [bit per slot] over g2 and M, ``rate[i, j]`` at ``overlap[i]`` and ``g2[j]``; 0 without key."""

    overlap: FloatArray
    g2: FloatArray
    rate: FloatArray


def limiting(found: Design) -> str | None:
    """Say which parameter limits, None if no single one gives a key.

    With a key: the one whose imperfection may grow by the smallest factor. Without: of those that alone would do, the
    one that has to improve least.
    """
    with_limit = [r for r in found.requirements if r.factor is not None]
    if not with_limit:
        return None
    return min(with_limit, key=lambda r: abs(math.log(r.factor or 1.0))).parameter


def design(
    name: str,
    relay: RelayParameters,
    block: Block,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Design:
    """Limits of all parameters at the relay's own length. Raises ValueError for an unknown protocol."""
    best = optimise(protocol(name), relay, block)
    tasks = [(name, relay, block, knob.name) for knob in KNOBS]
    requirements = _spread(_requirement, tasks, workers, on_progress)
    return Design(relay, block, name, best, tuple(requirements))


def design_map(
    name: str,
    relay: RelayParameters,
    block: Block,
    overlaps: FloatArray,
    g2s: FloatArray,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> DesignMap:
    """Best finite rate over a grid of g2 (rising) and M."""
    protocol(name)
    tasks = [(name, relay, block, float(overlap), tuple(g2s.tolist())) for overlap in overlaps]
    rows = _spread(_map_row, tasks, workers, on_progress)
    return DesignMap(overlaps, g2s, np.array(rows))


def largest_useful_g2(name: str, relay: RelayParameters, block: Block) -> float:
    """g2 above which even an overlap of 1 leaves no key; 0 if none does."""
    perfect = dataclasses.replace(relay, overlap=1.0, node_overlaps=None)
    return _requirement(name, perfect, block, "g2").needed or 0.0


def _requirement(name: str, relay: RelayParameters, block: Block, knob_name: str) -> Requirement:
    knob = next(knob for knob in KNOBS if knob.name == knob_name)
    scheme = protocol(name)

    def at(u: float) -> Best:
        return optimise(scheme, *knob.put(relay, block, knob.to_value(u)))

    now = knob.get(relay, block)
    ideal = at(knob.best)
    limit = _limit(lambda u: at(u).value > 0, max(now, knob.best), knob.best, knob.worst, ideal.value > 0)
    needed = None if limit is None else knob.to_value(limit)
    factor = None if limit is None or now <= 0 else limit / now
    return Requirement(knob.name, knob.unit, knob.to_value(now), needed, factor, max(0.0, ideal.value))


def _limit(works: Callable[[float], bool], now: float, best: float, worst: float, best_works: bool) -> float | None:
    """Largest imperfection with a key, None if there is none; starts from the present one."""
    if not best_works:
        return None
    low, high = math.log(best), math.log(worst)
    if works(now):
        low = math.log(now)
        if works(worst):
            return worst
    else:
        high = math.log(now)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if works(math.exp(middle)) else (low, middle)
    return math.exp(low)


def _map_row(name: str, relay: RelayParameters, block: Block, overlap: float, g2s: tuple[float, ...]) -> list[float]:
    scheme: Protocol = protocol(name)
    rates: list[float] = []
    start: dict[str, Any] | None = None
    for g2 in g2s:
        # More multi-photon events never help: the first g2 without a key ends the row.
        if rates and rates[-1] == 0.0:
            rates.append(0.0)
            continue
        best = optimise(scheme, dataclasses.replace(relay, g2=g2, overlap=overlap, node_overlaps=None), block, start)
        rates.append(max(0.0, best.value))
        start = dict(best.settings)
    return rates


def _spread(
    work: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    workers: int,
    on_progress: Callable[[int, int], None] | None,
) -> list[Any]:
    """Results of all tasks in their order, from several processes if there are to be several."""
    report = on_progress or (lambda done, total: None)
    if workers == 1:
        results = []
        for task in tasks:
            results.append(work(*task))
            report(len(results), len(tasks))
        return results
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = [pool.submit(work, *task) for task in tasks]
        for done, _ in enumerate(as_completed(futures), start=1):
            report(done, len(tasks))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
