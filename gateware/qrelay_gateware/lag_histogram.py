"""Histogram of the distance in slots between the clicks of two detectors: all pairs."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import LAG_SLOTS
from qrelay.protocol.units import SLOTS_PER_WORD

from .counting import ones
from .lag_engine import GAP_LIMIT, LagEngine

__all__ = ["LagHistogram", "LagSteps"]

_FEW = range(SLOTS_PER_WORD + 1)
LagSteps = data.StructLayout({"clicks_a": _FEW, "clicks_b": _FEW, "coincidences": _FEW, "lost_a": _FEW, "lost_b": _FEW})
"""What a word adds to the sums beside the pairs."""


class LagHistogram(wiring.Component):
    """Count all pairs of a click of a and a click of b by their lag, slot(b) - slot(a), from -512 to 512.

    A pair belongs to the word of its later click: `turn` ends a histogram with the word before. Pairs at lag 0 are not
    in the window, but in `steps`. Where b is a, each click makes a pair with itself at lag 0, and the others appear at
    both signs.

    Words with clicks wait in two queues of 480, one for the clicks of each detector, whose partners before them are
    counted one per word. With 4 MHz random clicks of both detectors the engines work 0.6 of the time, and the queues
    hold a few words on average and some hundred during a read-out.

    Latency: 2 words to `steps`; pairs follow as the queues allow, and `busy` after a `turn` waits for them (13 ms at
    most: queues filled by a click in every slot).
    Reset: counts are kept, clicks forgotten.
    Overflow: a word that finds a queue full is in no pair at all; its clicks are counted as lost. Bins modulo 2^32.

    Parameters
    ----------
    read_domain : str
        Clock domain of `address` and `value`.

    Ports
    -----
    a, b : In(4)
        Clicks of the word.
    turn : In(1), discard : In(1)
        Before the word: what was counted goes to the window; with `discard` it is forgotten, with all clicks before.
        Only while not `busy`.
    busy : Out(1)
    steps : Out(LagSteps)
    fill : Out(10)
        Words in the fuller queue.
    address : In(10), value : Out(32)
        Window: pairs at lag -1 - address, and from 512 on at lag address - 511, two words later.
    """

    a: In(SLOTS_PER_WORD)
    b: In(SLOTS_PER_WORD)
    turn: In(1)
    discard: In(1)
    busy: Out(1)
    steps: Out(LagSteps)
    fill: Out(10)
    address: In(range(2 * LAG_SLOTS))
    value: Out(32)

    latency = 2

    def __init__(self, *, read_domain: str = "sync"):
        self._read_domain = read_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.before = before = LagEngine(read_domain=self._read_domain)
        m.submodules.after = after = LagEngine(read_domain=self._read_domain)
        a = Signal(SLOTS_PER_WORD)
        b = Signal(SLOTS_PER_WORD)
        mark = Signal()
        some = Signal()
        """The word has clicks."""
        m.d.comb += some.eq((a | b).any())
        with m.If((self.a | self.b).any() | some):
            m.d.sync += [a.eq(self.a), b.eq(self.b)]
        m.d.sync += mark.eq(self.turn & ~self.discard)
        flush = Signal()
        m.d.comb += flush.eq(self.turn & self.discard)

        # A word is kept by both engines or by none, so that all pairs of the kept ones are there.
        kept = Signal()
        gap = Signal(8, init=GAP_LIMIT)
        m.d.comb += kept.eq(before.room & after.room)
        offer = Signal()
        m.d.comb += offer.eq(mark | (some & kept))
        for engine, new, old in ((before, a, b), (after, b, a)):
            m.d.comb += [
                engine.offer.eq(offer),
                engine.event.new.eq(Mux(kept, new, 0)),
                engine.event.old.eq(Mux(kept, old, 0)),
                engine.event.gap.eq(gap),
                engine.event.mark.eq(mark),
                engine.flush.eq(flush),
            ]
        with m.If(offer & ~flush):
            m.d.sync += gap.eq(1)
        with m.Elif(flush):
            m.d.sync += gap.eq(GAP_LIMIT)
        with m.Elif(gap != GAP_LIMIT):
            m.d.sync += gap.eq(gap + 1)

        counted = Signal()
        m.d.sync += counted.eq(some)
        with m.If(some):
            m.d.sync += [
                self.steps.clicks_a.eq(Mux(kept, ones(a), 0)),
                self.steps.clicks_b.eq(Mux(kept, ones(b), 0)),
                self.steps.coincidences.eq(Mux(kept, ones(a & b), 0)),
                self.steps.lost_a.eq(Mux(kept, 0, ones(a))),
                self.steps.lost_b.eq(Mux(kept, 0, ones(b))),
            ]
        with m.Elif(counted):
            m.d.sync += self.steps.eq(0)

        m.d.comb += self.busy.eq(mark | ~before.settled | ~after.settled)
        m.d.sync += self.fill.eq(Mux(before.fill > after.fill, before.fill, after.fill))
        upper = Signal(2)
        m.d[self._read_domain] += upper.eq(Cat(self.address[-1], upper[0]))
        m.d.comb += [
            before.address.eq(self.address),
            after.address.eq(self.address),
            self.value.eq(Mux(upper[1], after.value, before.value)),
        ]
        return m
