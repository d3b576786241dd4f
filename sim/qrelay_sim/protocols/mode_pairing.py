"""Mode pairing on the relay: successes are paired, the bit is which of the two slots held light (2.1, 4.2 P3).

Two users need no common phase reference, only phases that keep over the pairing span.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.chernoff import expectation_upper, observation_lower, observation_upper
from qrelay_sim.click_model import ClickModel, phase_contrast
from qrelay_sim.entropy import binary_entropy, phase_cost, ratio
from qrelay_sim.number_states import pair_yields, single_photon
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
from qrelay_sim.protocols.pair_decoy import DECOY_BOUNDS, PairDecoy, vacuum_part_lower, vacuum_part_upper
from qrelay_sim.success_table import relay_table

__all__ = ["RELAY_MODE_PAIRING", "ModePairing", "pair_successes", "pairing_rate"]

FloatArray = NDArray[np.float64]

_LEVELS = ("vac", "nu", "mu")


def pairing_rate(success: FloatArray, span: int) -> FloatArray:
    """Pairs per slot if successes of probability p are paired one after the other within `span` slots.

    1/r = 1/(p [1 - (1-p)^l]) + 1/p (Zeng et al., Nat. Commun. 13, 3903).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        within = -np.expm1(span * np.log1p(-success))
        rate = success * within / (1 + within)
    return np.where(success > 0, rate, 0.0)


