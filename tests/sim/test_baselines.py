"""Closed forms of the baselines against direct averages, number states, published counts and published settings."""

import dataclasses
import math

import numpy as np
import pytest
from scipy.special import comb, factorial

from qrelay_sim.chernoff import Epsilon
from qrelay_sim.click_model import ClickModel
from qrelay_sim.number_states import pair_yields, single_photon
from qrelay_sim.optimise import optimise
from qrelay_sim.parameters import preset
from qrelay_sim.protocols import PROTOCOLS, Block
from qrelay_sim.protocols.base import Tally
from qrelay_sim.protocols.bounds import plob_bound
from qrelay_sim.protocols.cal import _phase_errors, _yields_from_decoys, node_yields
from qrelay_sim.protocols.mdi import MdiNode, _pairs
from qrelay_sim.single_node import SingleNode

PHASES = 2 * np.pi * (np.arange(720) + 0.5) / 720


def best_rate(name, relay, block=None):
    return max(0.0, optimise(PROTOCOLS[name], relay, block).value)


def mdi_by_phase_average(node, mu_a, mu_b, states):
    """Bell-measurement probabilities of two time-bin pulses, averaged over their phase: (gain, errors before e_d)."""
    live = 1 - node.dark
    gains = {"same": 0.0, "different": 0.0}
    for bit_a, bit_b, kind in states:
        intensities = []
        for window in (0, 1):
            a = math.sqrt(node.eta_a * mu_a) * bit_a[window]
            b = math.sqrt(node.eta_b * mu_b) * bit_b[window] * np.exp(1j * PHASES)
            intensities += [abs(a + b) ** 2 / 2, abs(a - b) ** 2 / 2]
        click = [1 - live * np.exp(-i) for i in intensities]
        # (detector, window): 0 = early of 0, 1 = early of 1, 2 = late of 0, 3 = late of 1.
        for first, second, bell in ((0, 2, "same"), (1, 3, "same"), (0, 3, "different"), (1, 2, "different")):
            others = [k for k in range(4) if k not in (first, second)]
            p = click[first] * click[second] * np.prod([1 - click[k] for k in others], axis=0)
            gains["same" if kind == bell else "different"] += float(np.mean(p)) / len(states)
    return gains


EARLY, LATE = (1, 0), (0, 1)
PLUS, MINUS = (math.sqrt(0.5), math.sqrt(0.5)), (math.sqrt(0.5), -math.sqrt(0.5))


@pytest.mark.parametrize("dark", [1e-6, 1e-2])
def test_mdi_closed_forms_against_phase_averages(dark):
    """Section 3.2: better than 1e-12."""
    relay = dataclasses.replace(
        preset("A"), dark_count_per_gate=dark, baseline_misalignment=0.0, arms_km=(5.0, 5.0, 10.0, 10.0)
    )
    node = MdiNode(relay)
    for mu_a, mu_b in ((0.3, 0.3), (0.05, 0.4), (1.1, 0.2)):
        key = mdi_by_phase_average(
            node, mu_a, mu_b, [(EARLY, EARLY, "x"), (LATE, LATE, "x"), (EARLY, LATE, "x"), (LATE, EARLY, "x")]
        )
        # In the key basis an error is a success with equal bits.
        equal = mdi_by_phase_average(node, mu_a, mu_b, [(EARLY, EARLY, "x"), (LATE, LATE, "x")])
        gain, wrong = node.z(np.array(mu_a), np.array(mu_b))
        assert float(gain) == pytest.approx(sum(key.values()), rel=1e-12)
        assert float(wrong) == pytest.approx(sum(equal.values()) / 2, rel=1e-12)
        test = mdi_by_phase_average(
            node,
            mu_a,
            mu_b,
            [(PLUS, PLUS, "same"), (MINUS, MINUS, "same"), (PLUS, MINUS, "different"), (MINUS, PLUS, "different")],
        )
        gain, wrong = node.x(np.array(mu_a), np.array(mu_b))
        assert float(gain) == pytest.approx(sum(test.values()), rel=1e-12)
        assert float(wrong) == pytest.approx(test["different"], rel=1e-12)


