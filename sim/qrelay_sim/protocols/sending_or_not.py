"""Sending or not sending: the bit is whether a pulse was sent (physics.md sections 2.1, 4.2 P2, 5.6).

One class for the relay (P2) and the single node (SNS twin-field). In key windows each user sends mu with probability
epsilon; phases are used in decoy windows alone.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.chernoff import (
    expectation_lower,
    expectation_upper,
    observation_lower,
    observation_upper,
    sum_lower,
    sum_upper,
)
from qrelay_sim.click_model import ClickModel, phase_contrast
from qrelay_sim.entropy import binary_entropy, phase_cost, ratio
from qrelay_sim.number_states import Interference, SinglePhoton, single_photon
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
from qrelay_sim.protocols.levels import (
    balance_variable,
    bob_balance,
    level_probabilities,
    level_variables,
    probability_variables,
    user_levels,
    users,
)
from qrelay_sim.protocols.phase_matching import single_photon_weights
from qrelay_sim.single_node import SingleNode
from qrelay_sim.success_table import relay_table, single_node_table

__all__ = ["RELAY_SENDING_OR_NOT", "SNS", "SendingOrNot"]

FloatArray = NDArray[np.float64]

_BOUNDS = 7
"""Weak, strong and vacuum gains, vacuum from below, errors, single photons and their phase errors in the key."""


class SendingOrNot(Protocol):
    """Key windows: mu or nothing. Decoy windows: mu, nu, vacuum with D phases, matched where both send nu."""

    senders = SenderChoices(("vac", "nu", "mu", "key: nothing", "key: mu"), 16, "a pulse was sent, or not")

    def __init__(
        self,
        name: str,
        title: str,
        short: str,
        kind: str,
        section: str,
        source: str,
        interference: Callable[[RelayParameters], Interference],
    ) -> None:
        self.name, self.title, self.short, self.kind, self.section, self.source = (
            name,
            title,
            short,
            kind,
            section,
            source,
        )
        self._interference = interference

    def success_table(self, relay: RelayParameters) -> FloatArray:
        """Any success counts; its sign is used in decoy windows."""
        return (relay_table if self.kind == "relay" else single_node_table)(relay.double_clicks)

    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """Mu and epsilon; with a block also the windows' and levels' probabilities."""
        key = (
            Variable("mu", 0.01, 1.0, "mean photon number of Alice's pulse in key windows"),
            Variable("send", 1e-3, 0.5, "Alice's probability to send in a key window"),
            *balance_variable(relay),
        )
        if block is None:
            return key
        window = Variable("p_z", 0.02, 0.98, "probability of a key window, by user", logarithmic=False)
        return (*key, *level_variables(), window, *probability_variables())

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Levels by user, sending probabilities."""
        send_b = float(_send_b({name: np.asarray(value) for name, value in settings.items()}))
        shown = user_levels(settings) | {"send_a": settings["send"], "send_b": send_b}
        return shown | ({"p_z": settings["p_z"]} if "p_z" in settings else {})

    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """At the mean intensity of a key window, which is never brighter than a decoy window's pulse."""
        mu_a, mu_b = users(settings, settings["mu"])
        return self._interference(relay).single_clicks(mu_a * settings["send"], mu_b * _send_b(settings))

    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """P2 of section 4.2."""
        gain, qber = self._key_window(relay, settings)
        y1, e1 = self._single_photon(relay, settings)
        single = _single_weight(settings) * y1
        correction = relay.error_correction_efficiency * gain * binary_entropy(qber)
        return KeyRate(single * (1 - phase_cost(e1)) - correction, qber, e1 + 0 * gain, gain, gain)

    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Key windows, one-sided decoys, vacuum, and matched nu-nu."""
        interference = self._interference(relay)
        p_mu, p_nu, p_vac = level_probabilities(settings)
        key, decoy = block.slots * settings["p_z"] ** 2, block.slots * (1 - settings["p_z"]) ** 2
        mu, nu = users(settings, settings["mu"]), users(settings, settings["mu"] * settings["nu/mu"])
        zero = np.zeros_like(mu[0])
        gain, qber = self._key_window(relay, settings)
        matched = interference.announced(*nu, contrast=self._contrast(relay))
        counts = {
            "key": Tally.expected(key, gain * (1 - qber), gain * qber),
            "nunu": Tally.expected(decoy * p_nu**2 * 2 / relay.phase_slices, *matched),
        }
        for name, pair, p in (
            ("vac", (zero, zero), p_vac**2),
            ("nu_a", (nu[0], zero), p_nu * p_vac),
            ("nu_b", (zero, nu[1]), p_nu * p_vac),
            ("mu_a", (mu[0], zero), p_mu * p_vac),
            ("mu_b", (zero, mu[1]), p_mu * p_vac),
        ):
            half = interference.gain_of_mixed_phases(*pair) / 2
            counts[name] = Tally.expected(decoy * p, half, half)
        return counts

    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Single photons from one-sided decoys, their phase errors from matched nu-nu windows."""
        beta = block.epsilon.beta(_BOUNDS)
        share_b = bob_balance(settings) / (1 + bob_balance(settings))
        shares = {"a": 1 - share_b, "b": share_b}
        weak: list[tuple[FloatArray, FloatArray]] = []
        strong: list[tuple[FloatArray, FloatArray]] = []
        vacuum: FloatArray = np.zeros(1)
        for user, mu in zip("ab", users(settings, settings["mu"]), strict=True):
            weight_nu, weight_mu, weight_0 = single_photon_weights(mu, mu * settings["nu/mu"])
            weak.append((shares[user] * weight_nu / counts[f"nu_{user}"].slots, counts[f"nu_{user}"].successes))
            strong.append((-shares[user] * weight_mu / counts[f"mu_{user}"].slots, counts[f"mu_{user}"].successes))
            vacuum = vacuum - shares[user] * weight_0
        vac, nunu, key = counts["vac"], counts["nunu"], counts["key"]
        y1 = sum_lower(beta, *weak) - sum_upper(beta, *strong)
        y1 = np.maximum(y1 - vacuum * expectation_upper(vac.successes, beta) / vac.slots, 0.0)
        x = settings["mu"] * settings["nu/mu"] * (1 + bob_balance(settings))
        wrong = expectation_upper(nunu.errors, beta) / nunu.slots * np.exp(x)
        e1 = ratio(wrong - expectation_lower(vac.successes, beta) / vac.slots / 2, x * y1)
        single = observation_lower(key.slots * _single_weight(settings) * y1, beta)
        phase_error = ratio(observation_upper(single * np.clip(e1, 0, 1), beta), single)
        qber = ratio(key.errors, key.successes)
        leak = relay.error_correction_efficiency * key.successes * binary_entropy(qber)
        length = single * (1 - phase_cost(phase_error)) - leak - block.epsilon.hashing_bits
        gain = ratio(key.successes, key.slots)
        return KeyRate(length / block.slots, qber, phase_error, gain, key.successes / block.slots)

    def sift(self, announced: Announced) -> Sifted:
        """All successes with key windows on both sides; Alice: sent is 1, Bob: sent is 0."""
        nothing, sent = (self.senders.levels.index(name) for name in ("key: nothing", "key: mu"))
        keyed = (announced.level_a >= nothing) & (announced.level_b >= nothing)
        index = np.flatnonzero(keyed)
        bits_a = (announced.level_a[index] == sent).astype(np.uint8)
        bits_b = (announced.level_b[index] != sent).astype(np.uint8)
        return Sifted(index, bits_a, bits_b)

    def _key_window(self, relay: RelayParameters, settings: Settings) -> tuple[FloatArray, FloatArray]:
        """Gain and QBER: an error is that both sent, or neither."""
        gain = self._interference(relay).gain_of_mixed_phases
        mu_a, mu_b = users(settings, settings["mu"])
        send_a, send_b = settings["send"], _send_b(settings)
        zero = np.zeros_like(mu_a)
        wrong = (1 - send_a) * (1 - send_b) * gain(zero, zero) + send_a * send_b * gain(mu_a, mu_b)
        right = send_a * (1 - send_b) * gain(mu_a, zero) + (1 - send_a) * send_b * gain(zero, mu_b)
        return right + wrong, ratio(wrong, right + wrong)

    def _single_photon(self, relay: RelayParameters, settings: Settings) -> tuple[FloatArray, FloatArray]:
        if "balance" in settings:
            photon = single_photon(self._interference(relay), 1 / (1 + settings["balance"]), self._contrast(relay))
        else:
            photon = _shared_evenly(self._interference, relay, self._contrast(relay))
        return photon.gain + 0 * settings["mu"], photon.wrong_fraction + 0 * settings["mu"]

    def _contrast(self, relay: RelayParameters) -> float:
        residual = relay.phase_residual_rms_rad if self.kind == "relay" else 0.0
        return phase_contrast(residual, relay.phase_slices)


