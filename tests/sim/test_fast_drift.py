"""The slow processes of the fast twin have the law of one long path, whatever the cells and the slots asked for.

The seeds are fixed. Means and covariances agree with theory within 4.5 standard errors each, at most 25 per test: a new
seed fails one with 2e-4.
"""

import math
from itertools import pairwise

import numpy as np
import pytest

from qrelay_sim.fast.slow_knots import SlowKnots, SlowSettings, slow_path
from qrelay_sim.fast.slow_paths import delay_path, integrated_covariance

TAU = 1000.0
SLOTS = np.array([30, 150, 700, 1300, 2399])
CELLS = {"long": (0, 2400), "short": (0, 100, 400, 1100, 1200, 2300, 2400), "tiny": tuple(range(0, 2401, 80))}


def paths(settings, cells, runs, seed):
    """What `slow_path` gives at SLOTS (source, phase, two factors), in `runs` independent runs."""
    found = []
    for root in np.random.SeedSequence(seed).spawn(runs):
        knot_seed, *cell_seeds = root.spawn(len(cells))
        knots = SlowKnots(settings, tuple(knot_seed.spawn(3)), cells[0])
        values = []
        for cell_seed, (begin, end) in zip(cell_seeds, pairwise(cells), strict=True):
            left = knots.state
            right = knots.advance(end)
            inside = SLOTS[slice(*np.searchsorted(SLOTS, (begin, end)))]
            if len(inside):
                values.append(slow_path(settings, tuple(cell_seed.spawn(4)), inside, begin, end, left, right))
        found.append([np.concatenate(column) for column in zip(*values, strict=True)])
    return found


def assert_covariance(samples, expected):
    """`samples` [runs, points] have mean 0 and covariance `expected`."""
    runs = len(samples)
    spread = np.sqrt(np.diag(expected))
    assert np.all(np.abs(samples.mean(axis=0)) < 4.5 * spread / math.sqrt(runs))
    error = np.sqrt((np.outer(spread**2, spread**2) + expected**2) / runs)
    assert np.all(np.abs(samples.T @ samples / runs - expected) < 4.5 * error)


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("tau", [50.0, TAU, 1e7])
def test_phase_is_the_integral_of_its_slope(cells, tau):
    """Covariance of the integral y of a stationary Ornstein-Uhlenbeck process, y(0) = 0."""
    settings = SlowSettings(phase_offset_rad=0.0, phase_rms=0.3, phase_correlation=tau)
    samples = np.array([path[1] for path in paths(settings, cells, 1000, 1)])
    s, t = SLOTS[:, None] / tau, SLOTS / tau
    # At the largest tau the slope is nearly constant; the closed form would lose its digits.
    decays = 2 * np.minimum(s, t) + np.exp(-s) + np.exp(-t) - 1 - np.exp(-np.abs(s - t))
    expected = 0.09 * (s * t if tau > 1e6 else decays)
    assert_covariance(samples, expected)


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
def test_delay_errors_are_stationary(cells):
    settings = SlowSettings(delay_rms=0.4, delay_correlation=TAU)
    samples = []
    for root in np.random.SeedSequence(2).spawn(2000):
        knot_seed, path_seed = root.spawn(2)
        knots = SlowKnots(settings, tuple(knot_seed.spawn(3)), cells[0])
        rng = np.random.default_rng(path_seed)
        values = []
        for begin, end in pairwise(cells):
            left = knots.state
            right = knots.advance(end)
            inside = SLOTS[slice(*np.searchsorted(SLOTS, (begin, end)))]
            values.append(delay_path(rng, inside, begin, end, left.delay_1, right.delay_1, 0.4, TAU))
        samples.append(np.concatenate(values))
    assert_covariance(np.array(samples), 0.16 * np.exp(-np.abs(SLOTS[:, None] - SLOTS) / TAU))


def test_each_node_has_a_delay_error_of_its_own():
    """The factor of a delay error x in units of the pulse's decay time is exp(-|x|)."""
    found = paths(SlowSettings(delay_rms=0.4, delay_correlation=50.0), CELLS["long"], 1000, 2)
    sizes = -np.log(np.array([path[2:] for path in found]))
    mean, spread = 0.4 * math.sqrt(2 / math.pi), 0.4 * math.sqrt(1 - 2 / math.pi)
    assert np.all(np.abs(sizes.mean(axis=0) - mean) < 4.5 * spread / math.sqrt(len(sizes)))
    assert abs(np.corrcoef(sizes[:, 0].ravel(), sizes[:, 1].ravel())[0, 1]) < 4.5 / math.sqrt(len(sizes))


@pytest.mark.parametrize("cells", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize(("on", "off"), [(500.0, 200.0), (20_000.0, 5000.0), (3.0, 40.0)])
def test_blinking_is_a_telegraph(cells, on, off):
    settings = SlowSettings(on_time=on, off_time=off)
    samples = np.array([path[0] for path in paths(settings, cells, 1500, 3)], float)
    share = on / (on + off)
    s, t = SLOTS[:, None], SLOTS
    # P(on at both); its complement in a binomial gives the error.
    joint = share**2 + share * (1 - share) * np.exp(-np.abs(s - t) * (1 / on + 1 / off))
    found = samples.T @ samples / len(samples)
    assert np.all(np.abs(found - joint) < 4.5 * np.sqrt(joint * (1 - joint) / len(samples)) + 1e-12)


def test_covariance_of_the_integral_is_smooth_where_the_series_takes_over():
    for below, above in ((0.01 * (1 - 1e-9), 0.01 * (1 + 1e-9)),):
        for a, b in zip(integrated_covariance(below), integrated_covariance(above), strict=True):
            assert a == pytest.approx(b, rel=1e-7)
    xx, xy, yy = integrated_covariance(1.0)
    assert xx == pytest.approx(1 - math.exp(-2))
    assert xy == pytest.approx((1 - math.exp(-1)) ** 2)
    assert yy == pytest.approx(2 - 3 + 4 * math.exp(-1) - math.exp(-2))
