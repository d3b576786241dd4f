"""The closed form against photon number states, limits and symmetries (physics.md sections 3, 11)."""

import dataclasses
import math

import fock
import numpy as np
import pytest

from qrelay_sim.click_model import OPPOSITE_SIGN, SAME_SIGN, SUCCESS_PATTERNS, ClickModel, phase_contrast
from qrelay_sim.parameters import RelayParameters, preset


def random_relay(rng, equal_users=False):
    m1, m2 = rng.uniform(0, 1, 2)
    arms = rng.uniform(0, 60, 4)
    if equal_users:
        arms[3] = arms[0]
    return RelayParameters(
        source_mean_photons=rng.uniform(0.05, 0.8),
        g2=rng.uniform(0, 0.3),
        node_overlaps=(m1, m2, math.sqrt(m1 * m2) * rng.uniform(0, 1)),
        eta_d=rng.uniform(0.3, 1),
        dark_count_per_gate=rng.choice([0, 1e-6, 1e-2, 0.2]),
        arms_km=tuple(arms),
        misalignment=rng.uniform(0, 0.3),
    )


def fock_patterns(relay, light):
    _, s_left, s_right, _ = relay.arm_transmittances
    return fock.pattern_distribution(
        light, s_left, s_right, (relay.p0, relay.p1, relay.p2), relay.overlaps, relay.dark_count_per_gate
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_pattern_agrees_with_number_states(seed):
    # Truncation: a coherent state of at most 0.4 photons beyond 9 has a weight below 3e-11.
    rng = np.random.default_rng(seed)
    relay = random_relay(rng)
    eta_a, _, _, eta_b = relay.arm_transmittances
    at_node = rng.uniform(0, 0.4, 2)
    phase_a, phase_b = rng.uniform(0, 2 * np.pi, 2)
    a, b = ClickModel(relay).pattern_coefficients(at_node[0] / eta_a, at_node[1] / eta_b)
    closed = a + b * math.cos(phase_a - phase_b)
    light = [(1.0, fock.coherent(at_node[0], phase_a), fock.coherent(at_node[1], phase_b))]
    np.testing.assert_allclose(closed, fock_patterns(relay, light), rtol=1e-6, atol=1e-10)


def test_patterns_are_a_distribution_at_every_phase():
    rng = np.random.default_rng(7)
    for _ in range(50):
        a, b = ClickModel(random_relay(rng)).pattern_coefficients(*rng.uniform(0, 2, 2))
        assert a.sum() == pytest.approx(1, abs=1e-13)
        assert b.sum() == pytest.approx(0, abs=1e-15)
        assert np.all(a - abs(b) > -1e-14)


def test_only_success_patterns_depend_on_the_phases():
    """The sampler draws "no click" before it knows the phases; that needs b = 0 exactly."""
    rng = np.random.default_rng(8)
    for _ in range(50):
        _, b = ClickModel(random_relay(rng)).pattern_coefficients(*rng.uniform(0.1, 2, 2))
        others = [k for k in range(16) if k not in SUCCESS_PATTERNS]
        assert np.all(b[others] == 0)
        np.testing.assert_allclose(b[list(SAME_SIGN)], -b[list(OPPOSITE_SIGN)], rtol=1e-12)


def test_source_off_leaves_independent_poisson_clicks():
    relay = dataclasses.replace(preset("A"), arms_km=(5.0, 10.0, 20.0, 30.0), dark_count_per_gate=1e-3)
    model = ClickModel(relay, source_on=False)
    eta_a, _, _, eta_b = relay.arm_transmittances
    click = 1 - (1 - 1e-3) * np.exp(-np.array([0.5 * eta_a] * 2 + [1.5 * eta_b] * 2) / 2)
    np.testing.assert_allclose(model.single_clicks(0.5, 1.5), click, rtol=1e-13)
    dark_and_shuttered = ClickModel(relay, source_on=False, dark_counts=False)
    assert dark_and_shuttered.no_click_probability(0.0, 0.0) == 1.0


def test_dark_counts_join_the_patterns_of_light():
    relay = dataclasses.replace(preset("A"), dark_count_per_gate=0.05)
    light, _ = ClickModel(relay, dark_counts=False).pattern_coefficients(0.3, 0.2)
    dark = np.array([0.05 ** k.bit_count() * 0.95 ** (4 - k.bit_count()) for k in range(16)])
    joined, _ = ClickModel(relay).pattern_coefficients(0.3, 0.2)
    np.testing.assert_allclose(fock.or_combine(light, dark), joined, rtol=0, atol=2e-15)


def test_arrays_broadcast_and_equal_scalars():
    model = ClickModel(preset("C"))
    levels = np.array([0.0, 0.006, 0.016])
    gain, qber = model.gain_and_qber(levels[:, None], levels)
    assert gain.shape == qber.shape == (3, 3)
    assert gain[1, 2] == pytest.approx(float(model.gain_and_qber(0.006, 0.016)[0]), rel=1e-14)


def weak(g2, overlap):
    return RelayParameters(
        source_mean_photons=1e-4, g2=g2, overlap=overlap, eta_d=1.0, dark_count_per_gate=0.0, arms_km=(0, 0, 0, 0)
    )


@pytest.mark.parametrize(("g2", "overlap"), [(0.0205, 0.95), (0.010, 0.95), (0.005, 0.97)])
def test_error_floor_of_weak_light(g2, overlap):
    """Acceptance 3: the minimum of E over r is E_min within 2 %, at r = sqrt(g2)/2."""
    relay = weak(g2, overlap)
    ratio = np.geomspace(0.01, 1, 401)
    mu = ratio * relay.source_mean_photons
    gain, qber = ClickModel(relay).gain_and_qber(mu, mu)
    assert qber.min() == pytest.approx((1 - overlap / (1 + math.sqrt(g2))) / 2, rel=0.02)
    assert ratio[qber.argmin()] == pytest.approx(math.sqrt(g2) / 2, rel=0.02)
    leading = relay.source_mean_photons * mu + mu**2 + g2 * relay.source_mean_photons**2 / 4
    np.testing.assert_allclose(gain, leading, rtol=1e-3)


def test_error_floors_of_two_sources():
    for g2, floor in ((0.0205, 0.084), (0.01, 0.068)):
        mu = math.sqrt(g2) / 2 * 1e-4
        assert float(ClickModel(weak(g2, 0.95)).gain_and_qber(mu, mu)[1]) == pytest.approx(floor, abs=5e-4)


@pytest.mark.parametrize("g2", [0.0, 0.01, 0.05])
def test_hong_ou_mandel_visibility_at_one_node(g2):
    relay = weak(g2, 0.95)
    arm = relay.source_mean_photons / 2
    for ratio in (0.1, 0.5, 2.0):
        light = ratio * arm
        double, without = (
            ClickModel(dataclasses.replace(relay, overlap=m)).pattern_coefficients(light, 0.0)[0][3] for m in (0.95, 0)
        )
        expected = 0.95 / (1 + light / (2 * arm) + g2 * arm / (2 * light))
        assert 1 - double / without == pytest.approx(expected, rel=1e-4)


def test_swapping_detector_names_inverts_the_key():
    """Acceptance 6."""
    a, b = ClickModel(preset("A")).pattern_coefficients(0.016, 0.016)
    swapped = [(k & 0b1100) | (k & 1) << 1 | (k >> 1 & 1) for k in range(16)]
    p = a + b
    q = p[swapped]
    error = p[list(OPPOSITE_SIGN)].sum() / p[list(SUCCESS_PATTERNS)].sum()
    swapped_error = q[list(OPPOSITE_SIGN)].sum() / q[list(SUCCESS_PATTERNS)].sum()
    assert error < 0.1
    assert swapped_error == pytest.approx(1 - error, abs=1e-12)


def test_phase_contrast():
    assert phase_contrast() == 1
    assert phase_contrast(slices=16) == pytest.approx(0.99359, abs=5e-6)
    residual = np.random.default_rng(3).normal(0, 0.15, 400_000)
    assert phase_contrast(0.15) == pytest.approx(np.cos(residual).mean(), abs=2e-4)


def test_published_example_of_exact_and_averaged_phases():
    """50 km, preset A: E = 6.66 % with exact phases, 7.42 % with slices and residual (section 3)."""
    model = ClickModel(preset("A"))
    assert float(model.gain_and_qber(0.0168, 0.0168)[1]) == pytest.approx(0.0666, abs=2e-4)
    averaged = model.gain_and_qber(0.0168, 0.0168, phase_residual_rms=0.15, slices=16)[1]
    assert float(averaged) == pytest.approx(0.0742, abs=2e-4)


def test_fringe_and_offset():
    model = ClickModel(preset("A"))
    same, opposite = model.success_by_phase(0.016, 0.016, np.array([0, np.pi / 2, np.pi]))
    gain, qber = model.gain_and_qber(0.016, 0.016)
    np.testing.assert_allclose(same + opposite, gain, rtol=1e-13)
    assert opposite[0] / gain == pytest.approx(float(qber))
    assert same[1] == pytest.approx(opposite[1])
    assert float(model.gain_and_qber(0.016, 0.016, phase_offset=np.pi)[1]) == pytest.approx(1 - float(qber))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("overlap", 1.2, r"overlap 1\.2 is out of range; give 0\.0 to 1\.0"),
        ("arms_km", (1.0, 2.0), "arms_km has 2 entries; give 4"),
        ("node_overlaps", (0.5, 0.5, 0.9), "M12 = 0.9 exceeds"),
        ("source_mean_photons", 1.5, "gives p0 ="),
    ],
)
def test_bad_parameters_name_themselves(key, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(preset("A"), **{key: value})


def test_bad_preset_and_bad_intensity():
    with pytest.raises(ValueError, match="preset 'D' does not exist; give one of A, B, C"):
        preset("D")
    with pytest.raises(ValueError, match="mu_b must not be negative"):
        ClickModel(preset("A")).pattern_coefficients(0.1, -0.1)


def test_every_parameter_states_its_provenance():
    names = {f.name for f in dataclasses.fields(RelayParameters)} - {"name", "provenance", "timing"}
    for key in "ABC":
        assert set(preset(key).provenance) == names
