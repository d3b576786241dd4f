"""The decoy estimate of a run, from gains of which the yields are known."""

import math

import pytest

from qrelay.config import parse_config
from qrelay.decoy_estimate import estimate_parity
from qrelay.demo_config import demo_text
from qrelay.estimate import PairEstimate, Ratio

SLOTS = 1e12
Y0, Y1 = 1e-4, 5e-5
"""Mostly dark counts; no success of two photons or more, so that the bound of Y1 is exact for a perfect vacuum."""


def estimate(omega):
    config = parse_config(demo_text())
    levels = {"mu": 0.05, "nu": 0.02, "vac": omega}
    settings = tuple(s.model_copy(update={"mean_photon_number": levels[s.name]}) for s in config.settings)
    pairs = []
    for index, setting in enumerate(settings):
        x = 2 * setting.mean_photon_number
        successes = round(SLOTS * math.exp(-x) * (Y0 + x * Y1))
        gain = Ratio.of(successes, SLOTS)
        pairs.append(PairEstimate(index, index, SLOTS, successes, successes // 8, 0, gain, Ratio.of(0, successes)))
    found = estimate_parity(config.model_copy(update={"settings": settings}), pairs)
    assert found is not None
    return found


def test_a_perfect_vacuum_gives_the_yield_of_one_photon():
    assert estimate(0.0).single_photon_yield == pytest.approx(Y1, rel=1e-3)


@pytest.mark.parametrize("omega", [0.001, 0.01])
def test_a_vacuum_with_some_light_bounds_the_yield_of_one_photon(omega):
    found = estimate(omega)
    assert found.single_photon_yield < 0.999 * Y1
    assert found.even_fraction > estimate(0.0).even_fraction