def test_mdi_gains_of_very_weak_light_keep_their_accuracy():
    relay = dataclasses.replace(preset("A"), dark_count_per_gate=0.0).for_length(1500)
    node = MdiNode(relay)
    gain, wrong = node.x(np.array(0.1), np.array(0.1))
    a = node.eta_a * 0.1
    # Leading order a^2/2 and a quarter of it wrong, plus e_d of the interfering half.
    assert float(gain) == pytest.approx(a**2 / 2, rel=1e-6)
    assert float(wrong / gain) == pytest.approx(0.25 + relay.baseline_misalignment / 2, rel=1e-6)


@pytest.mark.parametrize("total_km", [50, 200])
def test_mdi_decoy_bounds_are_bounds(total_km):
    """Section 3.2: s11 0.93-0.95 of the truth, e11 0.046 against 0.015, at mu_x = 0.05, mu_y = 0.3."""
    node = MdiNode(preset("A").for_length(total_km))
    entry, relay = PROTOCOLS["mdi-4"], preset("A").for_length(total_km)
    settings = {"mu": 0.5, "y": 0.3, "x/y": 0.05 / 0.3, "p_z": 0.5, "p_mu": 0.3, "share_nu": 0.5}
    settings = {name: np.array([value]) for name, value in settings.items()}
    counts = entry.expected(relay, settings, Block(1e14))
    y11, e11 = node.single_pairs()
    exact = _pairs(settings, settings["y"], counts, 0.0)
    assert 0.93 < float(exact[0].min()) / y11 < 0.955
    assert float(exact[1].max()) == pytest.approx(0.046, abs=0.003 if total_km == 200 else 0.007)
    finite = _pairs(settings, settings["y"], counts, 50.0)
    assert np.all(finite[0] < exact[0].min())
    assert finite[1].max() > exact[1].max() > e11


# Wei et al., PRX 10, 031030 (arXiv 1911.00690), Table II: 1.25 GHz, polarisation, four intensities.
PUBLISHED = {
    180: {
        "N": 4.5e13,
        "p": {"s": 0.488, "y": 0.038, "x": 0.350, "o": 0.124},
        "levels": (0.141, 0.188, 0.036),
        "counts": {"yy": 115035, "xx": 388040, "yo": 138680, "oy": 87576, "xo": 26574, "ox": 44947, "oo": 0},
        "key": (6305857, 178909),
        "errors": 104895,
    }
}


def test_mdi_estimator_on_published_counts():
    """Measured counts of a four-intensity experiment over 36 dB give its published key rate within 10 %."""
    run = PUBLISHED[180]
    p, slots = run["p"], run["N"]

    def tally(n, count, errors=0.0):
        return Tally(np.array([n]), np.array([float(count)]), np.array([float(errors)]))

    counts = {
        pair: tally(slots * p[pair[0]] * p[pair[1]], count, run["errors"] if pair == "xx" else 0.0)
        for pair, count in run["counts"].items()
    }
    counts["key"] = tally(slots * p["s"] ** 2, *run["key"])
    s, y, x = run["levels"]
    values = {"mu": s, "y": y, "x/y": x / y, "p_z": p["s"]}
    settings = {name: np.array([value]) for name, value in values.items()}
    relay = dataclasses.replace(preset("A"), error_correction_efficiency=1.16)
    block = Block(slots, Epsilon.of_total(1e-10))
    found = PROTOCOLS["mdi-4"].estimate(relay, settings, counts, block)
    assert found.rate[0] == pytest.approx(2.47e-8, rel=0.10)
    assert found.phase_error[0] == pytest.approx(0.089, abs=0.01)
    s11, _ = _pairs(settings, settings["y"], counts, block.epsilon.beta(9))
    assert s11.min() < 2.43e-5 < s11.max()


def test_mdi_reach_at_its_first_setting():
    """Lo, Curty, Qi, PRL 108, 130503: more than 40 dB, about 200 km, with their detectors."""
    relay = dataclasses.replace(preset("A"), dark_count_per_gate=3.01e-6, eta_d=0.145, error_correction_efficiency=1.16)
    assert best_rate("mdi-3", relay.for_length(200)) > 0
    assert best_rate("mdi-3", relay.for_length(229)) > 0
    assert best_rate("mdi-4", relay.for_length(233)) == 0


