"""The rate meter: hits per interval, run or no run."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS

from .clicks import LaneBits
from .counting import ones

__all__ = ["RateMeter"]


class RateMeter(wiring.Component):
    """Count the hits of each detector in intervals of `words` words and show the last full interval.

    Latency: 2 words: a word's hits belong to the interval of the clock two words later, which decides at the ends.
    Reset: rates 0, an interval begins.  Overflow: none (at most four hits per word, 32 bit; longer intervals than 2^30
    words can wrap at the largest rates).

    Ports
    -----
    words : In(32)
        Interval; 0 and 1 act as 2. A change to fewer words than have passed ends the interval.
    hits : In(LaneBits)
    rates : Out(32 bits per detector)
    """

    words: In(32)
    hits: In(LaneBits)
    rates: Out(data.ArrayLayout(unsigned(32), DETECTORS))

    latency = 2

    def elaborate(self, platform):
        m = Module()
        # The end is decided a clock ahead, because it has to reach every bit of the counts and rates.
        passed = Signal(32)
        ends = Signal()
        m.d.sync += passed.eq(Mux(ends, 0, passed + 1))
        m.d.sync += ends.eq(~ends & (passed + 2 >= self.words))

        any_step = Signal()
        present = Signal()
        m.d.comb += present.eq(self.hits.as_value().any())
        m.d.sync += any_step.eq(present)
        for d in range(DETECTORS):
            step = Signal(range(5), name=f"step_{d}")
            count = Signal(32, name=f"count_{d}")
            with m.If(present):
                m.d.sync += step.eq(ones(self.hits[d]))
            with m.Elif(any_step):
                m.d.sync += step.eq(0)
            with m.If(ends):
                m.d.sync += [self.rates[d].eq(count + step), count.eq(0)]
            with m.Elif(any_step):
                m.d.sync += count.eq(count + step)
        return m
