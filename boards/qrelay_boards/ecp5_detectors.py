"""Detector inputs with carry chains: from pads to the hits of words, and the station's hold on them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay_gateware.edge_to_click import EdgeToClick
from qrelay_gateware.layouts import Hits, WordHits
from qrelay_gateware.tdc_channel import TdcChannel
from qrelay_gateware.tdc_control import TdcPort

from .ecp5_tdc import CarryChain, FreeOscillator
from .ecp5_x2 import OUTPUT_LATENCY, PIN_LATENCY, pass_along

__all__ = ["CHAIN_PIN_LATENCY", "OFFSET_WORDS", "ChainDetectors", "HitDelay"]

OFFSET_WORDS = 2
"""Words that detector delays make up to: from the pad to the chain a hit takes part of these, which differs from
bitstream to bitstream, and the delay of its detector takes the rest."""
_CHANNEL_WORDS = 8
APPROACH_HOPS = 6
"""Registers on the way of the word phase from the pins to the first chain, which may be across the die."""

CHAIN_PIN_LATENCY = OUTPUT_LATENCY + _CHANNEL_WORDS + OFFSET_WORDS
"""Words from `OutputPins.words` over a wire to the hits, with the delay that makes up for pad and chain."""


class HitDelay(wiring.Component):
    """Let the hits of a detector without a chain wait for those with one.

    Latency: `words`.  Reset: none.  Overflow: none.
    """

    hits: In(WordHits)
    delayed: Out(WordHits)

    words = CHAIN_PIN_LATENCY - PIN_LATENCY - EdgeToClick.latency

    def elaborate(self, platform):
        m = Module()
        hits = self.hits
        for word in range(self.words):
            later = Signal(WordHits, name=f"hits_{word}", reset_less=True)
            m.d.sync += later.eq(hits)
            hits = later
        m.d.comb += self.delayed.eq(hits)
        return m


class ChainDetectors(wiring.Component):
    """Carry chain and channel of some detectors of a board.

    Latency, reset and overflow: as `CarryChain` and `TdcChannel`.

    Parameters
    ----------
    detectors : sequence of int
        Those with a chain; the others have no hits here.

    Ports
    -----
    pads : In(4)
        From input buffers, by detector; each feeds nothing else.
    capture : In(1)
        Word phase of `OutputPins.capture_onward` or `EdgeClockTree`, domain ``gear``.
    station : In(TdcPort)
    hits : Out(Hits)
    """

    def __init__(self, detectors):
        self._detectors = tuple(detectors)
        super().__init__({"pads": In(DETECTORS), "capture": In(1), "station": In(TdcPort), "hits": Out(Hits)})

    def elaborate(self, platform):
        m = Module()
        station = self.station
        m.submodules.oscillator = oscillator = FreeOscillator()
        # Two registers from chain to chain: they are far apart.
        phases, _ = pass_along(m, self.capture, self._detectors, approach=APPROACH_HOPS, between=2, init=1)
        for d, capture in zip(self._detectors, phases, strict=True):
            m.submodules[f"chain_{d}"] = chain = CarryChain()
            m.submodules[f"channel_{d}"] = channel = TdcChannel()
            # In the oscillator's domain, from which the way to the last tap may be longer than a gear clock.
            m.submodules[f"source_{d}"] = FFSynchronizer(station.oscillator[d], chain.use_oscillator, o_domain="osc")
            m.d.comb += [
                chain.pad.eq(self.pads[d]),
                chain.oscillator.eq(oscillator.level),
                channel.taps.eq(chain.taps),
                channel.capture.eq(capture),
                channel.config.eq(station.config[d]),
                channel.table.address.eq(station.address),
                channel.table.value.eq(station.value),
                channel.table.enable.eq(station.enable[d]),
                station.extra[d].eq(channel.word.extra),
                station.density[d].eq(channel.density),
                self.hits[d].eq(channel.word.hits),
            ]
        return m
