"""Detector levels, sampled at the pins, become hits."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .layouts import WordHits

__all__ = ["SAMPLES_PER_SLOT", "EdgeToClick"]

SAMPLES_PER_SLOT = 2
"""Samples of an x2 input gearbox in one slot."""


class EdgeToClick(wiring.Component):
    """Turn the sampled levels of one detector input into at most one hit per slot.

    A hit is a rising edge. The last sample of a word is remembered, so an edge on the border between two words is seen
    once, in the later word; a level that stays high gives no further hit. Two samples per slot cannot hold two rising
    edges of one slot, so the first edge of a slot is also its only one.

    Latency: 1 word.  Reset: as if the input had been high (a line that idles high gives no hit).
    Overflow: none, one result per word.

    Ports
    -----
    samples : In(8)
        Levels at the pin, bit 0 the earliest, two per slot.
    invert : In(1)
        The detector pulses low: hits are falling edges.
    hits : Out(WordHits)
        `fine` is the middle of the sample that was first seen high: 64 or 192. It means nothing where not `valid`.
    """

    samples: In(SLOTS_PER_WORD * SAMPLES_PER_SLOT)
    invert: In(1)
    hits: Out(WordHits)

    latency = 1

    def elaborate(self, platform):
        m = Module()
        level = Signal(len(self.samples))
        last = Signal(init=1)
        m.d.comb += level.eq(Mux(self.invert, ~self.samples, self.samples))
        m.d.sync += last.eq(level[-1])
        rising = level & ~Cat(last, level[:-1])
        for lane in range(SLOTS_PER_WORD):
            edges = rising.word_select(lane, SAMPLES_PER_SLOT)
            m.d.sync += [
                self.hits[lane].valid.eq(edges.any()),
                self.hits[lane].fine.eq(Mux(edges[0], FINES_PER_SLOT // 4, 3 * FINES_PER_SLOT // 4)),
            ]
        return m
