"""The success matcher: a table from the click pattern of a slot to an outcome."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import OUTCOMES
from qrelay.protocol.units import SLOTS_PER_WORD

from .layouts import table_write

__all__ = ["Matcher", "Outcomes", "Patterns"]

PATTERN_BITS = 8
Patterns = data.ArrayLayout(PATTERN_BITS, SLOTS_PER_WORD)
"""Click pattern by lane."""
Outcomes = data.ArrayLayout(range(OUTCOMES), SLOTS_PER_WORD)
"""Outcome code by lane."""


class Matcher(wiring.Component):
    """Look up each slot's click pattern; a success is an outcome other than 0 in a live slot.

    A slot without clicks is looked up as pattern 0 like any other. An entry that is written acts on words presented
    three or more words later; the look-up of words in between may see the old or the new entry.

    Latency: 3 words.  Reset: the table is empty (0 everywhere) after configuration of the device and keeps its content
    at a reset.  Overflow: none, four results per word.

    Ports
    -----
    table : table_write("success")
    patterns : In(Patterns)
    counted : In(1)
        The word's slots count. Otherwise it gives neither success nor veto.
    live : In(4)
        All detectors of the rule are live, by lane.
    outcomes : Out(Outcomes)
        0 where there is no success.
    success : Out(4)
    vetoed : Out(4)
        An outcome other than 0 in a slot that was not live.
    """

    table: table_write("success")
    patterns: In(Patterns)
    counted: In(1)
    live: In(SLOTS_PER_WORD)
    outcomes: Out(Outcomes)
    success: Out(SLOTS_PER_WORD)
    vetoed: Out(SLOTS_PER_WORD)

    latency = 3

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=range(OUTCOMES), depth=1 << PATTERN_BITS, init=[])
        write = memory.write_port()
        m.d.comb += [
            write.addr.eq(self.table.address),
            write.data.eq(self.table.value),
            write.en.eq(self.table.enable),
        ]
        # Words without a click are not looked up, unless the empty pattern has an outcome.
        empty_outcome = Signal()
        with m.If(self.table.enable & (self.table.address == 0)):
            m.d.sync += empty_outcome.eq(self.table.value.any())
        look_up = Signal()
        m.d.comb += look_up.eq(self.counted & (empty_outcome | self.patterns.as_value().any()))

        active = [Signal(name=f"active_{word}") for word in (1, 2)]
        live = [Signal(SLOTS_PER_WORD, name=f"live_{word}") for word in (1, 2)]
        entry = Signal(Outcomes)
        m.d.sync += [
            active[0].eq(look_up),
            active[1].eq(active[0]),
            live[0].eq(self.live),
            live[1].eq(live[0]),
        ]
        for lane in range(SLOTS_PER_WORD):
            read = memory.read_port()
            m.d.comb += [read.addr.eq(self.patterns[lane]), read.en.eq(look_up)]
            with m.If(active[0]):
                m.d.sync += entry[lane].eq(read.data)

        with m.If(active[1]):
            found = Cat(outcome.any() for outcome in entry)
            m.d.sync += [
                self.success.eq(found & live[1]),
                self.vetoed.eq(found & ~live[1]),
                *(self.outcomes[lane].eq(entry[lane] & live[1][lane].replicate(4)) for lane in range(SLOTS_PER_WORD)),
            ]
        with m.Else():
            m.d.sync += [self.success.eq(0), self.vetoed.eq(0), self.outcomes.eq(0)]
        return m
