"""Key rates against distance: every protocol at its best settings, every bound, on all cores."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np

from qrelay_sim.optimise import optimise
from qrelay_sim.parameters import RelayParameters
from qrelay_sim.protocols import CURVES, Block, Bound, Protocol

__all__ = ["Point", "key_rate_point", "parse_distances", "sweep"]

_FEW: Final = 24
"""Up to so many points are done at once, without starting processes."""


@dataclass(frozen=True)
class Point:
    """One protocol at one distance. ``rate_bit_per_slot`` is 0 where there is no key; None: no finite bound."""

    distance_km: float
    protocol: str
    rate_bit_per_slot: float | None
    rate_bit_per_s: float | None
    qber: float | None
    phase_error: float | None
    gain: float | None
    intensities: dict[str, float]
    finite: dict[str, float] | None
    provenance: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain values, fields in this order."""
        return dict(self.__dict__)


def parse_distances(text: str) -> list[float]:
    """Read "300", "0:400:10" (both ends included) or "50,100,200" [km].

    Raises
    ------
    ValueError
        Naming the text and its remedy.
    """
    remedy = "give km as 300, as 50,100,200 or as first:last:step, for example 0:400:10"
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            if not (step > 0 and 0 <= first <= last < math.inf) or (last - first) / step > 10_000:
                raise ValueError
            return [first + k * step for k in range(math.floor((last - first) / step * (1 + 1e-12)) + 1)]
        distances = [float(part) for part in text.split(",")]
        if not all(0 <= distance < math.inf for distance in distances):
            raise ValueError
    except ValueError:
        raise ValueError(f"distance {text!r}: {remedy}") from None
    return distances


def key_rate_point(name: str, relay: RelayParameters, block: Block | None = None) -> Point:
    """Best key rate of one protocol, or one bound, at the relay's own length."""
    curve = CURVES[name]
    provenance: dict[str, Any] = {
        "kind": "model",
        "preset": relay.name,
        "section": curve.section,
        "source": curve.source,
        "review": curve.review,
    }
    if isinstance(curve, Bound):
        return _bound_point(curve, relay, provenance)
    return _protocol_point(curve, relay, block, provenance)


def _bound_point(bound: Bound, relay: RelayParameters, provenance: dict[str, Any]) -> Point:
    rate: float | None = bound.rate(relay)
    provenance |= {"transmittance": "fibre alone, without detectors"}
    if rate is not None and not math.isfinite(rate):
        rate = None
    per_second = None if rate is None else rate * relay.slot_rate_hz * relay.duty
    return Point(relay.total_km, bound.name, rate, per_second, None, None, None, {}, None, provenance)


def _protocol_point(
    protocol: Protocol, relay: RelayParameters, block: Block | None, provenance: dict[str, Any]
) -> Point:
    best = optimise(protocol, relay, block)
    found = protocol.key_rate(relay, {name: np.array([value]) for name, value in best.settings.items()}, block)
    rate = max(0.0, float(np.ravel(found.rate)[0]))
    provenance |= {
        "constraints": {v.name: [v.low, v.high] for v in protocol.variables(relay, block)},
        "decoys": "finite statistics of the intensities listed, taken as exact" if block else protocol.asymptotic_note,
    }
    finite = None
    if block is not None:
        finite = {
            "slots": block.slots,
            "epsilon": block.epsilon.total,
            "seconds": block.slots / (relay.slot_rate_hz * relay.duty),
            "key_bits": math.floor(rate * block.slots),
        }
    phase_error = min(max(float(np.ravel(found.phase_error)[0]), 0.0), 1.0)
    return Point(
        relay.total_km,
        protocol.name,
        rate,
        rate * relay.slot_rate_hz * relay.duty,
        float(np.ravel(found.qber)[0]),
        phase_error,
        float(np.ravel(found.gain)[0]),
        protocol.describe(best.settings),
        finite,
        provenance,
    )


def sweep(
    names: Sequence[str],
    relay: RelayParameters,
    distances_km: Sequence[float],
    block: Block | None = None,
    *,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """All protocols at all distances, ordered by protocol, then distance.

    Every point stands for itself: the same number comes out alone and in a sweep. ``on_progress(done, total)``.

    Raises
    ------
    ValueError
        For a protocol that does not exist.
    """
    unknown = [name for name in names if name not in CURVES]
    if unknown:
        raise ValueError(f"protocol {unknown[0]!r} does not exist; give one of {', '.join(CURVES)}")
    tasks = [(name, relay.for_length(distance), block) for name in names for distance in distances_km]
    workers = workers or os.cpu_count() or 1
    report = on_progress or (lambda done, total: None)
    if len(tasks) <= _FEW or workers == 1:
        points = []
        for task in tasks:
            points.append(key_rate_point(*task))
            report(len(points), len(tasks))
        return points
    return _in_processes(tasks, workers, report)


def _in_processes(
    tasks: list[tuple[str, RelayParameters, Block | None]], workers: int, report: Callable[[int, int], None]
) -> list[Point]:
    # A fresh interpreter per worker: forking a process that has threads (progress display) may hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures: list[Future[Point]] = [pool.submit(key_rate_point, *task) for task in tasks]
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            report(len(tasks) - len(waiting), len(tasks))
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
