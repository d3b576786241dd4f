"""The record of a frame: how many clicks and successes it had."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.records import RECORD_BITS, RECORDS, RecordKind
from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import SLOTS_PER_WORD

__all__ = ["FrameRecords"]

_WIDTHS = {field.name: field.width for field in RECORDS[RecordKind.FRAME].fields}


class FrameRecords(wiring.Component):
    """Count the clicks and successes of each frame and give its record after its last word.

    Both counts stop at their largest value. A frame that the end of the run cuts gives no record and leaves nothing for
    the next run.

    Latency: 1 word, from a frame's last word to its record.  Reset: counts 0.  Overflow: saturation.

    Ports
    -----
    running : In(1)
        The word belongs to a run.
    last : In(1)
        It is the last word of its frame.
    frame : In(32)
        Its frame number.
    clicks : In(range(17))
        Its clicks.
    successes : In(range(5))
        Its successes.
    record : Out(64)
        FRAME record with flags 0; means nothing where not `valid`.
    valid : Out(1)
        For one clock per frame.
    """

    running: In(1)
    last: In(1)
    frame: In(_WIDTHS["frame"])
    clicks: In(range(SLOTS_PER_WORD * DETECTORS + 1))
    successes: In(range(SLOTS_PER_WORD + 1))
    record: Out(RECORD_BITS)
    valid: Out(1)

    latency = 1

    def elaborate(self, platform):
        m = Module()
        counts = []
        for name, present in (("clicks", self.clicks), ("successes", self.successes)):
            count = Signal(_WIDTHS[name], name=f"{name}_in_frame")
            total = Signal(_WIDTHS[name] + 1, name=f"{name}_total")
            limited = Signal(_WIDTHS[name], name=f"{name}_limited")
            m.d.comb += total.eq(count + present)
            m.d.comb += limited.eq(Mux(total[-1], ~0, total[:-1]))
            with m.If(~self.running | self.last):
                m.d.sync += count.eq(0)
            with m.Else():
                m.d.sync += count.eq(limited)
            counts.append(limited)
        clicks, successes = counts

        ends = self.running & self.last
        m.d.sync += self.valid.eq(ends)
        with m.If(ends):
            m.d.sync += self.record.eq(Cat(self.frame, clicks, successes, Const(0, _WIDTHS["flags"])))
        return m
