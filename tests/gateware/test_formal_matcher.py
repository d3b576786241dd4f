"""Proof: a slot is a success iff the table says so, for every table, pattern and history of writes.

By induction. One arbitrary entry of the table is followed; as it is arbitrary, what holds for it holds for all.
"""

import pytest
from amaranth.hdl import Assert, Assume, Cat, Mux, Signal
from formal import Harness, mutant, proves, refutes

from qrelay.protocol.units import SLOTS_PER_WORD
from qrelay_gateware.matcher import Matcher, Patterns

ENTRY_BITS = 4
MUTANT_ENTRIES = 4
SETTLE_WORDS = 3
"""A written entry acts on words that many words later; the words between see the old or the new one."""


class MatcherHarness(Harness):
    """Writes, patterns, live slots and words that do not count, at any time."""

    def __init__(self, matcher=Matcher):
        super().__init__()
        self.matcher = matcher

    def elaborate(self, platform):
        m = self.module()
        enable = self.free(1, "enable")
        address = self.free(8, "address")
        value = self.free(ENTRY_BITS, "value")
        patterns = self.free(Patterns, "patterns")
        counted = self.free(1, "counted")
        live = self.free(SLOTS_PER_WORD, "live")
        dut = self.matcher()
        watched = self.constant(m, 8, "watched")
        stored = self.add_watched(m, "dut", dut, watched, MUTANT_ENTRIES)
        if not self.with_invariants:
            for chosen in (watched, address, *patterns):
                m.d.comb += Assume(chosen < MUTANT_ENTRIES)
        m.d.comb += [
            dut.table.enable.eq(enable),
            dut.table.address.eq(address),
            dut.table.value.eq(value),
            dut.patterns.eq(patterns),
            dut.counted.eq(counted),
            dut.live.eq(live),
        ]
        entries = [Signal(ENTRY_BITS, name=f"entry_{words}") for words in range(SETTLE_WORDS)]
        """The watched entry after the writes of at least so many words before, and one more."""
        with m.If(enable & (address == watched)):
            m.d.sync += entries[0].eq(value)
        m.d.sync += Cat(entries[1:]).eq(Cat(entries[:-1]))

        def presented(signal, name):
            for stage in range(Matcher.latency):
                signal = self.register(m, signal, f"{name}_{stage}")
            return signal

        for lane in range(SLOTS_PER_WORD):
            looks = presented(patterns[lane] == watched, f"looks_{lane}")
            counts = presented(counted, f"counts_{lane}")
            lives = presented(live[lane], f"lives_{lane}")
            candidates = [presented(entry, f"candidate_{lane}_{n}") for n, entry in enumerate(entries)]
            outcome = dut.outcomes[lane]
            m.d.comb += Assert(dut.success[lane] == (outcome != 0))
            agrees = [
                (outcome == Mux(counts & lives, entry, 0)) & (dut.vetoed[lane] == (counts & ~lives & (entry != 0)))
                for entry in candidates
            ]
            m.d.comb += Assert(~looks | Cat(agrees).any())

        # What makes the induction close: the memory holds the followed entry, and the block knows of entry 0.
        self.invariant(m, stored == entries[0])
        self.invariant(m, (watched != 0) | (self.peek(1, "dut.empty_outcome") == (entries[0] != 0)))
        return m


def test_matcher(tmp_path):
    proves(MatcherHarness(), tmp_path, clocks=5, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Another lane's pattern; neighbouring entries that share a place; blind slots that count; a veto too many.
        ("read.addr.eq(self.patterns[lane])", "read.addr.eq(self.patterns[lane ^ 1])"),
        ("write.addr.eq(self.table.address)", "write.addr.eq(self.table.address & 0xFE)"),
        ("self.success.eq(found & live[1])", "self.success.eq(found)"),
        ("entry[lane] & live[1][lane].replicate(4)", "entry[lane]"),
        ("self.vetoed.eq(found & ~live[1])", "self.vetoed.eq(~live[1])"),
        # The empty pattern is never looked up, or is seen only once; words that do not count; an entry kept too long.
        ("(empty_outcome | self.patterns", "(self.patterns"),
        ("look_up.eq(self.counted & (", "look_up.eq(("),
        ("with m.If(active[0]):", "with m.If(active[0] & ~active[1]):"),
        ("with m.If(active[1]):", "with m.If(active[0] | active[1]):"),
    ],
)
def test_matcher_mutants(tmp_path, old, new):
    refutes(MatcherHarness(mutant(Matcher, old, new)), tmp_path, clocks=8)