def pair_successes(slot: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    """Pairs [n, 2] of places: a success joins the last unpaired one if that is at most `span` slots back."""
    pairs, waiting = [], -1
    for place, now in enumerate(slot.tolist()):
        if waiting >= 0 and now - slot[waiting] <= span:
            pairs.append((waiting, place))
            waiting = -1
        else:
            waiting = place
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def slope_contrast(success: FloatArray, relay: RelayParameters) -> FloatArray:
    """Mean of exp(-(slope * gap)^2 / 2) over the gaps of the pairs, which are geometric within the span."""
    if relay.pairing_slope_rad_per_ms == 0:
        return np.ones_like(success)
    fraction = (np.arange(400) + 0.5) / 400
    p = np.clip(success, 1e-300, 0.5)[..., None]
    # Gap at which the cumulative share of the pairs reaches `fraction`.
    within = -np.expm1(relay.pairing_slots * np.log1p(-p))
    gap_slots = np.log1p(-fraction * within) / np.log1p(-p)
    phase = relay.pairing_slope_rad_per_ms * gap_slots / relay.slot_rate_hz * 1e3
    mean: FloatArray = np.exp(-(phase**2) / 2).mean(axis=-1)
    return mean


class ModePairing(Protocol):
    """Levels mu, nu, vacuum with random phases; key pairs: each user has one mu slot and one vacuum slot."""

    name = "relay-mode-pairing"
    title = "relay, mode pairing (P3)"
    short = "P3"
    kind = "relay"
    section = "4.2 (P3)"
    source = "relay version of Zeng et al., Nat. Commun. 13, 3903; derived in physics.md"
    senders = SenderChoices(_LEVELS, 16, "which slot of a pair held light")
    asymptotic_note = "infinitely many decoy intensities; mu and vacuum equally likely (a free choice gains about 6 %)"

    def success_table(self, relay: RelayParameters) -> FloatArray:
        """As phase matching."""
        return relay_table(relay.double_clicks)

    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """Mu; with a block decoy level and probabilities. Without, mu and vacuum are equally likely."""
        mu = Variable("mu", 5e-3, 2.0, "mean photon number of Alice's signal")
        decoys = (*level_variables(), *probability_variables()) if block else ()
        return (mu, *balance_variable(relay), *decoys)

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Levels by user."""
        shown = user_levels(settings)
        return shown if "p_mu" in shown else shown | {"p_mu": 0.5, "p_vac": 0.5}

    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """At the mean intensity."""
        p = level_probabilities(settings)[0] if "p_mu" in settings else 0.5
        return ClickModel(relay).single_clicks(*users(settings, p * settings["mu"]))

    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """P3 of section 4.2, pairs of a (1,1) and a (0,0) slot counted with 50 % phase error."""
        mu_a, mu_b = users(settings, settings["mu"])
        half = np.full_like(mu_a, 0.5)
        share, success = _slot_shares(
            relay, {"vac": 0 * mu_a, "mu": settings["mu"]}, {"vac": half, "mu": half}, settings
        )
        right = 2 * share["mu", "vac"] * share["vac", "mu"]
        wrong = 2 * share["mu", "mu"] * share["vac", "vac"]
        kept, qber = right + wrong, ratio(wrong, right + wrong)
        yields = _pair_yields(relay)
        weight = 2 * mu_a * mu_b * np.exp(-mu_a - mu_b) / (4 * success) ** 2
        apart, together = weight * yields[1, 0] * yields[0, 1], weight * yields[1, 1] * yields[0, 0]
        kept_visibility = (1 - 2 * _single_errors(relay, settings)) ** 2 * slope_contrast(success, relay)
        phase_error = ratio((1 - kept_visibility) / 2 * apart + together / 2, apart + together)
        pairs = pairing_rate(success, relay.pairing_slots)
        correction = relay.error_correction_efficiency * kept * binary_entropy(qber)
        rate = pairs * ((apart + together) * (1 - phase_cost(phase_error)) - correction)
        return KeyRate(rate, qber, phase_error, success, pairs * kept)

    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Pairs by total intensity ("oo", "xy", ...; in the test basis "test_xx", ...), the key pairs, and all slots.

        The "slots" of a pair are attempts: pairs divided by the square of the success probability, times the
        probabilities of the levels. Yields of pairs are then products of yields of slots.
        """
        p_mu, p_nu, p_vac = level_probabilities(settings)
        levels = {"vac": 0 * p_mu, "nu": settings["mu"] * settings["nu/mu"], "mu": settings["mu"]}
        chosen = {"vac": p_vac, "nu": p_nu, "mu": p_mu}
        share, success = _slot_shares(relay, levels, chosen, settings)
        pairs = block.slots * pairing_rate(success, relay.pairing_slots)
        attempts = pairs / success**2
        name = {"o": "vac", "x": "nu", "y": "mu"}
        probability = {"o": p_vac**2, "x": 2 * p_vac * p_nu, "y": 2 * p_vac * p_mu}
        counts = {}
        for first in "oxy":
            for second in "oxy":
                a, b = name[first], name[second]
                apart = share[a, "vac"] * share["vac", b]
                together = share[a, b] * share["vac", "vac"]
                factor = 1.0 if first == second == "o" else 2.0
                wrong = together * factor if "o" not in (first, second) else 0 * together
                right = apart * factor if "o" not in (first, second) else factor * together
                tally_slots = attempts * probability[first] * probability[second]
                counts[first + second] = Tally(tally_slots, pairs * (right + wrong), pairs * wrong)
        counts["key"] = counts["yy"]
        counts["slots"] = Tally(block.slots + 0 * success, block.slots * success, 0 * success)
        matched = 2 / relay.phase_slices
        for key, a, b, fraction in (("xx", "nu", "nu", matched), ("ox", "vac", "nu", 1.0), ("xo", "nu", "vac", 1.0)):
            slots = attempts * (chosen[a] * chosen[b]) ** 2 * fraction
            seen = pairs * share[a, b] ** 2 * fraction
            # Random phases common to both slots leave half of the squared visibility: 25 % error at best.
            visible = _matched_visibility(relay, settings, levels["nu"]) ** 2 * slope_contrast(success, relay) / 2
            counts[f"test_{key}"] = Tally(slots, seen, seen * (1 - visible) / 2)
        return counts

    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Single-photon pairs from the key basis, their phase error from the test basis (bounds of section 5.3)."""
        beta = block.epsilon.beta(DECOY_BOUNDS + 2)
        y_a, y_b = users(settings, settings["mu"])
        decoy = PairDecoy(y_a * settings["nu/mu"], y_b * settings["nu/mu"], y_a, y_b)
        base, slope = decoy.yield_without_vacuum_part(counts, beta)
        s11 = np.maximum(base - slope * vacuum_part_upper(decoy.x_a, decoy.x_b, counts, beta), 0.0)
        key, test = counts["key"], counts["test_xx"]
        doubled = PairDecoy(2 * decoy.x_a, 2 * decoy.x_b, 2 * y_a, 2 * y_b)
        test_counts = {"ox": counts["test_ox"], "xo": counts["test_xo"], "oo": counts["oo"]}
        part = vacuum_part_lower(doubled.x_a, doubled.x_b, test_counts, beta)
        e11 = doubled.error(expectation_upper(test.errors, beta) / test.slots, part, s11)
        single = observation_lower(key.slots * y_a * y_b * np.exp(-y_a - y_b) * s11, beta)
        phase_error = ratio(observation_upper(single * e11, beta), single)
        qber = ratio(key.errors, key.successes)
        leak = relay.error_correction_efficiency * key.successes * binary_entropy(qber)
        length = single * (1 - phase_cost(phase_error)) - leak - block.epsilon.hashing_bits
        gain = ratio(counts["slots"].successes, counts["slots"].slots)
        return KeyRate(length / block.slots, qber, phase_error, gain, key.successes / block.slots)

    def sift(self, announced: Announced, span: int = 30_000) -> Sifted:
        """Pair the successes; keep pairs in which each user had one mu slot and one vacuum slot."""
        pairs = pair_successes(announced.slot, span)
        vac, mu = self.senders.levels.index("vac"), self.senders.levels.index("mu")
        a, b = announced.level_a[pairs], announced.level_b[pairs]
        keyed = np.ones(len(pairs), np.bool_)
        for level in (a, b):
            keyed &= (np.sort(level, axis=1) == (vac, mu)).all(axis=1)
        # Alice: light in the first slot is 1; Bob: light in the first slot is 0.
        bits_a, bits_b = (a[keyed, 0] == mu).astype(np.uint8), (b[keyed, 0] != mu).astype(np.uint8)
        return Sifted(pairs[keyed], bits_a, bits_b)


def _slot_shares(
    relay: RelayParameters,
    levels: Mapping[str, FloatArray],
    chosen: Mapping[str, FloatArray],
    settings: Settings,
) -> tuple[dict[tuple[str, str], FloatArray], FloatArray]:
    """Share of each pair of levels among the successes, and the success probability of a slot."""
    model = ClickModel(relay)
    joint = {
        (a, b): chosen[a] * chosen[b] * model.gain_of_mixed_phases(levels[a], levels[b] * bob_balance(settings))
        for a in levels
        for b in levels
    }
    success: FloatArray = np.asarray(sum(joint.values()), dtype=np.float64)
    return {pair: ratio(value, success) for pair, value in joint.items()}, success


def _contrast(relay: RelayParameters) -> float:
    return phase_contrast(relay.phase_residual_rms_rad, relay.phase_slices)


def _single_errors(relay: RelayParameters, settings: Settings) -> FloatArray:
    return np.full_like(settings["mu"], _shared_photon_error(relay))


@lru_cache(maxsize=64)
def _shared_photon_error(relay: RelayParameters) -> float:
    """Wrong-bit fraction of a single photon shared by the users in equal parts."""
    return float(single_photon(ClickModel(relay), 0.5, _contrast(relay)).wrong_fraction)


@lru_cache(maxsize=64)
def _pair_yields(relay: RelayParameters) -> FloatArray:
    return pair_yields(ClickModel(relay))


def _matched_visibility(relay: RelayParameters, settings: Settings, level: FloatArray) -> FloatArray:
    """1 - 2E of matched phases at a level."""
    right, wrong = ClickModel(relay).announced(*users(settings, level), contrast=_contrast(relay))
    return 1 - 2 * ratio(wrong, right + wrong)


RELAY_MODE_PAIRING = ModePairing()
