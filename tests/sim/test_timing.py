"""Time filtering: limits, published shapes, and the map onto the click model against number states per time bin."""

import dataclasses
import math

import fock
import numpy as np
import pytest

from qrelay_sim.click_model import ClickModel
from qrelay_sim.optimise import optimise
from qrelay_sim.parameters import RelayParameters, preset
from qrelay_sim.protocols import PROTOCOLS
from qrelay_sim.timing import Timing

OPEN = {"jitter_ps": 0.0, "gate_start_ps": -1e4, "gate_width_ps": 3e4}


def test_open_gate_and_matched_pulses_lose_nothing():
    found = Timing(**OPEN).filtered()
    assert found.user_fraction == pytest.approx(1, abs=1e-9)
    assert found.source_fraction == pytest.approx(1, abs=1e-9)
    assert found.overlap == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("delay", [-8.0, 4.0, 40.0])
def test_delay_error_of_matched_pulses(delay):
    """Section 8.3: M = exp(-|dt|/T1)."""
    found = Timing(lifetime_ps=80.0, pulse_delay_ps=delay, **OPEN).filtered()
    assert found.overlap == pytest.approx(math.exp(-abs(delay) / 80), rel=1e-5)


def test_gaussian_pulse_overlaps_at_most_080():
    """Section 8.3: 0.80 at FWHM 1.59 T1, centred 1.0 T1 late; everything else is worse."""
    shapes = {
        (width, delay): Timing(
            lifetime_ps=80.0, pulse="gaussian", pulse_fwhm_ps=80 * width, pulse_delay_ps=80 * delay, **OPEN
        )
        .filtered()
        .overlap
        for width in (1.3, 1.59, 1.9)
        for delay in (0.8, 1.0, 1.2)
    }
    assert max(shapes, key=shapes.get) == (1.59, 1.0)
    assert shapes[1.59, 1.0] == pytest.approx(0.80, abs=0.002)


def test_pure_dephasing():
    """M = 1 / (1 + T1 gamma) for matched exponentials, by integration."""
    found = Timing(lifetime_ps=80.0, dephasing_per_ns=5.0, **OPEN).filtered()
    assert found.overlap == pytest.approx(1 / (1 + 0.4), rel=1e-3)


def test_a_narrow_gate_trades_light_for_overlap_and_darks():
    wide, narrow = (
        Timing(dephasing_per_ns=5.0, jitter_ps=20.0, gate_start_ps=-60.0, gate_width_ps=width) for width in (1000, 120)
    )
    a, b = wide.filtered(), narrow.filtered()
    assert b.overlap > a.overlap + 0.1
    assert b.source_fraction < 0.7 * a.source_fraction
    assert b.dark_count_per_gate == pytest.approx(0.12 * a.dark_count_per_gate, rel=1e-6)


def test_gate_and_delay_against_a_plain_sum():
    """Pulses that are late, dephasing, jitter and a gate that cuts both, summed over 0.5 ps bins."""
    shapes = Timing(
        lifetime_ps=70.0,
        dephasing_per_ns=3.0,
        pulse_delay_ps=25.0,
        jitter_ps=15.0,
        gate_start_ps=10.0,
        gate_width_ps=90.0,
    )
    t = np.arange(0.25, 1200, 0.5)
    gate = np.array([math.erf((x - 10) / 15 / math.sqrt(2)) - math.erf((x - 100) / 15 / math.sqrt(2)) for x in t]) / 2
    dot = np.exp(-t / 140)
    pulse = np.where(t > 25, np.exp(-(t - 25) / 140), 0.0)
    dot, pulse = dot / np.linalg.norm(dot), pulse / np.linalg.norm(pulse)
    rho = dot[:, None] * dot * np.exp(-abs(t[:, None] - t) * 3e-3)
    user, source = gate @ pulse**2, gate @ dot**2
    found = shapes.filtered()
    assert found.user_fraction == pytest.approx(user, rel=2e-3)
    assert found.source_fraction == pytest.approx(source, rel=2e-3)
    assert found.overlap == pytest.approx((gate * pulse) @ rho @ (gate * pulse) / (user * source), rel=3e-3)


