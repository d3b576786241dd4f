"""Counters of a receiver, and copies of them that can be read in peace."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS, OUTCOMES
from qrelay.protocol.units import SLOTS_PER_WORD

from .clicks import LaneBits
from .counting import ones
from .layouts import status_layout
from .matcher import Outcomes

__all__ = ["COUNTER_BITS", "Counters"]

COUNTER_BITS = 48


class Counters(wiring.Component):
    """Count what each word brings.

    `latch` and `clear` ride along with the word they are presented with: the copies show all words before that word,
    and the counters start again from zero with that word itself. Given together, no event is lost or counted twice. All
    counters are copied at the same word, so that sums hold exactly in a copy: singles = dead + gated out + clicks.

    Latency: 2 words from a word (or `latch`) to the counters (or their copies).  Reset: all 0.
    Overflow: 48 bits, beyond the length of a run; modulo 2^48.

    Ports
    -----
    latch, clear : In(1)
    counted : In(1)
        The word's slots count.
    live : In(4)
        Slots in which all detectors of the rule were live; used where `counted`.
    hits, extra, passed, clicks : In(LaneBits)
        Hits after the delay; second hits of a slot; hits not lost to the dead time; of these, gated clicks.
    double, vetoed : In(4)
    outcomes : In(Outcomes)
        0 where no success.
    copies : Out(status_layout("counters"))
    """

    latch: In(1)
    clear: In(1)
    counted: In(1)
    live: In(SLOTS_PER_WORD)
    hits: In(LaneBits)
    extra: In(LaneBits)
    passed: In(LaneBits)
    clicks: In(LaneBits)
    double: In(SLOTS_PER_WORD)
    vetoed: In(SLOTS_PER_WORD)
    outcomes: In(Outcomes)
    copies: Out(status_layout("counters"))

    latency = 2

    def elaborate(self, platform):
        m = Module()
        latch = Signal()
        clear = Signal()
        m.d.sync += latch.eq(self.latch)
        m.d.sync += clear.eq(self.clear)

        def steps(event, sums):
            """Registered sums of a word, 0 where it has no `event`."""
            any_step = Signal()
            step = {name: Signal(range(maximum + 1), name=f"step_{name}") for name, (_, maximum) in sums.items()}
            m.d.sync += any_step.eq(event)
            with m.If(event):
                m.d.sync += [step[name].eq(value) for name, (value, _) in sums.items()]
            with m.Elif(any_step):
                m.d.sync += [value.eq(0) for value in step.values()]
            counters = {name: Signal(COUNTER_BITS, name=f"counter_{name}") for name in sums}
            # Not one sum with a multiplexed operand: this way the upper bits are cleared by the flip-flops' own reset.
            for name, counter in counters.items():
                with m.If(clear):
                    m.d.sync += counter.eq(step[name])
                with m.Elif(any_step):
                    m.d.sync += counter.eq(counter + step[name])
            with m.If(latch):
                m.d.sync += [self.copies[name].eq(counter) for name, counter in counters.items()]

        steps(
            self.counted,
            {"slots": (SLOTS_PER_WORD, SLOTS_PER_WORD), "live_slots": (ones(self.live), SLOTS_PER_WORD)},
        )
        of_detector = {}
        for d in range(DETECTORS):
            extra = ones(self.extra[d])
            # A fine delay can put five hits of one detector in a word, never more.
            of_detector[f"singles_{d}"] = (ones(self.hits[d]) + extra, SLOTS_PER_WORD + 1)
            of_detector[f"dead_{d}"] = (ones(self.hits[d] & ~self.passed[d]) + extra, SLOTS_PER_WORD + 1)
            of_detector[f"gated_out_{d}"] = (ones(self.passed[d] & ~self.clicks[d]), SLOTS_PER_WORD)
            of_detector[f"clicks_{d}"] = (ones(self.clicks[d]), SLOTS_PER_WORD)
        steps(self.hits.as_value().any(), of_detector)
        in_pattern = {
            "doubles": (ones(self.double), SLOTS_PER_WORD),
            "vetoed": (ones(self.vetoed), SLOTS_PER_WORD),
        }
        one_hot = [Const(1, OUTCOMES) << self.outcomes[lane] for lane in range(SLOTS_PER_WORD)]
        for outcome in range(1, OUTCOMES):
            same = Cat(bits[outcome] for bits in one_hot)
            in_pattern[f"outcome_{outcome}"] = (ones(same), SLOTS_PER_WORD)
        steps(self.double.any() | self.vetoed.any() | self.outcomes.as_value().any(), in_pattern)
        return m
