"""Measurement-device-independent QKD with three and four intensities (physics.md section 5.3)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.chernoff import expectation_upper, observation_lower, observation_upper
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
from qrelay_sim.protocols.levels import (
    balance_variable,
    bob_balance,
    level_probabilities,
    probability_variables,
    users,
)
from qrelay_sim.protocols.pair_decoy import DECOY_BOUNDS, PairDecoy, vacuum_part_lower, vacuum_part_upper

__all__ = ["MDI_3", "MDI_4", "Mdi"]

FloatArray = NDArray[np.float64]

_SCAN = np.linspace(0, 1, 9)[:, None]
"""Where between its bounds the shared vacuum part H is tried; the worst place counts."""


def _bessel_excess(x: FloatArray) -> FloatArray:
    """I0(x) - 1, exact for small x too."""
    quarter = np.asarray(x, dtype=np.float64) ** 2 / 4
    excess, term = np.zeros_like(quarter), np.ones_like(quarter)
    for k in range(1, 30):
        term = term * quarter / k**2
        excess = excess + term
    return excess


class MdiNode:
    """Gains and errors of both bases at the node, and of single-photon pairs."""

    def __init__(self, relay: RelayParameters) -> None:
        self.eta_a, self.eta_b = relay.user_transmittances
        self.dark, self.log_live = relay.dark_probability, relay.log_dark_silence
        self.misalignment = relay.baseline_misalignment

    def z(self, mu_a: FloatArray, mu_b: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gain and gain of errors in the key basis."""
        a, b = self.eta_a * mu_a, self.eta_b * mu_b
        live, pd = (1 - self.dark) ** 2, self.dark
        silent = np.exp(-(a + b) / 2)
        right = 2 * live * silent * np.expm1(self.log_live - a / 2) * np.expm1(self.log_live - b / 2)
        excess = _bessel_excess(np.sqrt(a * b))
        wrong = 2 * pd * live * silent * (excess - np.expm1(self.log_live - (a + b) / 2))
        return right + wrong, self.misalignment * right + (1 - self.misalignment) * wrong

    def x(self, mu_a: FloatArray, mu_b: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Gain and gain of errors in the test basis."""
        a, b = self.eta_a * mu_a, self.eta_b * mu_b
        root = np.sqrt(a * b) / 2
        one, two = _bessel_excess(root), _bessel_excess(2 * root)
        log_y = self.log_live - (a + b) / 4
        y, click = np.exp(log_y), -np.expm1(log_y)
        # 1 + 2 y^2 - 4 y I0(X) + I0(2X), arranged so that nothing large cancels.
        gain = 2 * y**2 * (2 * click**2 + (two - 4 * one) + 4 * click * one)
        return gain, gain / 2 - 2 * (0.5 - self.misalignment) * y**2 * two

    def single_pairs(self) -> tuple[float, float]:
        """Y11 and e11."""
        a, b, pd = self.eta_a, self.eta_b, self.dark
        y11 = (1 - pd) ** 2 * (a * b / 2 + (2 * a + 2 * b - 3 * a * b) * pd + 4 * (1 - a) * (1 - b) * pd**2)
        e11 = 0.5 - (0.5 - self.misalignment) * (1 - pd) ** 2 * a * b / 2 / y11 if y11 > 0 else 0.5
        return y11, e11


class Mdi(Protocol):
    """Decoys o, x, y in the test basis; key from y (three intensities) or from a level z of its own (four)."""

    kind = "baseline"
    section = "5.3"

    def __init__(self, intensities: int, source: str) -> None:
        self.name = f"mdi-{intensities}"
        self.short = f"MDI{intensities}"
        self.title = f"MDI-QKD, {intensities} intensities"
        self.source = source
        self._own_key_level = intensities == 4
        levels = ("o", "x", "y", "z") if self._own_key_level else ("o", "x", "y")
        self.senders = SenderChoices(levels, 4, "early or late; phase index 0, 1 key basis, 2, 3 test basis")
        if not self._own_key_level:
            self.asymptotic_note = "three intensities, endless slots"

    def success_table(self, relay: RelayParameters) -> FloatArray:
        """Patterns of (detector 0 early, late, detector 1 early, late): psi+ keeps, psi- flips."""
        table = np.zeros((16, 2))
        table[[0b0011, 0b1100], 0] = 1
        table[[0b1001, 0b0110], 1] = 1
        return table

    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """Key level; decoy levels where they are not at their limit; probabilities with a block."""
        key = (Variable("mu", 0.01, 1.5, "mean photon number of Alice's key level"), *balance_variable(relay))
        weak = Variable("x/y", 0.01, 0.8, "weak decoy over strong decoy")
        if not self._own_key_level:
            basis = Variable("p_z", 0.02, 0.98, "probability of the key basis at level y", logarithmic=False)
            return (*key, weak, *((basis, *probability_variables()) if block else ()))
        if block is None:
            return key
        strong = Variable("y", 0.02, 1.0, "strong decoy of Alice")
        basis = Variable("p_z", 0.02, 0.98, "probability of the key level", logarithmic=False)
        return (*key, strong, weak, basis, *probability_variables())

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Levels by user and their probabilities."""
        balance = float(settings.get("balance", 1.0))
        key = "z" if self._own_key_level else "y"
        levels = {key: settings["mu"]}
        if "y" in settings:
            levels["y"] = settings["y"]
        if "x/y" in settings:
            levels["x"] = levels["y"] * settings["x/y"]
        shown = {f"{name}_{user}": mu * (balance if user == "b" else 1) for name, mu in levels.items() for user in "ab"}
        if "p_mu" in settings:
            test = 1 - settings["p_z"] if self._own_key_level else 1.0
            p_y, p_x, p_o = (float(p) for p in level_probabilities({k: np.asarray(v) for k, v in settings.items()}))
            shown |= {"p_y": test * p_y, "p_x": test * p_x, "p_o": test * p_o, "p_z": settings["p_z"]}
        return shown

    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """Two detectors; a slot holds an early and a late window."""
        a, b = users(settings, settings["mu"])
        node = MdiNode(relay)
        click = 1 - (1 - node.dark) ** 2 * np.exp(-(node.eta_a * a + node.eta_b * b) / 2)
        return np.stack([click, click], axis=-1)

    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """Four intensities: exact single-photon pairs, the limit of weak decoys. Three: bounds of endless slots."""
        node = MdiNode(relay)
        mu_a, mu_b = users(settings, settings["mu"])
        if self._own_key_level:
            y11, e11 = (np.full_like(mu_a, value) for value in node.single_pairs())
        else:
            counts = _decoy_counts(node, settings, settings["mu"], 1.0, {"o": 1.0, "x": 1.0, "y": 1.0})
            y11, e11 = _pairs(settings, settings["mu"], counts, 0.0)
        gain, wrong = node.z(mu_a, mu_b)
        qber = ratio(wrong, gain)
        single = mu_a * mu_b * np.exp(-mu_a - mu_b) * y11
        rates = single * (1 - phase_cost(e11)) - relay.error_correction_efficiency * gain * binary_entropy(qber)
        return _worst(rates, qber, e11, gain, gain)

    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Decoy counts of the test basis and the key basis."""
        node = MdiNode(relay)
        p_y, p_x, p_o = level_probabilities(settings)
        p_z = settings["p_z"]
        if self._own_key_level:
            key, decoys = p_z, {"o": (1 - p_z) * p_o, "x": (1 - p_z) * p_x, "y": (1 - p_z) * p_y}
        else:
            key, decoys = p_y * p_z, {"o": p_o, "x": p_x, "y": p_y * (1 - p_z)}
        gain, wrong = node.z(*users(settings, settings["mu"]))
        counts = _decoy_counts(node, settings, self._strong(settings), block.slots, decoys)
        return counts | {"key": Tally.expected(block.slots * key**2, gain - wrong, wrong)}

    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Chernoff bounds on the sums; the rate is the smallest over the shared vacuum part."""
        beta = block.epsilon.beta(DECOY_BOUNDS + 2)
        key = counts["key"]
        s11, e11 = _pairs(settings, self._strong(settings), counts, beta)
        mu_a, mu_b = users(settings, settings["mu"])
        single = observation_lower(key.slots * mu_a * mu_b * np.exp(-mu_a - mu_b) * s11, beta)
        phase_error = ratio(observation_upper(single * e11, beta), single)
        qber = ratio(key.errors, key.successes)
        leak = relay.error_correction_efficiency * key.successes * binary_entropy(qber)
        length = single * (1 - phase_cost(phase_error)) - leak - block.epsilon.hashing_bits
        gain = ratio(key.successes, key.slots)
        return _worst(length / block.slots, qber, phase_error, gain, key.successes / block.slots)

    def sift(self, announced: Announced) -> Sifted:
        """Key level and key basis on both sides; the bits of a Bell state in the key basis are opposite."""
        level = len(self.senders.levels) - 1
        keyed = (announced.level_a == level) & (announced.level_b == level)
        keyed &= (announced.phase_a < 2) & (announced.phase_b < 2)
        index = np.flatnonzero(keyed)
        one = np.uint8(1)
        return Sifted(index, announced.phase_a[index] & one, (announced.phase_b[index] & one) ^ one)

    def _strong(self, settings: Settings) -> FloatArray:
        return settings["y"] if self._own_key_level else settings["mu"]


def _decoy_counts(
    node: MdiNode,
    settings: Settings,
    strong: FloatArray,
    slots: float,
    probabilities: Mapping[str, FloatArray] | Mapping[str, float],
) -> dict[str, Tally]:
    """Tallies of the test basis by pair of levels; errors only where they are used."""
    level = {"o": np.zeros_like(strong), "x": strong * settings["x/y"], "y": strong}
    counts = {}
    for first, second in ("xx", "ox", "xo", "oy", "yo", "yy", "oo"):
        gain, wrong = node.x(level[first], level[second] * bob_balance(settings))
        tally_slots = slots * probabilities[first] * probabilities[second] * np.ones_like(strong)
        counts[first + second] = Tally.expected(tally_slots, gain - wrong, wrong)
    return counts


def _pairs(settings: Settings, strong: FloatArray, counts: Counts, beta: float) -> tuple[FloatArray, FloatArray]:
    """Bounds of s11 and e11, [scan of H, candidates]; ``beta = 0`` for exact gains."""
    y_a, y_b = users(settings, strong)
    decoy = PairDecoy(y_a * settings["x/y"], y_b * settings["x/y"], y_a, y_b)
    low = vacuum_part_lower(decoy.x_a, decoy.x_b, counts, beta)
    high = vacuum_part_upper(decoy.x_a, decoy.x_b, counts, beta)
    part = low + (high - low) * _SCAN
    base, slope = decoy.yield_without_vacuum_part(counts, beta)
    s11 = np.maximum(base - slope * part, 0.0)
    wrong = expectation_upper(counts["xx"].errors, beta) / counts["xx"].slots
    return s11, decoy.error(wrong, part, s11)


def _worst(
    rates: FloatArray, qber: FloatArray, phase_error: FloatArray, gain: FloatArray, sifted: FloatArray
) -> KeyRate:
    """Smallest rate over the scan, if there is one."""
    if rates.ndim < 2:
        return KeyRate(rates, qber, phase_error, gain, sifted)
    worst = np.argmin(rates, axis=0)[None]
    picked = [np.take_along_axis(np.broadcast_to(a, rates.shape), worst, axis=0)[0] for a in (rates, phase_error)]
    return KeyRate(picked[0], qber, picked[1], gain, sifted)


MDI_3 = Mdi(3, "Lo, Curty, Qi, PRL 108, 130503; bounds of Zhou, Yu, Wang, PRA 93, 042324")
MDI_4 = Mdi(4, "Zhou, Yu, Wang, PRA 93, 042324")
