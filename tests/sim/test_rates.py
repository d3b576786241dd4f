"""Key rates, bounds and decoy estimates (physics.md sections 3.1, 4, 7, 11)."""

import dataclasses
import math

import fock
import numpy as np
import pytest
from scipy import stats

from qrelay_sim.chernoff import (
    Epsilon,
    expectation_lower,
    expectation_upper,
    observation_lower,
    observation_upper,
    sum_lower,
    sum_upper,
)
from qrelay_sim.click_model import SUCCESS_PATTERNS, ClickModel
from qrelay_sim.decoy import Counts, asymptotic_estimate
from qrelay_sim.entropy import binary_entropy
from qrelay_sim.optimise import optimise
from qrelay_sim.parameters import RelayParameters, preset
from qrelay_sim.protocols import PROTOCOLS, Block
from qrelay_sim.protocols.base import Tally
from qrelay_sim.protocols.bounds import plob_bound, repeater_bound
from qrelay_sim.protocols.phase_matching import odd_successes, parity

SLOT_RATE_HZ = 304.52e6
P1 = PROTOCOLS["relay-phase-matching"]
P1C = PROTOCOLS["relay-phase-matching-conditional"]


def best_rate(protocol, relay, block=None):
    """Best key rate in bit per slot; 0 if there is none."""
    return max(0.0, optimise(protocol, relay, block).value)


def exact_parity(relay, mu_a, mu_b):
    return parity(ClickModel(relay), mu_a, mu_b, 1.0)


