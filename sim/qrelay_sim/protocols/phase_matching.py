"""Phase matching: bit = pi shift, kept where the phases of both users agree (physics.md sections 2, 4.1-4.3, 5.4).

One class for the relay (P1), the relay with right and wrong positions hashed apart (P1c), and the single node (PM-QKD).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay_sim.chernoff import expectation_lower, expectation_upper, observation_lower
from qrelay_sim.click_model import ClickModel, phase_contrast
from qrelay_sim.entropy import binary_entropy, largest_entropy, phase_cost, ratio
from qrelay_sim.number_states import Interference
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
from qrelay_sim.single_node import SingleNode
from qrelay_sim.success_table import relay_table, single_node_table

__all__ = [
    "PHASE_MATCHING",
    "RELAY_PHASE_MATCHING",
    "RELAY_PHASE_MATCHING_CONDITIONAL",
    "Parity",
    "PhaseMatching",
    "odd_successes",
    "parity",
    "phase_matching_sift",
    "single_photon_weights",
]

FloatArray = NDArray[np.float64]

_BOUNDS = 4
"""Bounds that share the failure probability: three gains and one odd count."""
_CONDITIONAL_BOUNDS = 12
"""For right events, and again for wrong ones: three gains, the vacuum from below, the odd and the vacuum count."""


@dataclass(frozen=True)
class Parity:
    """Successes and parity content at one pair of intensities: q_even, q_c given a right bit, q_e given a wrong bit."""

    gain: FloatArray
    qber: FloatArray
    even: FloatArray
    even_given_right: FloatArray
    even_given_wrong: FloatArray


def parity(interference: Interference, mu_a: ArrayLike, mu_b: ArrayLike, contrast: float) -> Parity:
    """Exact parity content of the closed form (section 3.1)."""
    damping = np.exp(-2 * (np.asarray(mu_a, dtype=np.float64) + np.asarray(mu_b, dtype=np.float64)))
    right, wrong = interference.announced(mu_a, mu_b, contrast=contrast)
    right_minus, wrong_minus = interference.announced(mu_a, mu_b, contrast=contrast, scale=-1.0)

    def even(minus: FloatArray, plus: FloatArray) -> FloatArray:
        share: FloatArray = np.clip((1 + damping * ratio(minus, plus)) / 2, 0.0, 1.0)
        return share

    gain = right + wrong
    return Parity(
        gain,
        ratio(wrong, gain),
        even(right_minus + wrong_minus, gain),
        even(right_minus, right),
        even(wrong_minus, wrong),
    )


def single_photon_weights(x: ArrayLike, v: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weights of Q_nu, Q_mu and Q_0 in the lower bound of Y_1 (section 4.3); x, v are mean photon numbers."""
    strong, weak = np.asarray(x, dtype=np.float64), np.asarray(v, dtype=np.float64)
    if not np.all((weak > 0) & (weak < strong)):
        raise ValueError(f"v = {weak} and x = {strong}: the weak pair needs 0 < v < x, lower nu or raise mu")
    scale = strong / (strong * weak - weak**2)
    return (
        scale * np.exp(weak),
        -scale * np.exp(strong) * weak**2 / strong**2,
        -scale * (strong**2 - weak**2) / strong**2,
    )


def phase_matching_sift(announced: Announced, phases: int, keyed: NDArray[np.bool_]) -> Sifted:
    """Keep successes with phases equal up to the key bit's half turn; Bob flips as announced (section 2, 5 and 6)."""
    half = phases // 2
    same_slice = announced.phase_a % half == announced.phase_b % half
    index = np.flatnonzero(same_slice & keyed)
    bits_a = (announced.phase_a[index] >= half).astype(np.uint8)
    bits_b = (announced.phase_b[index] >= half).astype(np.uint8) ^ announced.outcome[index]
    return Sifted(index, bits_a, bits_b)


