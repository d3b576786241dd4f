"""Twin-field QKD of Curty, Azuma and Lo: no phase announcement, phase errors from number-state yields (5.5)."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.chernoff import expectation_lower, expectation_upper, observation_upper, sum_lower, sum_upper
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
from qrelay_sim.protocols.levels import balance_variable, bob_balance, level_probabilities, probability_variables, users
from qrelay_sim.protocols.pair_decoy import PairDecoy, vacuum_part_upper
from qrelay_sim.protocols.phase_matching import single_photon_weights
from qrelay_sim.single_node import SingleNode
from qrelay_sim.success_table import single_node_table

__all__ = ["CAL", "Cal", "node_yields"]

FloatArray = NDArray[np.float64]

_NUMBERS: Final = 16
"""Photon numbers taken; beyond, a signal of 0.5 photons has an amplitude below 1e-9."""
_BOUNDS: Final = 13
"""Six gains of vacuum and one sender, six of sums over pairs of levels (proportional ones count once), phase errors."""
_n = np.arange(_NUMBERS)
_FACTORIAL = np.array([float(math.factorial(int(n))) for n in _n])
_EVEN, _ODD = _n[::2], _n[1::2]


@lru_cache(maxsize=64)
def node_yields(relay: RelayParameters) -> FloatArray:
    """Y_nm: probability of a success given n photons of Alice and m of Bob, phases random; [n, m]."""
    node = SingleNode(relay)
    log_live = relay.log_dark_silence
    lost = _log_all_lost(node.eta_a)[:, None] + _log_all_lost(node.eta_b)
    if relay.double_clicks == "random":
        return -np.expm1(2 * log_live + lost)
    one_silent = np.log1p(-node.eta_a / 2) * _n[:, None] + np.log1p(-node.eta_b / 2) * _n
    excess = np.zeros((_NUMBERS, _NUMBERS))
    pair = node.visibility**2 * node.eta_a * node.eta_b / 4 / ((1 - node.eta_a / 2) * (1 - node.eta_b / 2))
    for n in _n:
        for m in _n:
            excess[n, m] = sum(math.comb(n, k) * math.comb(m, k) * pair**k for k in range(1, min(n, m) + 1))
    # One detector silent, less both silent: exp(s) (1 + excess) - Y exp(lost), without cancellation.
    found: FloatArray = 2 * np.exp(log_live + one_silent) * (excess - np.expm1(log_live + lost - one_silent))
    return np.clip(found, 0.0, 1.0)


def _log_all_lost(eta: float) -> FloatArray:
    """ln (1 - eta)^n for every n; without loss only no photons are lost for certain."""
    one = math.log1p(-eta) if eta < 1 else -math.inf
    return np.multiply(_n, one, out=np.zeros(_NUMBERS), where=_n > 0)


class Cal(Protocol):
    """Key windows: coherent light with phase 0 or pi. Decoy windows: random phases, levels mu, nu, vacuum."""

    name = "cal"
    title = "CAL twin-field"
    short = "CAL"
    kind = "baseline"
    section = "5.5"
    source = "Curty, Azuma, Lo, npj Quantum Inf. 5, 64"
    senders = SenderChoices(("vac", "nu", "mu", "key"), 2, "phase 0 or pi")

    def success_table(self, relay: RelayParameters) -> FloatArray:
        """Exactly one click."""
        return single_node_table(relay.double_clicks)

    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """Key level; with a block decoys and probabilities."""
        key = (Variable("key", 1e-3, 0.5, "mean photon number of Alice in key windows"), *balance_variable(relay))
        if block is None:
            return key
        return (
            *key,
            Variable("mu", 0.02, 1.0, "strong decoy of Alice"),
            Variable("nu/mu", 0.01, 0.8, "weak decoy over strong decoy"),
            Variable("p_key", 0.02, 0.98, "probability of a key window, by user", logarithmic=False),
            *probability_variables(),
        )

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Levels by user and probabilities."""
        balance = float(settings.get("balance", 1.0))
        levels = {"key": settings["key"]}
        if "mu" in settings:
            levels |= {"mu": settings["mu"], "nu": settings["mu"] * settings["nu/mu"]}
        shown = {f"{name}_{user}": mu * (balance if user == "b" else 1) for name, mu in levels.items() for user in "ab"}
        if "p_mu" in settings:
            p = level_probabilities({name: np.asarray(value) for name, value in settings.items()})
            decoy = 1 - settings["p_key"]
            shown |= {f"p_{name}": decoy * float(q) for name, q in zip(("mu", "nu", "vac"), p, strict=True)}
            shown["p_key"] = settings["p_key"]
        return shown

    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """In key windows."""
        return SingleNode(relay).single_clicks(*users(settings, settings["key"]))

    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """Exact yields."""
        right, wrong = SingleNode(relay).announced(*users(settings, settings["key"]))
        gain = right + wrong
        qber, phase_error = ratio(wrong, gain), ratio(_phase_errors(settings, node_yields(relay)[..., None]), gain)
        content = 1 - phase_cost(phase_error) - relay.error_correction_efficiency * binary_entropy(qber)
        return KeyRate(gain * content, qber, phase_error, gain, gain)

    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Key windows, and all pairs of decoy levels: o, x (nu), y (mu)."""
        node = SingleNode(relay)
        p_y, p_x, p_o = level_probabilities(settings)
        probability = {"o": p_o, "x": p_x, "y": p_y}
        level = {"o": np.zeros_like(p_y), "x": settings["mu"] * settings["nu/mu"], "y": settings["mu"]}
        decoy = block.slots * (1 - settings["p_key"]) ** 2
        counts = {
            "key": Tally.expected(
                block.slots * settings["p_key"] ** 2, *node.announced(*users(settings, settings["key"]))
            )
        }
        for first in "oxy":
            for second in "oxy":
                half = node.gain_of_mixed_phases(level[first], level[second] * bob_balance(settings)) / 2
                slots = decoy * probability[first] * probability[second]
                counts[first + second] = Tally.expected(slots, half, half)
        return counts

    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Upper bounds of the leading yields from three decoy levels, 1 for the others."""
        beta = block.epsilon.beta(_BOUNDS)
        key = counts["key"]
        yields = _yields_from_decoys(settings, counts, beta)
        wrong = observation_upper(key.slots * _phase_errors(settings, yields), beta)
        phase_error = ratio(wrong, key.successes)
        qber = ratio(key.errors, key.successes)
        content = 1 - phase_cost(phase_error) - relay.error_correction_efficiency * binary_entropy(qber)
        length = key.successes * content - block.epsilon.hashing_bits
        gain = ratio(key.successes, key.slots)
        return KeyRate(length / block.slots, qber, phase_error, gain, key.successes / block.slots)

    def sift(self, announced: Announced) -> Sifted:
        """Key windows on both sides; Bob flips as announced."""
        key = self.senders.levels.index("key")
        index = np.flatnonzero((announced.level_a == key) & (announced.level_b == key))
        return Sifted(index, announced.phase_a[index], announced.phase_b[index] ^ announced.outcome[index])