# Section 7, bit/s: P1 and P1c.
TABLE = {
    "A": {50: (3157, 6426), 100: (820, 1789), 200: (67, 160), 300: (6.3, 15.4)},
    "B": {50: (0, 1353), 100: (0, 190), 200: (0, 1.6), 300: (0, 0)},
    "C": {50: (8018, 11123), 100: (2314, 3247), 200: (215, 302), 300: (21.0, 29.6)},
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("total_km", [50, 100, 200, 300])
def test_rates_of_section_7(name, total_km):
    relay = preset(name).for_length(total_km)
    expected, expected_conditional = TABLE[name][total_km]
    rate, conditional = best_rate(P1, relay), best_rate(P1C, relay)
    assert rate * SLOT_RATE_HZ == pytest.approx(expected, rel=0.03, abs=1e-9)
    assert conditional * SLOT_RATE_HZ == pytest.approx(expected_conditional, rel=0.03, abs=1e-9)


def test_slope_of_the_rate():
    """Acceptance 2: -alpha/20 decades per km within 5 % between 150 and 300 km."""
    rates = [best_rate(P1, preset("C").for_length(km)) for km in (150, 300)]
    slope = math.log10(rates[1] / rates[0]) / 150
    assert slope == pytest.approx(-0.20 / 20, rel=0.05)


@pytest.mark.parametrize(
    ("overlap", "threshold"), [(0.90, 0.009), (0.93, 0.011), (0.95, 0.013), (0.97, 0.015), (0.99, 0.017)]
)
def test_threshold_of_g2(overlap, threshold):
    """Acceptance 4, one grid step of 0.001 on either side."""
    relay = dataclasses.replace(preset("C").for_length(300), overlap=overlap)
    assert best_rate(P1, dataclasses.replace(relay, g2=threshold - 0.001)) > 0
    assert best_rate(P1, dataclasses.replace(relay, g2=threshold + 0.001)) == 0


def test_optimum_against_scipy():
    from scipy.optimize import minimize_scalar

    relay = preset("C").for_length(200)
    found = minimize_scalar(
        lambda mu: -P1.key_rate(relay, {"mu": np.array([mu])}).rate[0], bounds=(0.005, 0.05), options={"xatol": 1e-8}
    )
    found_here = optimise(P1, relay)
    mu, rate = found_here.settings["mu"], found_here.value
    assert mu == pytest.approx(found.x, rel=1e-3)
    assert rate == pytest.approx(-found.fun, rel=1e-7)


def test_without_overlap_there_is_no_key():
    """Acceptance 7: E = 1/2, no key, and q_even as before at leading order."""
    with_overlap = preset("C").for_length(200)
    without = dataclasses.replace(with_overlap, overlap=0.0)
    dark = exact_parity(without, 0.0158, 0.0158)
    assert float(dark.qber) == pytest.approx(0.5, abs=1e-12)
    assert best_rate(P1, without) == 0
    bright = exact_parity(with_overlap, 0.0158, 0.0158)
    assert float(dark.even) == pytest.approx(float(bright.even), rel=0.01)


def test_sign_of_the_phase_calibration_does_not_matter():
    """Acceptance 8: delta = pi instead of 0, and Bob's bits inverted, give the same right and wrong counts."""
    a, b = ClickModel(preset("A")).pattern_coefficients(0.016, 0.016)
    at_zero, at_pi = a + b, a - b
    success = list(SUCCESS_PATTERNS)
    same, opposite = success[:2], success[2:]
    assert at_zero[same].sum() == pytest.approx(at_pi[opposite].sum(), rel=1e-13)
    assert at_zero[opposite].sum() == pytest.approx(at_pi[same].sum(), rel=1e-13)


def yields_from_number_states(relay, ratio_a, photons):
    """Success probability given exactly `photons` photons leaving the users in one mode with matched phases."""
    eta, s_left, s_right, _ = relay.arm_transmittances
    total = 0.0
    for probability, light in fock.shared_number_state(photons, ratio_a, 0.3, 0.3, eta):
        patterns = fock.pattern_distribution(
            light, s_left, s_right, (relay.p0, relay.p1, relay.p2), relay.overlaps, relay.dark_count_per_gate
        )
        total += probability * patterns[list(SUCCESS_PATTERNS)].sum()
    return total


def test_gain_and_parity_from_number_state_yields():
    """Sum over k of P_k Y_k is Q, over odd k it is (1 - q_even) Q; unequal intensities and source arms."""
    relay = dataclasses.replace(preset("A"), arms_km=(15.0, 5.0, 25.0, 15.0), dark_count_per_gate=1e-4, g2=0.05)
    mu_a, mu_b = 0.12, 0.06
    total = mu_a + mu_b
    series = [
        math.exp(-total) * total**k / math.factorial(k) * yields_from_number_states(relay, mu_a / total, k)
        for k in range(10)
    ]
    gain = float(ClickModel(relay).gain_and_qber(mu_a, mu_b)[0])
    assert sum(series) == pytest.approx(gain, rel=1e-9)
    assert sum(series[1::2]) / gain == pytest.approx(1 - float(exact_parity(relay, mu_a, mu_b).even), rel=1e-9)


def test_leading_yields():
    """Section 3.1: Y_0, Y_1, Y_2 of a weak source, no darks."""
    relay = RelayParameters(
        source_mean_photons=1e-3, g2=0.02, eta_d=0.01, dark_count_per_gate=0.0, arms_km=(0, 0, 0, 0)
    )
    brightness, eta = 1e-3 * 0.01, 0.01
    assert yields_from_number_states(relay, 0.5, 0) == pytest.approx(0.02 * brightness**2 / 4, rel=1e-2)
    assert yields_from_number_states(relay, 0.5, 1) == pytest.approx(eta * brightness / 2, rel=1e-2)
    assert yields_from_number_states(relay, 0.5, 2) == pytest.approx(eta**2 / 2 + eta * brightness, rel=1e-2)


@pytest.mark.parametrize("name", ["A", "C"])
def test_decoy_bound_of_the_single_photon_yield(name):
    """Section 3.2: 0.9993 of the truth at mu = 0.0158, nu = 0.005, 300 km, and below it."""
    relay = preset(name).for_length(300)
    levels = [float(ClickModel(relay).gain_and_qber(mu, mu)[0]) for mu in (0.0158, 0.005, 0.0)]
    counts = [Counts(gain * 1e15, 1e15) for gain in levels]
    estimate = asymptotic_estimate(2 * 0.0158, 2 * 0.005, *counts)
    true_yield = yields_from_number_states(relay, 0.5, 1)
    assert estimate.single_photon_yield / true_yield == pytest.approx(0.9993, abs=1e-4)
    truth = float(exact_parity(relay, 0.0158, 0.0158).even)
    assert truth < estimate.even_fraction < truth + 0.003


def test_standard_errors_of_the_decoy_estimate():
    """Against 4000 simulated experiments; 3 % is 2.7 sigma of a standard deviation from 4000 samples."""
    rng = np.random.default_rng(11)
    relay = preset("A")
    slots = (3e8, 1e8, 1e8)
    levels = [float(ClickModel(relay).gain_and_qber(mu, mu)[0]) for mu in (0.016, 0.0058, 0.0)]
    draws = [rng.poisson(gain * n, 4000) for gain, n in zip(levels, slots, strict=True)]
    estimates = [
        asymptotic_estimate(0.032, 0.0116, *(Counts(int(c), n) for c, n in zip(counts, slots, strict=True)))
        for counts in zip(*draws, strict=True)
    ]
    for value, error in (
        ("single_photon_yield", "single_photon_yield_std"),
        ("even_fraction", "even_fraction_std"),
    ):
        spread = np.std([getattr(e, value) for e in estimates])
        assert spread == pytest.approx(np.mean([getattr(e, error) for e in estimates]), rel=0.03)


def test_chernoff_intervals_cover():
    """Exact Poisson coverage at a nominal failure of 1e-3 per side; conservative, as section 3.2 states."""
    beta = math.log(1000)
    for expected in (1.0, 10.0, 100.0, 3000.0):
        observed = np.arange(int(expected + 20 * math.sqrt(expected) + 60))
        weight = stats.poisson.pmf(observed, expected)
        too_low = np.array([expectation_upper(c, beta) < expected for c in observed])
        too_high = np.array([expectation_lower(c, beta) > expected for c in observed])
        assert weight[too_low].sum() < 1e-3
        assert weight[too_high].sum() < 1e-3
        assert weight[observed < observation_lower(expected, beta)].sum() < 1e-3
        assert weight[observed > observation_upper(expected, beta)].sum() < 1e-3


@pytest.mark.parametrize("beta", [3.0, 7.0, 23.0, 50.0])
def test_bounds_of_an_expectation_invert_those_of_an_observation(beta):
    """Exact failure probability of the lower one for Poisson and binomial counts, whatever the expectation."""
    counts = np.concatenate([np.arange(500.0), np.geomspace(500, 1e9, 40)])
    np.testing.assert_allclose(observation_lower(expectation_upper(counts, beta), beta), counts, rtol=1e-9, atol=1e-9)
    low = expectation_lower(counts, beta)
    assert np.all(low[counts <= beta] == 0)
    above = counts > beta
    np.testing.assert_allclose(observation_upper(low[above], beta), counts[above], rtol=1e-9)
    for expected in np.geomspace(1e-6, 1e4, 200):
        first = math.floor(observation_upper(expected, beta)) + 1
        assert expectation_lower(first - 1, beta) <= expected < expectation_lower(first, beta)
        tails = [stats.binom.sf(first - 1, n, expected / n) for n in (10, 100, 10_000, 10**6) if n >= expected]
        assert max(stats.poisson.sf(first - 1, expected), *tails) < math.exp(-beta)


@pytest.mark.parametrize(
    ("name", "km", "slots", "expected"),
    [("C", 200, 1e12, 7), ("C", 300, 1e13, 0.6), ("C", 300, 1e14, 5.7), ("A", 300, 1e14, 0.01)],
)
def test_finite_size_of_section_7(name, km, slots, expected):
    """The page rounds to one figure and has a looser lower bound of expectations: 0.64 is "0.6", 0.013 is "0.01"."""
    rate = best_rate(P1, preset(name).for_length(km), Block(slots)) * SLOT_RATE_HZ
    assert rate == pytest.approx(expected, rel=0.08, abs=0.005)


def test_no_finite_key_from_few_slots():
    assert best_rate(P1, preset("C").for_length(300), Block(1e12)) == 0


def test_slots_for_the_first_key_at_50_km():
    """Section 7: A needs about 3e11 slots, C about 1e11, at fixed settings; optimised ones need less, not ten times."""
    for name, slots in (("A", 3e11), ("C", 1e11)):
        relay = preset(name).for_length(50)
        assert best_rate(P1, relay, Block(slots)) > 0
        assert best_rate(P1, relay, Block(slots / 10)) == 0


def test_composed_failure_probability():
    epsilon = Epsilon()
    assert epsilon.total == pytest.approx(1e-10)
    assert epsilon.parameter_estimation == pytest.approx(6e-22, rel=0.05)
    assert epsilon.beta() == pytest.approx(50, abs=1)
    assert Epsilon.of_total(1e-10).beta() == pytest.approx(epsilon.beta())
    with pytest.raises(ValueError, match=r"epsilon 1\.5 is out of range; give 1e-60 to 1"):
        Epsilon.of_total(1.5)


def test_bound_of_a_weighted_sum():
    """Exact coverage by convolution at a nominal 1e-3, and tighter than the sum of single bounds."""
    beta = math.log(1000)
    means, weights = (40.0, 15.0), (20.0, 0.5)
    counts = np.arange(160)
    weight = stats.poisson.pmf(counts[:, None], means[0]) * stats.poisson.pmf(counts, means[1])
    truth = sum(w * m for w, m in zip(weights, means, strict=True))
    terms = ((weights[0], counts[:, None] + 0 * counts), (weights[1], counts + 0 * counts[:, None]))
    assert weight[sum_lower(beta, *terms) > truth].sum() < 1e-3
    assert weight[sum_upper(beta, *terms) < truth].sum() < 1e-3
    apart = sum(w * expectation_lower(m, beta) for w, m in zip(weights, means, strict=True))
    assert sum_lower(beta, *zip(weights, means, strict=True)) > apart


def test_the_bound_of_the_odd_fraction_holds_in_sampled_runs():
    """2000 runs at a nominal failure of 4 x 2.5e-3 each: at most 1 % may fail, in truth hardly any does."""
    relay = preset("A").for_length(100)
    model = ClickModel(relay)
    rng = np.random.default_rng(8)
    slots = {"mu": 2e8, "nu": 1e8, "vac": 1e8}
    x, v = np.array([0.032]), np.array([0.012])
    gains = {name: float(sum(model.announced(mu, mu))) for name, mu in (("mu", 0.016), ("nu", 0.006), ("vac", 0.0))}
    even = float(exact_parity(relay, 0.016, 0.016).even)
    failed, bounds = 0, []
    for _ in range(2000):
        odd, rest = rng.poisson(slots["mu"] * gains["mu"] * np.array([1 - even, even]))
        seen = {
            "mu": odd + rest,
            "nu": rng.poisson(slots["nu"] * gains["nu"]),
            "vac": rng.poisson(slots["vac"] * gains["vac"]),
        }
        counts = {name: Tally(slots[name], np.array([float(count)]), np.zeros(1)) for name, count in seen.items()}
        bound = odd_successes(x, v, counts, lambda tally: tally.successes, math.log(1 / 2.5e-3))[0]
        failed += bound > odd
        bounds.append(bound / odd)
    assert failed <= 20
    assert 0.8 < np.mean(bounds) < 1


def test_bounds():
    assert plob_bound(10**-2) == pytest.approx(1.4e-2, rel=0.05)  # 100 km
    assert repeater_bound(10**-6, 1) == pytest.approx(1.4e-3, rel=0.05)  # 300 km
    assert repeater_bound(1e-8, 3) == pytest.approx(-math.log2(1 - 1e-2))
    assert plob_bound(1e-30) == pytest.approx(1e-30 / math.log(2), rel=1e-12)
    assert plob_bound(1.0) == math.inf
    with pytest.raises(ValueError, match=r"transmittance 1\.5 is out of range"):
        plob_bound(1.5)


def test_binary_entropy():
    np.testing.assert_allclose(binary_entropy([0, 0.11, 0.5, 1]), [0, stats.entropy([0.11, 0.89], base=2), 1, 0])


def test_bad_levels_and_counts():
    with pytest.raises(ValueError, match="the weak pair needs 0 < v < x"):
        asymptotic_estimate(0.01, 0.02, Counts(1, 2), Counts(1, 2), Counts(1, 2))
    with pytest.raises(ValueError, match="successes 3 of slots 2"):
        Counts(3, 2)


def test_no_successes_give_no_key():
    none = Counts(0, 1e6)
    assert asymptotic_estimate(0.032, 0.01, none, none, none).even_fraction == 1


def test_a_vacuum_without_successes_is_not_known_exactly():
    """Its error is that of one count."""
    mu, nu = Counts(3000, 3e8), Counts(300, 1e8)
    none, one, none_of_many = (
        asymptotic_estimate(0.032, 0.0116, mu, nu, Counts(*level)) for level in ((0, 1e7), (1, 1e7), (0, 1e12))
    )
    assert none.single_photon_yield_std == one.single_photon_yield_std > 1.1 * none_of_many.single_photon_yield_std
    assert none.even_fraction_std > 1.1 * none_of_many.even_fraction_std


@pytest.mark.parametrize(("decoys", "bound"), [(30, 0.0), (1, 1.0)])
def test_the_bound_of_few_counts_is_a_fraction(decoys, bound):
    found = asymptotic_estimate(0.032, 0.0116, Counts(30, 1e6), Counts(decoys, 1e6), Counts(3, 1e6))
    assert found.even_fraction == bound
    assert found.even_fraction_std > 0.25
