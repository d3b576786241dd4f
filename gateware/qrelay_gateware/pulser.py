"""A test pulser that stands in for the detectors."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["TestPulser"]


class TestPulser(wiring.Component):
    """Fire once every `period` words, run or no run.

    The first pulse comes `period` words after reset or after the period was 0; a period shorter than the words since
    the last pulse fires at once.

    Latency: 1 word.  Reset: no pulse.  Overflow: none.

    Ports
    -----
    period : In(32)
        Words from pulse to pulse; 0: off.
    fire : Out(1)
    """

    __test__ = False  # not a test case, whatever its name suggests to test runners

    period: In(32)
    fire: Out(1)

    latency = 1

    def elaborate(self, platform):
        m = Module()
        # Words since the last pulse. It starts again one clock late, from `fire`, so that nothing waits for the
        # comparison.
        words = Signal(32)
        with m.If(self.period == 0):
            m.d.sync += [words.eq(0), self.fire.eq(0)]
        with m.Elif(self.fire):
            m.d.sync += [words.eq(1), self.fire.eq(self.period == 1)]
        with m.Else():
            m.d.sync += [words.eq(words + 1), self.fire.eq(words + 1 >= self.period)]
        return m