def pm_paper():
    return dataclasses.replace(
        preset("A"), dark_count_per_gate=8e-8, eta_d=0.145, error_correction_efficiency=1.15, phase_slices=16
    )


def test_phase_matching_at_its_own_setting():
    """Section 5.4: passes PLOB (channel only) at 342 km, ends at 398 km."""
    for total_km, above in ((341, False), (343, True)):
        relay = pm_paper().for_length(total_km)
        assert (best_rate("phase-matching", relay) > plob_bound(relay.channel_transmittance)) == above
    # With the detector in the bound, as the paper draws it: near 250 km there, 244 km here.
    for total_km, above in ((242, False), (245, True)):
        relay = pm_paper().for_length(total_km)
        assert (best_rate("phase-matching", relay) > plob_bound(0.145 * relay.channel_transmittance)) == above
    assert best_rate("phase-matching", pm_paper().for_length(396)) > 0
    assert best_rate("phase-matching", pm_paper().for_length(399)) == 0


@pytest.mark.parametrize(("error", "reach_km"), [(0.15, 700), (0.35, 500)])
def test_sending_or_not_at_its_own_setting(error, reach_km):
    """Wang, Yu, Hu, PRA 98, 062323, Fig. 1: keys to about 700 km at 15 % misalignment, about 500 km at 35 %."""
    relay = dataclasses.replace(
        preset("A"), dark_count_per_gate=1e-11, eta_d=0.8, baseline_misalignment=error, phase_slices=10**6
    )
    assert best_rate("sns", relay.for_length(reach_km)) > 0
    assert best_rate("sns", relay.for_length(reach_km * 1.04)) == 0


def number_state_yield(n, m, eta, dark):
    """Exactly one click for n and m photons at a 50:50 splitter, from the output amplitudes."""
    out = {}
    for kept_n in range(n + 1):
        for kept_m in range(m + 1):
            weight = comb(n, kept_n) * eta**kept_n * (1 - eta) ** (n - kept_n)
            weight *= comb(m, kept_m) * eta**kept_m * (1 - eta) ** (m - kept_m)
            total = kept_n + kept_m
            for p in range(total + 1):
                amplitude = 0.0
                for k in range(kept_n + 1):
                    rest = p - k
                    if 0 <= rest <= kept_m:
                        amplitude += comb(kept_n, k) * comb(kept_m, rest) * (-1) ** (kept_m - rest)
                amplitude *= (
                    math.sqrt(factorial(p) * factorial(total - p) / (factorial(kept_n) * factorial(kept_m)))
                    / math.sqrt(2) ** total
                )
                out[p, total - p] = out.get((p, total - p), 0.0) + weight * amplitude**2
    live = 1 - dark
    one = sum(w for (p, q), w in out.items() if (p > 0) != (q > 0)) * live
    return one + out.get((0, 0), 0.0) * 2 * dark * live


def test_node_yields_against_number_states():
    relay = dataclasses.replace(preset("A"), baseline_misalignment=0.0, dark_count_per_gate=1e-3).for_length(20)
    eta = relay.user_transmittances[0]
    yields = node_yields(relay)
    for n in range(4):
        for m in range(4):
            assert yields[n, m] == pytest.approx(number_state_yield(n, m, eta, 1e-3), rel=1e-10)


@pytest.mark.parametrize("rule", ["discard", "random"])
@pytest.mark.parametrize("arms", [(0.0, 0.0, 10.0, 10.0), (10.0, 10.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)])
def test_node_yields_of_arms_without_loss(arms, rule):
    """As for hardly any loss: only the user without loss loses nothing."""
    exact, close = (
        node_yields(dataclasses.replace(preset("A"), arms_km=arms, eta_d=eta, double_clicks=rule))
        for eta in (1.0, 1 - 1e-9)
    )
    assert exact == pytest.approx(close, abs=1e-7)


@pytest.mark.parametrize("name", ["cal", "mdi-3", "mdi-4"])
def test_a_detector_that_always_clicks_is_refused(name):
    with pytest.raises(ValueError, match=r"dark_count_per_gate 1\.0 is out of range; give less than 1"):
        best_rate(name, dataclasses.replace(preset("A"), dark_count_per_gate=1.0))


