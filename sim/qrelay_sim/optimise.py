"""Best settings of a protocol inside its constraint set.

One variable: a grid that closes in on its best point. More: differential evolution on whole populations at once, then
the same closing in on one variable at a time. Both are deterministic, and neither follows a slope: most of the space
has no key, where slopes lead nowhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.parameters import RelayParameters
from qrelay_sim.protocols.base import Block, Protocol, Settings, Variable

__all__ = ["Best", "maximise", "optimise"]

FloatArray = NDArray[np.float64]

_GRID: Final = 65
_TOLERANCE: Final = 1e-5
"""Of a variable's range: near an optimum the rate is then right to 1e-8."""
_POPULATION: Final = 14
_GENERATIONS: Final = 60
_ROUNDS: Final = 12


@dataclass(frozen=True)
class Best:
    """Best settings found and the objective there, which may be negative."""

    settings: dict[str, float]
    value: float


def optimise(
    protocol: Protocol, relay: RelayParameters, block: Block | None = None, start: Settings | None = None
) -> Best:
    """Settings with the largest key rate. `start` is a guess, for example the neighbour's best."""

    def merit(settings: Settings) -> FloatArray:
        return protocol.key_rate(relay, settings, block).merit

    return maximise(merit, protocol.variables(relay, block), start)


def maximise(
    objective: Callable[[Settings], FloatArray], variables: tuple[Variable, ...], start: Settings | None = None
) -> Best:
    """Maximise a function of arrays of settings."""

    def settings_at(points: FloatArray) -> dict[str, FloatArray]:
        return {variable.name: _value(variable, points[:, i]) for i, variable in enumerate(variables)}

    def values(points: FloatArray) -> FloatArray:
        with np.errstate(all="ignore"):
            found = np.broadcast_to(objective(settings_at(points)), len(points))
        return np.where(np.isfinite(found), found, -1e300)

    best = np.full(len(variables), 0.5)
    if len(variables) > 1:
        values(best[None, :])  # a refusal comes through from here; the evolution would hide its reason
        best = _evolve(values, variables, start)
    best, value = _close_in(values, best)
    return Best({name: float(array[0]) for name, array in settings_at(best[None, :]).items()}, value)


def _value(variable: Variable, unit: FloatArray) -> FloatArray:
    """From 0..1 to the variable's range."""
    if variable.logarithmic:
        scaled: FloatArray = variable.low * (variable.high / variable.low) ** unit
        return scaled
    return variable.low + (variable.high - variable.low) * unit


def _unit(variable: Variable, value: float) -> float:
    if variable.logarithmic:
        return float(np.log(value / variable.low) / np.log(variable.high / variable.low))
    return (value - variable.low) / (variable.high - variable.low)


def _evolve(
    values: Callable[[FloatArray], FloatArray], variables: tuple[Variable, ...], start: Settings | None
) -> FloatArray:
    from scipy.optimize import differential_evolution

    guess = None
    if start is not None and all(variable.name in start for variable in variables):
        guess = np.clip([_unit(variable, float(start[variable.name])) for variable in variables], 0.0, 1.0)
    found = differential_evolution(
        lambda unit: -values(unit.T),
        [(0.0, 1.0)] * len(variables),
        popsize=_POPULATION,
        maxiter=_GENERATIONS,
        tol=1e-7,
        rng=1,
        polish=False,
        vectorized=True,
        updating="deferred",
        x0=guess,
    )
    return np.asarray(found.x, dtype=np.float64)


def _close_in(values: Callable[[FloatArray], FloatArray], best: FloatArray) -> tuple[FloatArray, float]:
    """Best point and value; every variable in turn on a grid that shrinks around its best point."""
    alone = len(best) == 1
    value = -np.inf
    for _ in range(1 if alone else _ROUNDS):
        before = value
        for i in range(len(best)):
            low, high = (0.0, 1.0) if alone else (max(0.0, best[i] - 0.05), min(1.0, best[i] + 0.05))
            while True:
                points = np.repeat(best[None, :], _GRID, axis=0)
                points[:, i] = np.linspace(low, high, _GRID)
                found = values(points)
                k = int(np.argmax(found))
                if found[k] > value:
                    best, value = points[k], float(found[k])
                step = (high - low) / (_GRID - 1)
                if step < _TOLERANCE:
                    break
                low, high = max(0.0, points[k, i] - 2 * step), min(1.0, points[k, i] + 2 * step)
        if value - before <= 1e-7 * abs(value):
            break
    return best, value
