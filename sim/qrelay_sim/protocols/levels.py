"""Intensity levels and their probabilities, as most protocols here share them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.parameters import RelayParameters
from qrelay_sim.protocols.base import Settings, Variable

__all__ = [
    "balance_variable",
    "bob_balance",
    "level_probabilities",
    "level_variables",
    "probability_variables",
    "user_levels",
    "users",
]

FloatArray = NDArray[np.float64]


def balance_variable(relay: RelayParameters) -> tuple[Variable, ...]:
    """Bob's intensities over Alice's, where the arms differ; the same for all levels (section 4.3)."""
    if relay.symmetric:
        return ()
    return (Variable("balance", 1 / 50, 50.0, "Bob's mean photon numbers over Alice's, at every level"),)


def bob_balance(settings: Mapping[str, FloatArray] | Mapping[str, float]) -> FloatArray:
    """Bob's intensity over Alice's."""
    return np.asarray(settings.get("balance", 1.0), dtype=np.float64)


def users(settings: Settings, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A level's mean photon numbers of Alice and Bob."""
    return level, level * bob_balance(settings)


def level_variables(largest: float = 0.9) -> tuple[Variable, ...]:
    """The weak level, by its ratio to the strong one."""
    return (Variable("nu/mu", 0.01, largest, "weak level over strong level"),)


def probability_variables() -> tuple[Variable, ...]:
    """Probabilities of three levels; what is left is the vacuum's."""
    return (
        Variable("p_mu", 0.02, 0.98, "probability of the strong level", logarithmic=False),
        Variable("share_nu", 0.02, 0.98, "weak level's share of what is left", logarithmic=False),
    )


def level_probabilities(settings: Settings) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Probabilities of mu, nu, vacuum."""
    p_mu = settings["p_mu"]
    p_nu = (1 - p_mu) * settings["share_nu"]
    return p_mu, p_nu, 1 - p_mu - p_nu


def user_levels(settings: Mapping[str, float]) -> dict[str, float]:
    """Readable form: mean photon numbers by user, probabilities of the levels."""
    balance = float(settings.get("balance", 1.0))
    shown: dict[str, float] = {"mu_a": settings["mu"], "mu_b": settings["mu"] * balance}
    if "nu/mu" in settings:
        shown |= {f"nu_{user}": shown[f"mu_{user}"] * settings["nu/mu"] for user in "ab"}
    if "p_mu" in settings:
        p_nu = (1 - settings["p_mu"]) * settings["share_nu"]
        shown |= {"p_mu": settings["p_mu"], "p_nu": p_nu, "p_vac": 1 - settings["p_mu"] - p_nu}
    return shown
