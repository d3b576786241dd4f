"""Histogram of each detector's hits by their place in the slot."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .clicks import LaneBits, LaneFines
from .fine_bins import FineBins
from .readout import Readout

__all__ = ["FineHistogram"]

_BINS = DETECTORS * FINES_PER_SLOT
_DETECTOR_BITS = (DETECTORS - 1).bit_length()


class FineHistogram(wiring.Component):
    """Count hits by detector and fine, all detectors at once.

    There are two banks. `turn` makes the other bank, which is empty, count from its own word on; what the bank before
    had counted is then read out and set to zero, and stands in the window when `busy` falls. Counting goes on
    meanwhile, but for one word in four of each detector.

    Latency: `read_out_words` from `turn` to the window; `busy` rises in the word after `turn`; 2 words to `lost`.
    Reset: counts are kept, hits on their way forgotten. A read-out that is cut by a reset leaves the bank half read.
    Overflow: see `FineBins`: hits that find the queue of their detector full are lost, and told.

    Parameters
    ----------
    read_domain : str
        Clock domain of `address` and `value`.

    Ports
    -----
    hits : In(LaneBits), fines : In(LaneFines)
    lost : Out(5)
        Hits of a word that are not counted.
    turn : In(1)
        Only while not `busy`.
    discard : In(1)
        With `turn`: the window shall show zeros instead of what was counted.
    busy : Out(1)
    address : In(10), value : Out(32)
        Window: `value` is the count of detector address / 256 at fine address % 256, two words later.
    """

    hits: In(LaneBits)
    fines: In(LaneFines)
    lost: Out(range(DETECTORS * SLOTS_PER_WORD + 1))
    turn: In(1)
    discard: In(1)
    busy: Out(1)
    address: In(range(_BINS))
    value: Out(32)

    latency = 2
    first_take = FineBins.drain_words
    """Words from the word after `turn` to that in which the first bin is read: fine 0 of detector 0."""
    read_out_words = first_take + _BINS + FineBins.take_latency + 4
    """Words from `turn` to a window that can be read."""

    def __init__(self, *, read_domain: str = "sync"):
        self._read_domain = read_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        bank = Signal()
        now = Signal()
        is_discarded = Signal()
        m.d.comb += now.eq(bank ^ self.turn)
        m.d.sync += bank.eq(now)
        with m.If(self.turn):
            m.d.sync += is_discarded.eq(self.discard)

        # Rest, then a bin in each word, detector varying faster than fine, then rest again.
        step = Signal(range(self.read_out_words))
        taking = Signal()
        place = Signal(range(_BINS))
        with m.If(self.turn):
            m.d.sync += self.busy.eq(1)
        with m.If(self.busy):
            m.d.sync += step.eq(step + 1)
            with m.If(step == self.first_take - 1):
                m.d.sync += taking.eq(1)
            with m.If(step == self.read_out_words - 2):
                m.d.sync += [self.busy.eq(0), step.eq(0)]
        with m.If(taking):
            m.d.sync += place.eq(place + 1)
            with m.If(place == _BINS - 1):
                m.d.sync += taking.eq(0)

        losses = []
        taken = []
        values = []
        for d in range(DETECTORS):
            m.submodules[f"bins_{d}"] = bins = FineBins()
            m.d.comb += [
                bins.hits.eq(self.hits[d]),
                bins.fines.eq(self.fines[d]),
                bins.bank.eq(now),
                bins.take.eq(taking & (place[:_DETECTOR_BITS] == d)),
                bins.take_bank.eq(~bank),
                bins.take_fine.eq(place[_DETECTOR_BITS:]),
            ]
            losses.append(bins.lost)
            taken.append(bins.taken)
            values.append(Mux(bins.taken, bins.value, 0))
        m.d.sync += self.lost.eq(sum(losses))

        m.submodules.readout = readout = Readout(_BINS, read_domain=self._read_domain)
        found = Signal(_BINS.bit_length() - 1)
        """Place of the bin that the memories answer with."""
        value = Signal(32)
        written = Signal()
        m.d.sync += [written.eq(Cat(taken).any()), value.eq(Mux(is_discarded, 0, reduce(or_, values)))]
        with m.If(written):
            m.d.sync += found.eq(found + 1)
        m.d.comb += [
            readout.write_enable.eq(written),
            readout.write_address.eq(Cat(found[_DETECTOR_BITS:], found[:_DETECTOR_BITS])),
            readout.write_value.eq(value),
            readout.address.eq(self.address),
            self.value.eq(readout.value),
        ]
        return m
