"""Compaction: the successes and clicks of a word become up to four records."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .counting import exactly, ones
from .layouts import WordRecords
from .matcher import Outcomes, Patterns

__all__ = ["ClickRecords", "LaneBits", "LaneFines", "SuccessRecords"]

_Item = WordRecords.as_shape()["items"].shape.elem_shape
_Items = data.ArrayLayout(_Item, SLOTS_PER_WORD)
LaneBits = data.ArrayLayout(SLOTS_PER_WORD, DETECTORS)
"""One bit per slot and detector: bits[detector][lane]."""
LaneFines = data.ArrayLayout(data.ArrayLayout(range(FINES_PER_SLOT), SLOTS_PER_WORD), DETECTORS)
"""fines[detector][lane]"""


def _add_one_hot(a, b):
    """Sum of two numbers 0..3 with one bit per number; all bits 0 where a number or the sum is four or more."""
    return Cat(Cat(a[k] & b[number - k] for k in range(number + 1)).any() for number in range(SLOTS_PER_WORD))


class SuccessRecords(wiring.Component):
    """Put the successes of a word side by side, in order of their slots.

    Latency: 1 word.  Reset: none.  Overflow: none, a word has at most four.

    Ports
    -----
    success : In(4)
    patterns : In(Patterns)
    outcomes : In(Outcomes)
    valid : Out(4)
        The first ones are set: 0, 1, 3, 7 or 15.
    items : Out(four items of WordRecords)
        `low` is the pattern, `high` the outcome. An item means nothing where not `valid`.
    count : Out(range(5))
    """

    success: In(SLOTS_PER_WORD)
    patterns: In(Patterns)
    outcomes: In(Outcomes)
    valid: Out(SLOTS_PER_WORD)
    items: Out(_Items)
    count: Out(range(SLOTS_PER_WORD + 1))

    latency = 1

    def elaborate(self, platform):
        m = Module()
        with m.If(self.success.any()):
            m.d.sync += self.count.eq(ones(self.success))
            for place in range(SLOTS_PER_WORD):
                fewer = Cat(exactly(self.success, number) for number in range(place + 1)).any()
                m.d.sync += self.valid[place].eq(~fewer)
            for place in range(SLOTS_PER_WORD):
                # Lanes before `place` cannot be in that place.
                for lane in range(place, SLOTS_PER_WORD):
                    with m.If(self.success[lane] & exactly(self.success[:lane], place)):
                        m.d.sync += [
                            self.items[place].lane.eq(lane),
                            self.items[place].low.eq(self.patterns[lane]),
                            self.items[place].high.eq(self.outcomes[lane]),
                        ]
        with m.Else():
            m.d.sync += [self.count.eq(0), self.valid.eq(0)]
        return m


class ClickRecords(wiring.Component):
    """Put the first four clicks of a word side by side, in order of slot and then detector; count the rest.

    Latency: 4 words.  Reset: none.  Overflow: clicks after the fourth are only counted, in `beyond`.

    Ports
    -----
    clicks : In(LaneBits)
    fines : In(LaneFines)
    valid : Out(4)
        The first ones are set: 0, 1, 3, 7 or 15.
    items : Out(four items of WordRecords)
        `low` is the fine, `high` the detector. An item means nothing where not `valid`.
    count : Out(range(17))
        All clicks of the word.
    beyond : Out(range(13))
        Clicks after the fourth.
    bits : Out(LaneBits)
        `clicks` of the same word.
    """

    clicks: In(LaneBits)
    fines: In(LaneFines)
    valid: Out(SLOTS_PER_WORD)
    items: Out(_Items)
    count: Out(range(SLOTS_PER_WORD * DETECTORS + 1))
    beyond: Out(range(SLOTS_PER_WORD * (DETECTORS - 1) + 1))
    bits: Out(LaneBits)

    latency = 4

    def elaborate(self, platform):
        m = Module()
        lanes = range(SLOTS_PER_WORD)
        sources = [(lane, detector) for lane in lanes for detector in range(DETECTORS)]
        bits = [Signal(LaneBits, name=f"bits_{word}") for word in (1, 2, 3)]
        fines = [Signal(LaneFines, name=f"fines_{word}") for word in (1, 2, 3)]
        active = [Signal(name=f"active_{word}") for word in (1, 2, 3)]
        for before, after in zip([self.clicks, *bits], [*bits, self.bits], strict=True):
            m.d.sync += after.eq(before)
        m.d.sync += active[0].eq(self.clicks.as_value().any())
        m.d.sync += active[1].eq(active[0])
        m.d.sync += active[2].eq(active[1])

        # Word 1: clicks of each lane, one bit per number 0..3.
        in_lane = [Signal(SLOTS_PER_WORD, name=f"in_lane_{lane}") for lane in lanes]
        count_of_lane = [Signal(range(DETECTORS + 1), name=f"count_of_lane_{lane}") for lane in lanes]
        with m.If(self.clicks.as_value().any()):
            m.d.sync += fines[0].eq(self.fines)
            for lane in lanes:
                of_lane = [self.clicks[d][lane] for d in range(DETECTORS)]
                m.d.sync += in_lane[lane].eq(Cat(exactly(of_lane, number) for number in range(SLOTS_PER_WORD)))
                m.d.sync += count_of_lane[lane].eq(ones(of_lane))

        # Word 2: clicks in the lanes before, one bit per number; no bit stands for four or more.
        before_lane = [Signal(SLOTS_PER_WORD, name=f"before_lane_{lane}") for lane in lanes]
        count_of_pair = [Signal(range(2 * DETECTORS + 1), name=f"count_of_pair_{pair}") for pair in range(2)]
        with m.If(active[0]):
            m.d.sync += fines[1].eq(fines[0])
            total = Const(1, SLOTS_PER_WORD)
            for lane in lanes:
                m.d.sync += before_lane[lane].eq(total)
                total = _add_one_hot(total, in_lane[lane])
            for pair, pair_count in enumerate(count_of_pair):
                m.d.sync += pair_count.eq(count_of_lane[2 * pair] + count_of_lane[2 * pair + 1])

        # Word 3: which click goes in which place.
        count = Signal.like(self.count)
        chosen = [Signal(len(sources), name=f"chosen_{place}") for place in range(SLOTS_PER_WORD)]
        with m.If(active[1]):
            m.d.sync += fines[2].eq(fines[1])
            m.d.sync += count.eq(count_of_pair[0] + count_of_pair[1])
            for index, (lane, detector) in enumerate(sources):
                earlier = [bits[1][d][lane] for d in range(detector)]
                in_front = _add_one_hot(
                    before_lane[lane], Cat(exactly(earlier, number) for number in range(SLOTS_PER_WORD))
                )
                for place in range(SLOTS_PER_WORD):
                    m.d.sync += chosen[place][index].eq(bits[1][detector][lane] & in_front[place])

        # Word 4: the records.
        with m.If(active[2]):
            m.d.sync += self.count.eq(count)
            m.d.sync += self.beyond.eq(Mux(count > SLOTS_PER_WORD, count - SLOTS_PER_WORD, 0))
            for place in range(SLOTS_PER_WORD):
                m.d.sync += self.valid[place].eq(chosen[place].any())
                item = Const(0, _Item.size)
                for index, (lane, detector) in enumerate(sources):
                    source = Cat(Const(lane, 2), fines[2][detector][lane], Const(detector, 4))
                    item = item | Mux(chosen[place][index], source, 0)
                m.d.sync += self.items[place].as_value().eq(item)
        with m.Else():
            m.d.sync += [self.count.eq(0), self.beyond.eq(0), self.valid.eq(0)]
        return m
