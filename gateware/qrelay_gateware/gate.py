"""The gate of one detector: which part of a slot counts."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .layouts import WordHits

__all__ = ["Gate"]


class Gate(wiring.Component):
    """Say which hits lie in the early and in the late window of their slot.

    A hit lies in a window if (fine - start) mod 256 < width. A window that passes the end of the slot covers the end
    and the beginning of the same slot. Width 0: no hit; width 256 or more: every hit.

    Latency: 2 words.  Reset: no hit.  Overflow: none.

    Ports
    -----
    hits : In(WordHits)
    start, late_start : In(8)
        First fine of the window.
    width, late_width : In(9)
        Fines in the window.
    early, late : Out(4)
        Lanes with a hit inside the window; the two are independent of each other.
    """

    hits: In(WordHits)
    start: In(range(FINES_PER_SLOT))
    width: In(range(2 * FINES_PER_SLOT))
    late_start: In(range(FINES_PER_SLOT))
    late_width: In(range(2 * FINES_PER_SLOT))
    early: Out(SLOTS_PER_WORD)
    late: Out(SLOTS_PER_WORD)

    latency = 2

    def elaborate(self, platform):
        m = Module()
        lanes = range(SLOTS_PER_WORD)
        valid_now = Cat(hit.valid for hit in self.hits)
        valid = Signal(SLOTS_PER_WORD)
        m.d.sync += valid.eq(valid_now)
        for start, width, inside in (
            (self.start, self.width, self.early),
            (self.late_start, self.late_width, self.late),
        ):
            after_start = [Signal(range(FINES_PER_SLOT), name=f"after_start_{lane}") for lane in lanes]
            with m.If(valid_now.any()):
                for lane in lanes:
                    m.d.sync += after_start[lane].eq(self.hits[lane].fine - start)
            with m.If(valid.any()):
                for lane in lanes:
                    m.d.sync += inside[lane].eq(valid[lane] & (after_start[lane] < width))
            with m.Else():
                m.d.sync += inside.eq(0)
        return m