def test_jitter_softens_the_gate():
    """A photon at the very edge is registered half the time; far outside not at all."""
    sharp, soft = (Timing(jitter_ps=jitter, gate_start_ps=0.0, gate_width_ps=5000.0) for jitter in (0.0, 40.0))
    assert sharp.filtered().source_fraction == pytest.approx(1, abs=1e-9)
    late = np.random.default_rng(2).exponential(80, 400_000) + np.random.default_rng(3).normal(0, 40, 400_000)
    assert soft.filtered().source_fraction == pytest.approx((late > 0).mean(), abs=3e-3)
    missed = Timing(jitter_ps=10.0, gate_start_ps=-5000.0, gate_width_ps=100.0).filtered()
    assert missed.source_fraction < 1e-12
    assert missed.overlap == 0


@pytest.mark.parametrize("seed", range(4))
def test_gated_node_against_number_states_of_two_time_bins(seed):
    """The map of `Timing` in two time bins: each bin is a mode of its own, with its own transmittance.

    `fock` holds two nodes with one shared photon; here its two nodes are two bins of one node.
    """
    rng = np.random.default_rng(seed)
    gate = rng.uniform(0.2, 1, 2)
    psi = np.sqrt(rng.dirichlet([1, 1]))
    share = rng.dirichlet([1, 1])
    coherence = rng.uniform(0, 1)
    rho = np.array([[share[0], 0], [0, share[1]]])
    rho[0, 1] = rho[1, 0] = coherence * math.sqrt(share[0] * share[1])
    mu, arm = 0.3, 0.8
    light = [(1.0, *(fock.coherent(mu * gate[k] * psi[k] ** 2, 0.0) for k in range(2)))]
    # `fock` puts s/2 of the photon into each node.
    bins = fock.pattern_distribution(
        light, 2 * arm * share[0] * gate[0], 2 * arm * share[1] * gate[1], (0, 1, 0), (1, 1, coherence), 1e-3
    )
    expected = np.zeros(4)
    for pattern in range(16):
        expected[pattern & 3 | pattern >> 2] += bins[pattern]
    user, source = gate @ psi**2, gate @ share
    overlap = (gate * psi) @ rho @ (gate * psi) / (user * source)
    # One node of the relay: all of the photon in the left arm is p1 s_left / 2, so the arm carries twice as much.
    node = RelayParameters(
        source_mean_photons=1.0, g2=0.0, overlap=overlap, eta_d=1.0, dark_count_per_gate=1 - (1 - 1e-3) ** 2
    )
    model = ClickModel(node)
    model._eta_a, model._s_left, model._s_right = user, 2 * arm * source, 0.0
    a, _ = model.pattern_coefficients(mu, 0.0)
    closed = np.array([sum(a[low | high << 2] for high in range(4)) for low in range(4)])
    np.testing.assert_allclose(closed, expected, rtol=1e-7, atol=1e-10)


def test_timing_enters_the_relay():
    shapes = Timing(gate_width_ps=150.0, dark_counts_per_s=200.0)
    relay = dataclasses.replace(preset("C").for_length(100), timing=shapes)
    found = shapes.filtered()
    plain = preset("C").for_length(100)
    for gated, open_, fraction in zip(
        relay.arm_transmittances,
        plain.arm_transmittances,
        (found.user_fraction, found.source_fraction, found.source_fraction, found.user_fraction),
        strict=True,
    ):
        assert gated == pytest.approx(open_ * fraction)
    assert relay.overlaps[0] == pytest.approx(0.97 * found.overlap)
    assert relay.dark_probability == pytest.approx(200 * 150e-12, rel=1e-6)


def test_there_is_a_best_gate():
    """With dephasing, neither the narrowest nor the widest gate gives the most key."""
    rates = []
    for width in (60, 150, 2000):
        shapes = Timing(dephasing_per_ns=1.2, jitter_ps=20.0, gate_start_ps=-20.0, gate_width_ps=float(width))
        relay = dataclasses.replace(preset("C").for_length(100), overlap=1.0, timing=shapes)
        rates.append(max(0.0, optimise(PROTOCOLS["relay-phase-matching"], relay).value))
    assert rates[1] > rates[0] > 0
    assert rates[1] > rates[2]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lifetime_ps", 0.0, r"timing.lifetime_ps 0\.0 is out of range; give more than 0"),
        ("jitter_ps", -1.0, r"timing.jitter_ps -1\.0 is out of range; give 0 or more"),
        ("pulse", "square", "timing.pulse 'square' does not exist; give 'exponential' or 'gaussian'"),
        ("gate_start_ps", math.inf, "timing.gate_start_ps inf is no time"),
    ],
)
def test_bad_shapes_name_themselves(key, value, message):
    with pytest.raises(ValueError, match=message):
        Timing(**{key: value})
