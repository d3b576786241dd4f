"""What the twin's stations say of themselves: the same design as a board, between simulated pins."""

from qrelay.protocol.identity import Capability, Entropy, Phy
from qrelay_gateware.station import BoardFacts

from .pins import PinnedStation

__all__ = ["TWIN_FACTS"]

TWIN_FACTS = BoardFacts(
    board="twin",
    phy=Phy.TWIN_X2,
    entropy=Entropy.SIMULATED,
    capabilities=Capability.SENDER | Capability.RECEIVER | Capability.EXTERNAL_REFERENCE | Capability.SIMULATED,
    pin_latency=PinnedStation.input_latency,
    link_baud=0,
    external_ring_words=1 << 15,
)
