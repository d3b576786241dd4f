"""Bounds that key rates are drawn against (physics.md section 5.1)."""

import math
from dataclasses import dataclass

from qrelay_sim.parameters import RelayParameters

__all__ = ["BOUNDS", "Bound", "plob_bound", "repeater_bound"]


def repeater_bound(transmittance: float, repeaters: int = 0) -> float:
    """Secret-key capacity per slot with equally spaced ideal repeaters; 0 repeaters is the PLOB bound.

    Infinite without loss. State with a plot whether `transmittance` contains the detector efficiency.
    """
    if not 0 <= transmittance <= 1:
        raise ValueError(f"transmittance {transmittance} is out of range; give 0 to 1")
    if repeaters < 0:
        raise ValueError(f"repeaters {repeaters} is negative; give 0 or more")
    span = transmittance ** (1 / (repeaters + 1))
    return math.inf if span == 1 else -math.log1p(-span) / math.log(2)


def plob_bound(transmittance: float) -> float:
    """-log2(1 - eta), the best rate without a middle node."""
    return repeater_bound(transmittance)


@dataclass(frozen=True)
class Bound:
    """A bound of the fibre alone, detectors not included."""

    name: str
    title: str
    short: str
    repeaters: int
    source: str
    section: str = "5.1"
    kind: str = "bound"
    review: str | None = None

    def rate(self, relay: RelayParameters) -> float:
        """Bits per slot."""
        return repeater_bound(relay.channel_transmittance, self.repeaters)


_PLOB = "Pirandola et al., Nat. Commun. 8, 15043"
_CHAIN = "Pirandola, Commun. Phys. 2, 51"
BOUNDS = (
    Bound("plob", "PLOB bound (channel only)", "PLOB", 0, _PLOB),
    Bound("one-repeater", "one-repeater bound", "1-rep", 1, _CHAIN),
    Bound("n-repeater", "three-repeater bound", "3-rep", 3, _CHAIN),
)
