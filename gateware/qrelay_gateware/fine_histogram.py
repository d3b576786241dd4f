"""Histogram of each detector's hits by their place in the slot.

A block RAM reads and writes one bin per word, so each lane of each detector has one. At full rate none of them has a
word to spare for reading out what was counted: while one of them is read, a spare memory counts in its place.
"""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .clicks import LaneBits, LaneFines
from .count_memory import CountMemory
from .readout import Readout

__all__ = ["FineHistogram"]

_BINS = DETECTORS * FINES_PER_SLOT
_COUNT_BITS = 32
_PHASES = SLOTS_PER_WORD + 1
_REST = 8
"""Words before the first bin is taken, and after the last: what is under way then has arrived."""
_SPARE_BITS = 11
"""The spare memory counts for one lane of a detector in each of 256 * 4 words of a read-out, so never past 2^11 - 1."""


class FineHistogram(wiring.Component):
    """Count hits by detector and fine: all detectors at once, every hit of every word.

    There are two banks. `turn` makes the other bank, which is empty, count from its own word on; what the bank before
    had counted is then read out, summed over the lanes and set to zero, and stands in the window when `busy` falls.
    Counting goes on meanwhile.

    Latency: `read_out_words` from `turn` to the window; `busy` rises in the word after `turn`.
    Reset: counts are kept. A read-out that is cut by a reset leaves the bank half read.
    Overflow: bins count modulo 2^32, no sooner than after 14 s with a hit of one bin in every slot.

    Parameters
    ----------
    read_domain : str
        Clock domain of `address` and `value`.

    Ports
    -----
    hits : In(LaneBits), fines : In(LaneFines)
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
    turn: In(1)
    discard: In(1)
    busy: Out(1)
    address: In(range(_BINS))
    value: Out(32)

    read_out_words = 2 * _REST + _PHASES * _BINS + 1
    """Words from `turn` to a window that can be read."""

    def __init__(self, *, read_domain: str = "sync"):
        self._read_domain = read_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        detectors = range(DETECTORS)
        lanes = range(SLOTS_PER_WORD)
        bank = Signal()
        now = Signal()
        m.d.comb += now.eq(bank ^ self.turn)
        m.d.sync += bank.eq(now)

        # The place of the read-out: detector varies faster than bin.
        rest = Signal(range(_REST))
        reading = Signal()
        ended = Signal()
        phase = Signal(range(_PHASES))
        detector = Signal(range(DETECTORS))
        fine = Signal(range(FINES_PER_SLOT))
        is_discarded = Signal()
        last_phase = Signal()
        m.d.comb += last_phase.eq(phase == _PHASES - 1)
        with m.If(self.turn):
            m.d.sync += [self.busy.eq(1), is_discarded.eq(self.discard)]
        with m.Elif(self.busy & ~reading):
            m.d.sync += rest.eq(rest + 1)
            with m.If(rest == _REST - 1):
                m.d.sync += [reading.eq(~ended), self.busy.eq(~ended), ended.eq(0)]
        with m.If(reading):
            m.d.sync += phase.eq(Mux(last_phase, 0, phase + 1))
            with m.If(last_phase):
                m.d.sync += Cat(detector, fine).eq(Cat(detector, fine) + 1)
                with m.If(Cat(detector, fine).all()):
                    m.d.sync += [reading.eq(0), ended.eq(1)]

        m.submodules.spare = spare = CountMemory(2 * _BINS, _SPARE_BITS)
        m.d.comb += [
            spare.take.eq(reading & last_phase),
            spare.address.eq(Cat(fine, detector, ~bank)),
        ]
        values = []
        for d in detectors:
            for lane in lanes:
                name = f"bins_{d}_{lane}"
                m.submodules[name] = bins = CountMemory(2 * FINES_PER_SLOT, _COUNT_BITS)
                values.append(bins.value)
                m.d.comb += [bins.address.eq(Cat(self.fines[d][lane], now)), bins.count.eq(self.hits[d][lane])]
                with m.If(reading & (phase == lane) & (detector == d)):
                    m.d.comb += [bins.address.eq(Cat(fine, ~bank)), bins.count.eq(0), bins.take.eq(1)]
        with m.If(reading & ~last_phase):
            place = Cat(phase[:2], detector)
            of_lane = Array(self.fines[d][lane] for d in detectors for lane in lanes)
            is_hit = Cat(self.hits[d][lane] for d in detectors for lane in lanes).bit_select(place, 1)
            m.d.comb += [spare.address.eq(Cat(of_lane[place], detector, bank)), spare.count.eq(is_hit)]

        # The same place when the memories answer: chosen, then added up, then in the window.
        behind = Cat(reading, phase, detector, fine)
        answered = Signal(len(behind), name="answered")
        stage = behind
        for word in range(CountMemory.latency - 1):
            after = Signal(len(behind), name=f"asked_{word}")
            with m.If(self.busy):
                m.d.sync += after.eq(stage)
            stage = after
        with m.If(self.busy):
            m.d.sync += answered.eq(stage)
        answered_phase = answered[1:4]
        chosen = Signal(_COUNT_BITS)
        chosen_place = Signal(len(behind))
        total = Signal(_COUNT_BITS)
        total_place = Signal(len(behind))
        with m.If(self.busy):
            lane_place = Cat(answered_phase[:2], answered[4:6])
            m.d.sync += [
                chosen.eq(Mux(answered_phase == _PHASES - 1, spare.value, Array(values)[lane_place])),
                chosen_place.eq(answered),
                total.eq(Mux(chosen_place[1:4] == 0, 0, total) + chosen),
                total_place.eq(chosen_place),
            ]
        m.submodules.readout = readout = Readout(_BINS, read_domain=self._read_domain)
        m.d.comb += [
            readout.write_enable.eq(self.busy & total_place[0] & (total_place[1:4] == _PHASES - 1)),
            readout.write_address.eq(Cat(total_place[6:], total_place[4:6])),
            readout.write_value.eq(Mux(is_discarded, 0, total)),
            readout.address.eq(self.address),
            self.value.eq(readout.value),
        ]
        return m
