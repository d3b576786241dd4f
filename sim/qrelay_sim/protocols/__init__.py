"""Protocols by name: one interface, one entry per protocol."""

from collections.abc import Mapping
from types import MappingProxyType

from qrelay_sim.protocols.base import Block, KeyRate, Protocol
from qrelay_sim.protocols.bb84 import DECOY_BB84
from qrelay_sim.protocols.bounds import BOUNDS, Bound
from qrelay_sim.protocols.cal import CAL
from qrelay_sim.protocols.mdi import MDI_3, MDI_4
from qrelay_sim.protocols.mode_pairing import RELAY_MODE_PAIRING
from qrelay_sim.protocols.phase_matching import (
    PHASE_MATCHING,
    RELAY_PHASE_MATCHING,
    RELAY_PHASE_MATCHING_CONDITIONAL,
)
from qrelay_sim.protocols.sending_or_not import RELAY_SENDING_OR_NOT, SNS

__all__ = ["CURVES", "PROTOCOLS", "Block", "Bound", "KeyRate", "Protocol", "protocol"]

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            RELAY_PHASE_MATCHING,
            RELAY_PHASE_MATCHING_CONDITIONAL,
            RELAY_SENDING_OR_NOT,
            RELAY_MODE_PAIRING,
            DECOY_BB84,
            MDI_3,
            MDI_4,
            PHASE_MATCHING,
            CAL,
            SNS,
        )
    }
)

CURVES: Mapping[str, Protocol | Bound] = MappingProxyType({**PROTOCOLS, **{bound.name: bound for bound in BOUNDS}})
"""Everything that can be drawn against distance: protocols and bounds."""


def protocol(name: str) -> Protocol:
    """Return a protocol by name. Raises ValueError naming those there are."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise ValueError(f"protocol {name!r} does not exist; give one of {', '.join(PROTOCOLS)}") from None
