"""A small station with the ports of the real one, all of which have an effect: to test board and build quickly."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qrelay_gateware.layouts import LINE_BINS, Hits, Lines


class StandIn(wiring.Component):
    """Lines shift what comes from the link; the link sends what the inputs and the state make."""

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    hits: In(Hits)
    start_bins: In(LINE_BINS)
    lines: Out(Lines)
    start_out: Out(LINE_BINS)
    probe: Out(4)
    clock_locked: In(1)
    external_reference: In(1)
    reference_lost: In(1)
    lock_lost: In(1)
    phase_slipped: In(1)
    armed: Out(1)
    running: Out(1)

    def elaborate(self, platform):
        m = Module()
        shift = Signal(80)
        inputs = Signal(160)
        with m.If(self.rx.valid):
            m.d.sync += shift.eq(Cat(self.rx.payload, shift))
        m.d.comb += self.rx.ready.eq(1)
        m.d.comb += Cat(self.lines.as_value(), self.start_out, self.probe).eq(shift)
        m.d.comb += self.armed.eq(shift[0])
        m.d.comb += self.running.eq(self.clock_locked & shift[1])
        state = Cat(self.external_reference, self.reference_lost, self.lock_lost, self.phase_slipped)
        m.d.sync += inputs.eq(inputs.rotate_left(8) ^ Cat(self.hits.as_value(), self.start_bins, state))
        m.d.comb += self.tx.payload.eq(inputs[:8] ^ inputs[8:16])
        m.d.comb += self.tx.valid.eq(self.clock_locked)
        return m