class PhaseMatching(Protocol):
    """Three common levels mu, nu, vacuum; D phases; key from matched mu-mu successes."""

    section = "4.2, 4.3"
    senders = SenderChoices(("vac", "nu", "mu"), 16, "half turn of the phase")

    def __init__(
        self,
        name: str,
        title: str,
        short: str,
        kind: str,
        section: str,
        source: str,
        interference: Callable[[RelayParameters], Interference],
        *,
        conditional: bool = False,
        review: str | None = None,
    ) -> None:
        self.name, self.title, self.short, self.kind, self.section, self.source = (
            name,
            title,
            short,
            kind,
            section,
            source,
        )
        self.review = review
        self._interference = interference
        self._conditional = conditional

    def success_table(self, relay: RelayParameters) -> FloatArray:
        """Equal signs keep, opposite signs flip; or the one node's two detectors."""
        table = relay_table if self.kind == "relay" else single_node_table
        return table(relay.double_clicks)

    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """Mu, and with a block the ratio and probabilities of the levels."""
        mu = Variable("mu", 1e-4, 0.5, "mean photon number of Alice's signal")
        decoys = (*level_variables(), *probability_variables()) if block else ()
        return (mu, *balance_variable(relay), *decoys)

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Levels by user."""
        return user_levels(settings)

    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """At the signal level."""
        return self._interference(relay).single_clicks(*users(settings, settings["mu"]))

    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """P1 or P1c with the exact parity content; PM-QKD for the single node."""
        found = parity(self._interference(relay), *users(settings, settings["mu"]), self._contrast(relay))
        correction = relay.error_correction_efficiency * binary_entropy(found.qber)
        if self._conditional:
            cost = (1 - found.qber) * binary_entropy(found.even_given_right)
            cost = cost + found.qber * binary_entropy(found.even_given_wrong)
        else:
            cost = phase_cost(found.even)
        sifted = 2 / relay.phase_slices * found.gain
        return KeyRate(sifted * (1 - cost - correction), found.qber, found.even, found.gain, sifted)

    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Matched mu-mu and nu-nu slots; the vacuum counts whatever its phases are."""
        interference, contrast = self._interference(relay), self._contrast(relay)
        p_mu, p_nu, p_vac = level_probabilities(settings)
        matched = 2 / relay.phase_slices
        strong, weak = settings["mu"], settings["mu"] * settings["nu/mu"]
        slots = {"mu": p_mu**2 * matched, "nu": p_nu**2 * matched, "vac": p_vac**2}
        levels = {"mu": strong, "nu": weak, "vac": np.zeros_like(strong)}
        return {
            name: Tally.expected(
                block.slots * slots[name], *interference.announced(*users(settings, level), contrast=contrast)
            )
            for name, level in levels.items()
        }

    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Section 4.3: Chernoff bounds on every count, single-photon yield from below, the rest counted as even."""
        x = settings["mu"] * (1 + bob_balance(settings))
        v = x * settings["nu/mu"]
        mu = counts["mu"]
        qber = ratio(mu.errors, mu.successes)
        correction = relay.error_correction_efficiency * binary_entropy(qber)
        even = 1 - odd_successes(x, v, counts, _successes, block.epsilon.beta(_BOUNDS)) / np.maximum(
            mu.successes, 1e-300
        )
        cost = self._conditional_cost(x, v, counts, qber, block) if self._conditional else phase_cost(even)
        length = mu.successes * (1 - cost - correction) - block.epsilon.hashing_bits
        return KeyRate(length / block.slots, qber, even, ratio(mu.successes, mu.slots), mu.successes / block.slots)

    def _conditional_cost(
        self, x: FloatArray, v: FloatArray, counts: Counts, qber: FloatArray, block: Block
    ) -> FloatArray:
        """P1c: right and wrong positions estimated apart, the largest entropy of each interval."""
        beta = block.epsilon.beta(_CONDITIONAL_BOUNDS)
        cost = np.zeros_like(qber)
        for share, of in ((1 - qber, _right), (qber, _wrong)):
            events = np.maximum(of(counts["mu"]), 1e-300)
            high = 1 - odd_successes(x, v, counts, of, beta) / events
            vacuum = expectation_lower(of(counts["vac"]), beta) / counts["vac"].slots
            low = observation_lower(counts["mu"].slots * np.exp(-x) * vacuum, beta) / events
            cost = cost + share * largest_entropy(low, high)
        return cost

    def sift(self, announced: Announced) -> Sifted:
        """Matched mu-mu successes."""
        signal = self.senders.levels.index("mu")
        keyed = (announced.level_a == signal) & (announced.level_b == signal)
        return phase_matching_sift(announced, self.senders.phases or 2, keyed)

    def _contrast(self, relay: RelayParameters) -> float:
        # The misalignment of a baseline contains its phase noise.
        residual = relay.phase_residual_rms_rad if self.kind == "relay" else 0.0
        return phase_contrast(residual, relay.phase_slices)


def _successes(tally: Tally) -> FloatArray:
    return tally.successes


def _right(tally: Tally) -> FloatArray:
    return tally.successes - tally.errors


def _wrong(tally: Tally) -> FloatArray:
    return tally.errors


def odd_successes(
    x: FloatArray, v: FloatArray, counts: Counts, of: Callable[[Tally], FloatArray], beta: float
) -> FloatArray:
    """Lower bound of the mu-mu successes with an odd photon number: those with one photon (section 4.3)."""
    weight_nu, weight_mu, weight_0 = single_photon_weights(x, v)
    mu, nu, vac = counts["mu"], counts["nu"], counts["vac"]
    y1 = (
        weight_nu * expectation_lower(of(nu), beta) / nu.slots
        + weight_mu * expectation_upper(of(mu), beta) / mu.slots
        + weight_0 * expectation_upper(of(vac), beta) / vac.slots
    )
    odd: FloatArray = np.minimum(observation_lower(mu.slots * x * np.exp(-x) * np.maximum(0.0, y1), beta), of(mu))
    return odd


RELAY_PHASE_MATCHING = PhaseMatching(
    "relay-phase-matching",
    "relay, phase matching (P1)",
    "P1",
    "relay",
    "4.2, 4.3 (P1)",
    "Zeng, Wu, Ma, PR Applied 13, 064013",
    ClickModel,
)
RELAY_PHASE_MATCHING_CONDITIONAL = PhaseMatching(
    "relay-phase-matching-conditional",
    "relay, phase matching, conditional (P1c)",
    "P1c",
    "relay",
    "4.2, 4.3 (P1c)",
    "derived in physics.md",
    ClickModel,
    conditional=True,
    review="awaiting outside review",
)
PHASE_MATCHING = PhaseMatching(
    "phase-matching", "PM-QKD", "PM", "baseline", "5.4", "Ma, Zeng, Zhou, PRX 8, 031043", SingleNode
)
