"""Bins of one detector: hits by their place in the slot, one per word from a short queue."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .count_memory import CountMemory

__all__ = ["FineBins"]

_COUNT_BITS = 32


class _Hits(data.Struct):
    """The hits of a word."""

    hits: SLOTS_PER_WORD
    fines: data.ArrayLayout(range(FINES_PER_SLOT), SLOTS_PER_WORD)
    bank: 1


class FineBins(wiring.Component):
    """Count hits by fine, in one of two banks.

    Words with hits wait in a queue of `depth`, from which one hit is counted per word without `take`, the earliest lane
    first. A burst of up to `depth` words with a hit in every slot is counted whole. Random hits of 40 MHz find the
    queue full less than once an hour, read-outs included.

    Latency: 1 word to `lost`; hits reach their bin within `drain_words` of words without `take`.
    Reset: bins keep their counts, waiting hits are forgotten.
    Overflow: a word that finds the queue full is left out, and its hits are `lost`. Bins modulo 2^32, no sooner than
        after 56 s.

    Ports
    -----
    hits : In(4), fines : In(4 of 8)
    bank : In(1)
        Bank for the hits of this word.
    lost : Out(3)
        Hits of the word before that are not counted.
    take : In(1), take_bank : In(1), take_fine : In(8)
        Read a bin and set it to zero; the bank must have come to rest. Counting of the other one waits a word.
    taken : Out(1), value : Out(32)
        A bin was taken, `take_latency` words later.
    """

    hits: In(SLOTS_PER_WORD)
    fines: In(data.ArrayLayout(range(FINES_PER_SLOT), SLOTS_PER_WORD))
    bank: In(1)
    lost: Out(range(SLOTS_PER_WORD + 1))
    take: In(1)
    take_bank: In(1)
    take_fine: In(range(FINES_PER_SLOT))
    taken: Out(1)
    value: Out(_COUNT_BITS)

    depth = 16
    drain_words = (depth + 2) * SLOTS_PER_WORD + CountMemory.settled
    take_latency = CountMemory.latency

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = SyncFIFO(width=_Hits.as_shape().size, depth=self.depth)
        m.submodules.bins = bins = CountMemory(2 * FINES_PER_SLOT, _COUNT_BITS)

        given = Signal(_Hits)
        some = Signal()
        m.d.comb += [
            given.hits.eq(self.hits),
            given.fines.eq(self.fines),
            given.bank.eq(self.bank),
            some.eq(self.hits.any()),
            queue.w_data.eq(given),
            queue.w_en.eq(some),
        ]
        m.d.sync += self.lost.eq(Mux(some & ~queue.w_rdy, sum(self.hits), 0))

        # The word whose hits are counted; the next one follows without a pause.
        word = Signal(_Hits)
        rest = Signal(SLOTS_PER_WORD)
        lane = Signal(range(SLOTS_PER_WORD))
        m.d.comb += rest.eq(word.hits & (word.hits - 1))
        for k in reversed(range(SLOTS_PER_WORD)):
            with m.If(word.hits[k]):
                m.d.comb += lane.eq(k)
        m.d.comb += [
            bins.take.eq(self.take),
            bins.count.eq(word.hits.any() & ~self.take),
            bins.address.eq(
                Mux(self.take, Cat(self.take_fine, self.take_bank), Cat(word.fines[lane], word.bank)),
            ),
            queue.r_en.eq(~word.hits.any() | (~self.take & (rest == 0))),
            self.taken.eq(bins.taken),
            self.value.eq(bins.value),
        ]
        with m.If(queue.r_en & queue.r_rdy):
            m.d.sync += word.eq(queue.r_data)
        with m.Elif(~self.take):
            m.d.sync += word.hits.eq(rest)
        return m
