"""A small station with the ports of the real one, all of which have an effect: to test board and build quickly."""

from amaranth.hdl import Cat, Module, Signal

from qrelay_gateware.station import Station


class StandIn(Station):
    """Outputs are bits of a shift register fed by the link; the link sends what all other inputs make."""

    def elaborate(self, platform):
        m = Module()
        link = [self.rx, self.tx]
        inputs, outputs = [], []
        for _, member, port in self.signature.flatten(self):
            if not any(port is part for stream in link for part in (stream.payload, stream.valid, stream.ready)):
                (outputs if member.flow.name == "Out" else inputs).append(port)
        inputs, outputs = Cat(inputs), Cat(outputs)
        shift = Signal(len(outputs))
        with m.If(self.rx.valid):
            m.d.sync += shift.eq(Cat(self.rx.payload, shift))
        m.d.comb += self.rx.ready.eq(1)
        m.d.comb += outputs.eq(shift)
        mixed = Signal(len(inputs))
        m.d.sync += mixed.eq(mixed.rotate_left(8) ^ inputs)
        m.d.comb += self.tx.payload.eq(mixed[:8] ^ mixed[8:16])
        m.d.comb += self.tx.valid.eq(self.clock_locked)
        return m
