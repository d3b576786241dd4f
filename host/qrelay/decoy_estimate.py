"""The decoy estimate of the odd-parity fraction from a run's gains (physics.md section 4.3, without finite size)."""

import math
from dataclasses import dataclass

from .config import RunConfig
from .estimate import PairEstimate
from .protocol.choice import PHASES

__all__ = ["ParityEstimate", "estimate_parity"]


@dataclass(frozen=True)
class ParityEstimate:
    """Upper bound on the even-parity fraction of the key successes, within [0, 1], with one standard error."""

    even_fraction: float
    even_fraction_std: float
    single_photon_yield: float
    single_photon_yield_std: float


def estimate_parity(config: RunConfig, pairs: list[PairEstimate]) -> ParityEstimate | None:
    """Decoy estimate from phase-matched key and decoy successes and level-matched vacuum; None without data.

    Level-matched successes without phase matching may serve only the vacuum (section 4.3). A vacuum setting with omega
    photons of each sender still bounds the yield of none: Y_0 <= exp(2 omega) Q_omega.
    """
    from qrelay_sim.decoy import Counts, asymptotic_estimate

    by_setting = {pair.setting_a: pair for pair in pairs if pair.setting_a == pair.setting_b}
    roles = [config.setting_index(name) for name in (config.sifting.key, config.sifting.decoy, config.sifting.vacuum)]
    if any(role not in by_setting for role in roles):
        return None
    key, decoy, vacuum = (by_setting[role] for role in roles)
    mu, nu, omega = (config.settings[role].mean_photon_number for role in roles)
    if not key.matched or not decoy.matched or not 0 < nu < mu:
        return None
    matched_fraction = 2 / PHASES
    if key.matched > key.slots * matched_fraction or decoy.matched > decoy.slots * matched_fraction:
        return None
    empty_slots = vacuum.slots * math.exp(-2 * omega)
    if vacuum.successes > empty_slots:
        return None
    found = asymptotic_estimate(
        2 * mu,
        2 * nu,
        Counts(key.matched, key.slots * matched_fraction),
        Counts(decoy.matched, decoy.slots * matched_fraction),
        Counts(vacuum.successes, empty_slots),
    )
    return ParityEstimate(
        found.even_fraction, found.even_fraction_std, found.single_photon_yield, found.single_photon_yield_std
    )
