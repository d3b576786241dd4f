"""Packets as streams of bytes with an end mark, and the arbiter between two of them."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["PacketArbiter", "PacketBuffer", "PacketByte"]


class PacketByte(data.Struct):
    """One byte of a packet (before CRC and COBS) and whether it is the packet's last."""

    value: 8
    last: 1


class PacketArbiter(wiring.Component):
    """Join two packet streams, a whole packet at a time, `first` before `second`.

    The choice is made as soon as a packet is offered, even while the output cannot take it yet: a packet that was
    offered before another one is sent before it, so `first` overtakes only what has not been offered.

    Latency: 1 clock per packet, then none.  Reset: no packet chosen.  Overflow: none (back-pressure).

    Ports
    -----
    first, second : In(stream.Signature(PacketByte))
        Packets; once offered, a packet must be completed up to its last byte.
    out : Out(stream.Signature(PacketByte))
        The chosen packets.
    """

    first: In(stream.Signature(PacketByte))
    second: In(stream.Signature(PacketByte))
    out: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        busy = Signal()
        chose_second = Signal()
        with m.If(~busy):
            m.d.sync += busy.eq(self.first.valid | self.second.valid)
            m.d.sync += chose_second.eq(~self.first.valid)
        with m.Else():
            for code, source in enumerate((self.first, self.second)):
                with m.If(chose_second == code):
                    m.d.comb += self.out.valid.eq(source.valid)
                    m.d.comb += self.out.payload.eq(source.payload)
                    m.d.comb += source.ready.eq(self.out.ready)
            with m.If(self.out.valid & self.out.ready & self.out.payload.last):
                m.d.sync += busy.eq(0)
        return m


class PacketBuffer(wiring.Component):
    """Two bytes of buffer that cut the combinational paths of a packet stream, in both directions.

    Latency: 1 clock.  Throughput: one byte per clock.  Reset: empty.  Overflow: none (back-pressure).

    Ports
    -----
    packets : In(stream.Signature(PacketByte))
    out : Out(stream.Signature(PacketByte))
        The same; `out.valid`, `out.payload` and `packets.ready` come from registers.
    """

    packets: In(stream.Signature(PacketByte))
    out: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        spare = Signal(PacketByte)
        has_spare = Signal()
        m.d.comb += self.packets.ready.eq(~has_spare)
        with m.If(~self.out.valid | self.out.ready):
            m.d.sync += has_spare.eq(0)
            m.d.sync += self.out.valid.eq(has_spare | self.packets.valid)
            with m.If(has_spare):
                m.d.sync += self.out.payload.eq(spare)
            with m.Elif(self.packets.valid):
                m.d.sync += self.out.payload.eq(self.packets.payload)
        with m.Elif(~has_spare & self.packets.valid):
            m.d.sync += has_spare.eq(1)
            m.d.sync += spare.eq(self.packets.payload)
        return m