@pytest.mark.parametrize("rule", ["discard", "random"])
def test_node_yields_sum_to_the_gain(rule):
    relay = dataclasses.replace(preset("A"), double_clicks=rule, arms_km=(5.0, 5.0, 20.0, 10.0))
    yields, node = node_yields(relay), SingleNode(relay)
    mu_a, mu_b = 0.3, 0.5
    n = np.arange(len(yields))
    weight_a, weight_b = (np.exp(-mu) * mu**n / factorial(n) for mu in (mu_a, mu_b))
    assert weight_a @ yields @ weight_b == pytest.approx(float(node.gain_of_mixed_phases(mu_a, mu_b)), rel=1e-9)
    assert pair_yields(node, 3) == pytest.approx(yields[:4, :4], rel=1e-7)


@pytest.mark.parametrize("rule", ["discard", "random"])
def test_mixed_phases_are_the_average_over_phases(rule):
    relay = dataclasses.replace(preset("A"), double_clicks=rule, dark_count_per_gate=1e-3).for_length(10)
    node = SingleNode(relay)
    a, b = 0.4 * node.eta_a, 0.7 * node.eta_b
    total = 0.0
    for phase in PHASES:
        fringe = node.visibility * math.sqrt(a * b) * math.cos(phase)
        plus, minus = (1 - (1 - 1e-3) * math.exp(-((a + b) / 2 + sign * fringe)) for sign in (1, -1))
        both = plus * minus if rule == "random" else 0.0
        total += plus * (1 - minus) + minus * (1 - plus) + both
    assert float(node.gain_of_mixed_phases(0.4, 0.7)) == pytest.approx(total / len(PHASES), rel=1e-10)


def test_cal_decoy_yields_are_upper_bounds():
    relay, entry = preset("A").for_length(200), PROTOCOLS["cal"]
    values = {"key": 0.03, "mu": 0.15, "nu/mu": 0.15, "p_key": 0.5, "p_mu": 0.3, "share_nu": 0.5}
    settings = {name: np.array([value]) for name, value in values.items()}
    counts = entry.expected(relay, settings, Block(1e13))
    truth = node_yields(relay)
    for beta in (0.0, 30.0):
        bounds = _yields_from_decoys(settings, counts, beta)[..., 0]
        assert np.all(bounds >= truth * (1 - 1e-9))
    exact = _phase_errors(settings, truth[..., None])
    assert exact < _phase_errors(settings, _yields_from_decoys(settings, counts, 0.0))


def test_single_photon_at_one_node():
    """One photon shared by both users: eta on arrival, the misalignment as its error, half the darks wrong."""
    relay = preset("A").for_length(100)
    node = SingleNode(relay)
    found = single_photon(node, 0.5, 1.0)
    eta, dark = node.eta_a, relay.dark_count_per_gate
    assert found.gain == pytest.approx(eta * (1 - dark) + 2 * dark * (1 - dark) * (1 - eta), rel=1e-9)
    assert found.wrong_fraction == pytest.approx(relay.baseline_misalignment, rel=1e-3)


def test_relay_pair_yields_at_leading_order():
    """Section 3.1 and 4.2: Y_10 ~ eta s/2, Y_11 ~ eta^2 + eta s, Y_00 ~ g2 s^2/4."""
    relay = dataclasses.replace(preset("A"), dark_count_per_gate=0.0).for_length(400)
    eta, s = relay.arm_transmittances[0], relay.arm_transmittances[1] * relay.source_mean_photons
    yields = pair_yields(ClickModel(relay))
    assert yields[1, 0] == pytest.approx(eta * s / 2, rel=0.01)
    assert yields[1, 0] == pytest.approx(yields[0, 1], rel=1e-9)
    assert yields[1, 1] == pytest.approx(eta**2 + eta * s, rel=0.01)
    assert yields[0, 0] == pytest.approx(relay.g2 * s**2 / 4, rel=0.01)
    found = single_photon(ClickModel(relay), 0.5, 1.0)
    assert found.wrong_fraction == pytest.approx((1 - relay.overlap) / 2, rel=0.06)
