"""Compaction: the successes and clicks of a word become up to four records."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .layouts import WordRecords
from .matcher import Outcomes, Patterns

__all__ = ["ClickRecords", "LaneBits", "LaneFines", "SuccessRecords"]

_Item = WordRecords.as_shape()["items"].shape.elem_shape
_Items = data.ArrayLayout(_Item, SLOTS_PER_WORD)
LaneBits = data.ArrayLayout(SLOTS_PER_WORD, DETECTORS)
"""One bit per slot and detector: bits[detector][lane]."""
LaneFines = data.ArrayLayout(data.ArrayLayout(range(FINES_PER_SLOT), SLOTS_PER_WORD), DETECTORS)
"""fines[detector][lane]"""


def _count(bits):
    """Number of ones, as a sum of single bits."""
    return sum(bits[1:], bits[0])


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
            count = _count(self.success)
            m.d.sync += self.count.eq(count)
            m.d.sync += self.valid.eq(Cat(count > place for place in range(SLOTS_PER_WORD)))
            for place in range(SLOTS_PER_WORD):
                # Lanes before `place` cannot be in that place.
                for lane in range(place, SLOTS_PER_WORD):
                    earlier = _count(self.success[:lane]) if lane else 0
                    with m.If(self.success[lane] & (earlier == place)):
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

        # Word 1: clicks of each lane.
        in_lane = [Signal(range(DETECTORS + 1), name=f"in_lane_{lane}") for lane in lanes]
        with m.If(self.clicks.as_value().any()):
            m.d.sync += fines[0].eq(self.fines)
            for lane in lanes:
                m.d.sync += in_lane[lane].eq(_count([self.clicks[d][lane] for d in range(DETECTORS)]))

        # Word 2: clicks in the lanes before; 4 stands for more.
        offset = [Signal(range(SLOTS_PER_WORD + 1), name=f"offset_{lane}") for lane in lanes]
        count = [Signal.like(self.count, name=f"count_{word}") for word in (2, 3)]
        with m.If(active[0]):
            m.d.sync += fines[1].eq(fines[0])
            for lane in range(1, SLOTS_PER_WORD):
                total = sum(in_lane[1:lane], in_lane[0])
                m.d.sync += offset[lane].eq(Mux(total > SLOTS_PER_WORD, SLOTS_PER_WORD, total))
            m.d.sync += count[0].eq(sum(in_lane[1:], in_lane[0]))

        # Word 3: which click goes in which place.
        chosen = [Signal(len(sources), name=f"chosen_{place}") for place in range(SLOTS_PER_WORD)]
        with m.If(active[1]):
            m.d.sync += fines[2].eq(fines[1])
            m.d.sync += count[1].eq(count[0])
            for index, (lane, detector) in enumerate(sources):
                before = sum((bits[1][d][lane] for d in range(1, detector)), bits[1][0][lane]) if detector else 0
                for place in range(SLOTS_PER_WORD):
                    m.d.sync += chosen[place][index].eq(bits[1][detector][lane] & (offset[lane] + before == place))

        # Word 4: the records.
        with m.If(active[2]):
            m.d.sync += self.count.eq(count[1])
            m.d.sync += self.beyond.eq(Mux(count[1] > SLOTS_PER_WORD, count[1] - SLOTS_PER_WORD, 0))
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