def _phase_errors(settings: Settings, yields: FloatArray) -> FloatArray:
    """Gain of phase errors: even-even and odd-odd numbers, amplitudes added; yields [n, m, candidates]."""
    a, b = (_amplitudes(mu) for mu in users(settings, settings["key"]))
    amplitude = a[:, None, :] * b[None, :, :] * np.sqrt(yields)
    even = amplitude[np.ix_(_EVEN, _EVEN)].sum(axis=(0, 1))
    odd = amplitude[np.ix_(_ODD, _ODD)].sum(axis=(0, 1))
    errors: FloatArray = even**2 + odd**2
    return errors


def _amplitudes(mu: FloatArray) -> FloatArray:
    """Number amplitudes of coherent light, [n, candidates]."""
    flat = np.atleast_1d(mu)
    amplitude: FloatArray = np.exp(-flat / 2) * flat ** (_n[:, None] / 2) / np.sqrt(_FACTORIAL)[:, None]
    return amplitude


def _yields_from_decoys(settings: Settings, counts: Counts, beta: float) -> FloatArray:
    """Upper bounds of Y_nm, [n, m, candidates].

    exp(a) Q(a, 0) = sum a^n/n! Y_n0 bounds Y_20 and Y_40 once Y_00 and Y_10 are bounded from below. The part of
    exp(a + b) Q(a, b) with n, m >= 1 bounds Y_11 at the weak level, and Y_22, Y_13, Y_31 at the strong one, less a
    lower bound of the Y_11 part.
    """
    y_a, y_b = users(settings, settings["mu"])
    x_a, x_b = y_a * settings["nu/mu"], y_b * settings["nu/mu"]
    yields = np.ones((_NUMBERS, _NUMBERS, len(np.atleast_1d(y_a))))

    def gain(name: str, upper: bool) -> FloatArray:
        bound = expectation_upper if upper else expectation_lower
        return bound(counts[name].successes, beta) / counts[name].slots

    yields[0, 0] = gain("oo", True)
    for strong, weak, name_strong, name_weak, place in (
        (y_a, x_a, "yo", "xo", lambda n: (n, 0)),
        (y_b, x_b, "oy", "ox", lambda n: (0, n)),
    ):
        weight_nu, weight_mu, weight_0 = single_photon_weights(strong, weak)
        one = weight_nu * gain(name_weak, False) + weight_mu * gain(name_strong, True) + weight_0 * gain("oo", True)
        rest = np.exp(strong) * gain(name_strong, True) - gain("oo", False) - strong * np.maximum(one, 0.0)
        yields[place(2)] = 2 * rest / strong**2
        yields[place(4)] = 24 * rest / strong**4

    def both(level: str, a: FloatArray, b: FloatArray) -> FloatArray:
        """Upper bound of the part in which both sent photons."""
        plus = [(np.exp(a + b), level + level), (np.ones_like(a), "oo")]
        minus = [(np.exp(a), level + "o"), (np.exp(b), "o" + level)]
        high = sum_upper(beta, *((weight / counts[name].slots, counts[name].successes) for weight, name in plus))
        return high - sum_lower(
            beta, *((weight / counts[name].slots, counts[name].successes) for weight, name in minus)
        )

    yields[1, 1] = both("x", x_a, x_b) / (x_a * x_b)
    decoy = PairDecoy(x_a, x_b, y_a, y_b)
    base, slope = decoy.yield_without_vacuum_part(counts, beta)
    pairs = np.maximum(base - slope * vacuum_part_upper(x_a, x_b, counts, beta), 0.0)
    rest = both("y", y_a, y_b) - y_a * y_b * pairs
    yields[2, 2] = 4 * rest / (y_a * y_b) ** 2
    yields[1, 3] = 6 * rest / (y_a * y_b**3)
    yields[3, 1] = 6 * rest / (y_a**3 * y_b)
    return np.clip(yields, 0.0, 1.0)


CAL = Cal()
