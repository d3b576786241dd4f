"""What drifts: exact samples of slow processes at any slots, cell by cell, whatever cells are simulated where.

Each process has its state at the borders of the cells (the knots) drawn in order from a stream of its own. Inside a
cell it is drawn at the slots asked for, given the states at both borders. As all processes are Markov, the result has
exactly the law of one long path, and cells can be simulated in any order.

* Phase difference: its slope is an Ornstein-Uhlenbeck process (physics.md section 8.5), the phase its integral.
* Delay errors of the two nodes: Ornstein-Uhlenbeck, stationary from the start.
* Blinking: the source is on or off for exponential times.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

__all__ = ["blinking_path", "delay_path", "integrated_covariance", "phase_path"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@compiled
def integrated_covariance(u: float) -> tuple[float, float, float]:
    """Covariances after a time u of an Ornstein-Uhlenbeck process x of unit variance and its integral y, both known
    at 0: xx, xy, yy; times in units of the correlation time."""
    m = -math.expm1(-u)
    xx = -math.expm1(-2 * u)
    xy = m * m
    # Below 0.01 the closed form loses all its digits; the next term of the series is 1e-2 u^6.
    yy = 2 * u - 2 * m - m * m if u > 0.01 else u**3 * (2 / 3 - u / 2 + 7 * u * u / 30 - u**3 / 12)
    return xx, xy, yy


@compiled
def phase_path(
    rng: Any,
    slots: Integers,
    begin: int,
    end: int,
    left: tuple[float, float],
    right: tuple[float, float],
    rms: float,
    correlation: float,
) -> Floats:
    """Phase [rad] at ascending slots of a cell.

    `left` and `right` are (slope, phase) at slots `begin` and `end`; slope in rad per correlation time, of
    rms `rms`; `correlation` in slots. A free path from `left` on is bent to end at `right`: for Gaussian processes that
    is the law given both ends.
    """
    count = len(slots)
    phases = np.empty(count)
    length = (end - begin) / correlation
    slope, phase = left[0] / rms, 0.0
    at = begin
    for i in range(count + 1):
        now = slots[i] if i < count else end
        u = (now - at) / correlation
        if u > 0:
            xx, xy, yy = integrated_covariance(u)
            one, two = rng.standard_normal(), rng.standard_normal()
            root = math.sqrt(xx)
            phase += -math.expm1(-u) * slope + xy / root * one + math.sqrt(max(yy - xy * xy / xx, 0.0)) * two
            slope = math.exp(-u) * slope + root * one
        at = now
        if i < count:
            phases[i] = phase
    xx, xy, yy = integrated_covariance(length)
    miss_x = right[0] / rms - slope
    miss_y = (right[1] - left[1]) / rms - phase
    determinant = xx * yy - xy * xy
    pull_x = (yy * miss_x - xy * miss_y) / determinant
    pull_y = (xx * miss_y - xy * miss_x) / determinant
    for i in range(count):
        u = (slots[i] - begin) / correlation
        xx, xy, yy = integrated_covariance(u)
        rest = length - u
        fade, reach = math.exp(-rest), -math.expm1(-rest)
        phases[i] = left[1] + rms * (phases[i] + pull_x * xy * fade + pull_y * (xy * reach + yy))
    return phases


@compiled
def delay_path(
    rng: Any, slots: Integers, begin: int, end: int, left: float, right: float, rms: float, correlation: float
) -> Floats:
    """Values at ascending slots of a stationary Ornstein-Uhlenbeck process, known at `begin` and `end`."""
    values = np.empty(len(slots))
    x = left / rms
    goal = right / rms
    at = begin
    for i in range(len(slots)):
        u = (slots[i] - at) / correlation
        v = (end - slots[i]) / correlation
        ahead, behind = math.exp(-u), math.exp(-v)
        # Prior from the left, then the end seen through the rest of the cell.
        prior, rest = -math.expm1(-2 * u), -math.expm1(-2 * v)
        gain = prior * behind / (prior * behind * behind + rest)
        mean = ahead * x + gain * (goal - behind * ahead * x)
        x = mean + math.sqrt(max(prior * (1 - gain * behind), 0.0)) * rng.standard_normal()
        values[i] = x * rms
        at = slots[i]
    return values


@compiled
def blinking_path(
    rng: Any, slots: Integers, begin: int, end: int, left: int, right: int, rate: float, on_probability: float
) -> NDArray[np.uint8]:
    """State (1 on, 0 off) at ascending slots of a telegraph process, known at `begin` and `end`.

    The process is one that is drawn anew, on with `on_probability`, at times of a Poisson process of `rate` per slot.
    Given the ends, only whether there is such a time, and what the last one draws, are constrained.
    """
    states = np.full(len(slots), left, np.uint8)
    length = float(end - begin)
    never = math.exp(-rate * length)
    if left == right:
        again = on_probability if right == 1 else 1 - on_probability
        if rng.random() * (never + (1 - never) * again) < never:
            return states
    first = begin - math.log1p(-rng.random() * (1 - never)) / rate
    state = left
    last_run = len(slots)
    renewed = False
    at = float(begin)
    for i in range(len(slots)):
        now = float(slots[i])
        if renewed:
            drawn = rng.random() < -math.expm1(-rate * (now - at))
        else:
            drawn = now >= first
            renewed = drawn
        if drawn:
            state = 1 if rng.random() < on_probability else 0
            last_run = i
        states[i] = state
        at = now
    # Without a renewal behind the last slot, its state is the one at the end.
    if renewed and rng.random() >= -math.expm1(-rate * (end - at)):
        for i in range(last_run, len(slots)):
            states[i] = right
    return states