@lru_cache(maxsize=64)
def _shared_evenly(
    interference: Callable[[RelayParameters], Interference], relay: RelayParameters, contrast: float
) -> SinglePhoton:
    """A photon that both users share in equal parts: the same for all settings of equal users."""
    return single_photon(interference(relay), 0.5, contrast)


def _send_b(settings: Settings) -> FloatArray:
    """Bob's sending probability: unequal users must emit their single photons in the ratio of the decoys' intensities.

    eps_A (1 - eps_B) exp(-mu_A) = eps_B (1 - eps_A) exp(-mu_B), the condition of asymmetric sending-or-not protocols
    (Hu, Jiang, Yu, Wang, PRA 100, 062337).
    """
    mu_a, mu_b = users(settings, np.asarray(settings["mu"]))
    odds = settings["send"] / (1 - settings["send"]) * np.exp(mu_b - mu_a)
    return np.asarray(odds / (1 + odds))


def _single_weight(settings: Settings) -> FloatArray:
    """Probability that a key window holds exactly one photon, from one user while the other sends nothing."""
    mu_a, mu_b = users(settings, settings["mu"])
    weight: FloatArray = settings["send"] * (1 - _send_b(settings)) * np.exp(-mu_a) * (mu_a + mu_b)
    return weight


RELAY_SENDING_OR_NOT = SendingOrNot(
    "relay-sending-or-not",
    "relay, sending or not (P2)",
    "P2",
    "relay",
    "4.2 (P2)",
    "relay version of Wang, Yu, Hu, PRA 98, 062323; derived in physics.md",
    ClickModel,
)
SNS = SendingOrNot("sns", "SNS twin-field", "SNS", "baseline", "5.6", "Wang, Yu, Hu, PRA 98, 062323", SingleNode)
