"""Decoy BB84 with two decoy levels (physics.md section 5.2)."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.entropy import binary_entropy, phase_cost, ratio
from qrelay_sim.parameters import RelayParameters
from qrelay_sim.protocols.base import (
    Announced,
    Block,
    Counts,
    KeyRate,
    Protocol,
    SenderChoices,
    Settings,
    Sifted,
    Tally,
    Variable,
)
from qrelay_sim.protocols.levels import level_probabilities, level_variables, probability_variables
from qrelay_sim.success_table import single_node_table

__all__ = ["DECOY_BB84", "DecoyBb84"]

FloatArray = NDArray[np.float64]

_TERMS = 21
"""Failure terms that share the secrecy failure probability in Lim et al."""


class DecoyBb84(Protocol):
    """Alice sends to Bob over the whole fibre; key basis X, test basis Z, levels mu, nu and nothing."""

    name = "decoy-bb84"
    title = "decoy BB84"
    short = "BB84"
    kind = "baseline"
    section = "5.2"
    source = "Lim, Curty, Walenta, Xu, Zbinden, PRA 89, 022307"
    senders = SenderChoices(("vac", "nu", "mu"), 4, "phase index 0, 1 key basis, 2, 3 test basis")

    def success_table(self, relay: RelayParameters) -> FloatArray:
        """Bob's two detectors; a double click gives a random bit, which the security proof asks for."""
        return single_node_table("random")

    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """Mu; with a block decoy, probabilities and key basis."""
        mu = Variable("mu", 0.01, 1.5, "mean photon number of the signal")
        if block is None:
            return (mu,)
        basis = Variable("p_x", 0.02, 0.99, "probability of the key basis, by user", logarithmic=False)
        return (mu, *level_variables(0.8), *probability_variables(), basis)

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Levels of Alice."""
        shown = {"mu": settings["mu"]}
        if "p_mu" in settings:
            p_nu = (1 - settings["p_mu"]) * settings["share_nu"]
            shown |= {"nu": settings["mu"] * settings["nu/mu"], "p_mu": settings["p_mu"], "p_nu": p_nu}
            shown |= {"p_vac": 1 - settings["p_mu"] - p_nu, "p_x": settings["p_x"]}
        return shown

    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """Either detector, one half of the light each."""
        click = 1 - (1 - relay.dark_probability) * np.exp(-_transmittance(relay) * settings["mu"] / 2)
        return np.stack([click, click], axis=-1)

    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """All slots in the key basis, exact Y1 and e1."""
        mu = settings["mu"]
        eta, y0 = _transmittance(relay), 2 * relay.dark_probability
        gain, wrong = _gains(relay, mu)
        y1 = y0 + eta
        e1 = (y0 / 2 + relay.baseline_misalignment * eta) / y1
        qber = ratio(wrong, gain)
        single = mu * np.exp(-mu) * y1 * (1 - phase_cost(e1))
        rate = single - relay.error_correction_efficiency * gain * binary_entropy(qber)
        return KeyRate(rate, qber, np.full_like(mu, e1), gain, gain)

    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Both bases at three levels."""
        levels = {"mu": settings["mu"], "nu": settings["mu"] * settings["nu/mu"], "vac": np.zeros_like(settings["mu"])}
        counts = {}
        for (name, level), p in zip(levels.items(), level_probabilities(settings), strict=True):
            gain, wrong = _gains(relay, level)
            for basis, chosen in (("x", settings["p_x"]), ("z", 1 - settings["p_x"])):
                counts[f"{name}_{basis}"] = Tally.expected(block.slots * chosen**2 * p, gain - wrong, wrong)
        return counts

    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Lim et al. 2014 with Hoeffding bounds; key from all levels of the key basis."""
        secrecy = block.epsilon.total - block.epsilon.correctness
        mu, nu = settings["mu"], settings["mu"] * settings["nu/mu"]
        probabilities = dict(zip(("mu", "nu", "vac"), level_probabilities(settings), strict=True))
        means = {"mu": mu, "nu": nu, "vac": np.zeros_like(mu)}
        tau1 = sum(p * np.exp(-means[name]) * means[name] for name, p in probabilities.items())
        tau0 = sum(p * np.exp(-means[name]) for name, p in probabilities.items())

        def scaled(basis: str, errors: bool, sign: int) -> dict[str, FloatArray]:
            seen = {name: getattr(counts[f"{name}_{basis}"], "errors" if errors else "successes") for name in means}
            width = np.sqrt(sum(seen.values()) / 2 * math.log(_TERMS / secrecy))
            return {
                name: np.exp(means[name]) / probabilities[name] * np.maximum(n + sign * width, 0.0)
                for name, n in seen.items()
            }

        def singles(basis: str) -> tuple[FloatArray, FloatArray]:
            low, high = scaled(basis, False, -1), scaled(basis, False, 1)
            s0 = tau0 * low["vac"]
            s1 = low["nu"] - high["vac"] - nu**2 / mu**2 * (high["mu"] - s0 / tau0)
            return s0, np.maximum(tau1 * mu * s1 / (mu * nu - nu**2), 0.0)

        s0, s1 = singles("x")
        _, test = singles("z")
        wrong = tau1 * (scaled("z", True, 1)["nu"] - scaled("z", True, -1)["vac"]) / nu
        phi = _with_sampling(np.clip(ratio(wrong, test), 0, 1), test, s1, secrecy)
        sifted: FloatArray = np.sum([counts[f"{name}_x"].successes for name in means], axis=0)
        errors = np.sum([counts[f"{name}_x"].errors for name in means], axis=0)
        qber = ratio(errors, sifted)
        leak = relay.error_correction_efficiency * sifted * binary_entropy(qber)
        hashing = 6 * math.log2(_TERMS / secrecy) + math.log2(2 / block.epsilon.correctness)
        length = s0 + s1 * (1 - phase_cost(phi)) - leak - hashing
        gain = ratio(counts["mu_x"].successes, counts["mu_x"].slots)
        return KeyRate(length / block.slots, qber, phi, gain, sifted / block.slots)

    def sift(self, announced: Announced) -> Sifted:
        """Key basis on both sides; `outcome` is Bob's bit."""
        index = np.flatnonzero((announced.phase_a < 2) & (announced.phase_b < 2))
        return Sifted(index, announced.phase_a[index] & np.uint8(1), announced.outcome[index])


def _transmittance(relay: RelayParameters) -> float:
    gate = relay.filtered.user_fraction if relay.filtered else 1.0
    return relay.channel_transmittance * relay.eta_d * gate


def _gains(relay: RelayParameters, mu: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gain and gain of errors."""
    y0 = 2 * relay.dark_probability
    light = -np.expm1(-_transmittance(relay) * mu)
    return y0 + light, y0 / 2 + relay.baseline_misalignment * light


def _with_sampling(error: FloatArray, test: FloatArray, key: FloatArray, secrecy: float) -> FloatArray:
    """Phase-error rate of the key's single photons, from the test basis' error rate (random sampling)."""
    c, d = np.maximum(test, 1.0), np.maximum(key, 1.0)
    b = np.clip(error, 1e-9, 1 - 1e-9)
    spread = (c + d) * (1 - b) * b / (c * d * math.log(2))
    deviation = spread * np.log2((c + d) / (c * d * (1 - b) * b) * (_TERMS / secrecy) ** 2)
    return np.where((test >= 1) & (key >= 1), error + np.sqrt(np.maximum(deviation, 0.0)), 0.5)


DECOY_BB84 = DecoyBb84()
