"""Reference light: click rates of each detector against the stated means; seeds fixed, bounds of 5 standard errors."""

import numpy as np
import pytest

from qrelay_sim.optics import OpticsSettings, RelayOptics
from qrelay_sim.parameters import RelayParameters

PARAMETERS = RelayParameters(
    name="reference",
    source_mean_photons=0.3,
    g2=0.01,
    overlap=0.95,
    eta_d=0.75,
    dark_count_per_gate=0.0,
    arms_km=(12.5, 10.0, 14.0, 12.5),
    attenuation_db_per_km=0.2,
    phase_residual_rms_rad=0.0,
)
SLOTS = 400_000
LEVELS = (0.0, 0.05, 0.2)


def settings(**changes):
    base = {"reference_photons": 0.3, "reference_visibility": 0.9, "jitter_ps": 0.0, "tail_ps": 0.0}
    return OpticsSettings(PARAMETERS, LEVELS, **(base | changes))


def clicks_by_detector(optics, level_a, level_b, phase_a, phase_b, slots=SLOTS, reference=True):
    def same(value):
        return np.full(slots, value, np.uint8)

    edges = optics.sample(
        same(level_a), same(phase_a), same(level_b), same(phase_b), np.zeros(slots, bool), np.full(slots, reference)
    )
    return np.bincount(edges.detector, minlength=4)


@pytest.mark.parametrize(("level_a", "level_b"), [(0, 0), (1, 2), (2, 1)])
def test_rates_follow_the_model(level_a, level_b):
    """16 phases, four detectors: 64 numbers of five standard errors, false alarm 4e-5 for a new seed."""
    optics = RelayOptics(settings(), seed=3)
    eta_a, left, right, eta_b = PARAMETERS.arm_transmittances
    found = np.array([clicks_by_detector(optics, level_a, level_b, p, p, 40_000) for p in range(16)])
    common = optics._reference._phase
    user = np.array([eta_a * LEVELS[level_a], eta_b * LEVELS[level_b]])
    reference = np.array([left, right]) * 0.15
    fringe = 0.9 * np.sqrt(user * reference) * np.cos(2 * np.pi * np.arange(16)[:, None] / 16 - common)
    light = np.stack(((user + reference) / 2 + fringe, (user + reference) / 2 - fringe), axis=2).reshape(16, 4)
    expected = 40_000 * -np.expm1(-light)
    assert np.all(np.abs(found - expected) < 5 * np.sqrt(expected))
    if level_a:
        assert np.ptp(expected[:, 0]) > 10 * np.sqrt(expected[:, 0].max())


def test_the_phase_offset_shifts_the_fringe_of_m1_alone():
    """A half turn between the users swaps the ports of M1, and only these; bound of five standard errors."""
    plain = clicks_by_detector(RelayOptics(settings(), seed=3), 2, 2, 0, 0)
    turned = clicks_by_detector(RelayOptics(settings(phase_offset_rad=np.pi), seed=3), 2, 2, 0, 0)
    swapped = turned[[1, 0, 2, 3]]
    assert np.all(np.abs(plain - swapped) < 5 * np.sqrt(plain + swapped))
    assert abs(int(plain[0]) - int(turned[0])) > 20 * np.sqrt(plain[0])


def test_batches_make_no_difference_and_other_slots_are_untouched():
    """Reference slots among others, cut in two ways; without reference light the same seed gives the same edges."""
    random = np.random.default_rng(5)
    n = 60_000
    columns = [
        random.integers(0, 3, n).astype(np.uint8),
        random.integers(0, 16, n).astype(np.uint8),
        random.integers(0, 3, n).astype(np.uint8),
        random.integers(0, 16, n).astype(np.uint8),
    ]
    reference = np.arange(n) % 100 < 30
    columns += [~reference, reference]
    drifting = settings(drift_slope_rms_rad_per_ms=10.0)

    def edges(size):
        optics = RelayOptics(drifting, seed=9)
        parts = []
        for first in range(0, n, size):
            part = optics.sample(*(column[first : first + size] for column in columns))
            parts.append((part.slot_offset + first) * 4 + part.detector)
        return np.concatenate(parts)

    whole = edges(n)
    np.testing.assert_array_equal(whole, edges(777))
    inside = reference[whole // 4]
    assert inside.sum() > 1000 < (~inside).sum()


def test_no_reference_light_is_as_before():
    optics = RelayOptics(settings(), seed=3)
    assert clicks_by_detector(optics, 0, 0, 0, 0, reference=False).sum() == 0
