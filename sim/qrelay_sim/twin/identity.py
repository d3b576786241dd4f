"""What the twin's stations say of themselves: the same design as a board, between simulated pins."""

from dataclasses import replace

from qrelay.protocol.identity import Capability, Entropy, Phy
from qrelay.protocol.registers import DETECTORS
from qrelay.twin_settings import PAD_WORDS
from qrelay_gateware.board_facts import BoardFacts
from qrelay_gateware.sdram import SdramChip

from .pins import PinnedStation

__all__ = ["CHANNEL_WORDS", "TWIN_FACTS", "TWIN_TDC_FACTS"]

CHANNEL_WORDS = 8
"""Latency of `TdcChannel`."""

TWIN_FACTS = BoardFacts(
    board="twin",
    phy=Phy.TWIN_X2,
    entropy=Entropy.SIMULATED,
    capabilities=Capability.SENDER | Capability.RECEIVER | Capability.EXTERNAL_REFERENCE | Capability.SIMULATED,
    pin_latency=PinnedStation.input_latency,
    link_baud=0,
    external_chip=SdramChip(),
)

TWIN_TDC_FACTS = replace(
    TWIN_FACTS,
    phy=Phy.TWIN_TDC,
    chains=(1 << DETECTORS) - 1,
    fine_first=0,
    fine_step=1,
    pin_latency=CHANNEL_WORDS + PAD_WORDS,
)
"""A station of the twin with a carry chain at each detector; no bitstream, so its build id is 0 too."""
