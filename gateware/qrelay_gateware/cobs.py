"""Consistent-overhead byte stuffing (Cheshire and Baker 1999) of packets up to 254 bytes, with a zero byte behind each.

The encoder's trick: a zero of the packet is not stored; its place is where the next code byte goes once the distance to
the next zero is known. So each byte of the packet costs one write, and one more closes the packet.
"""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .packet_stream import PacketByte
from .slow_read import ANY_ON_COLLISION, word_read

__all__ = ["CobsDecoder", "CobsEncoder"]


class CobsDecoder(wiring.Component):
    """Undo the stuffing, one byte per clock.

    Latency: 1 clock.  Reset: between frames.  Overflow: none; the length of a frame is not limited here.

    Ports
    -----
    enable : In(1)
        A byte from the wire is there.
    byte : In(8)
        The byte; zero ends a frame.
    valid, value : Out(1), Out(8)
        A byte of the packet, at most one per byte from the wire.
    end : Out(1)
        A frame of at least one byte has ended. Further zeros behind it are ignored.
    cut : Out(1)
        With `end`: the frame ended inside a block, so its stuffing is wrong.
    """

    enable: In(1)
    byte: In(8)
    valid: Out(1)
    value: Out(8)
    end: Out(1)
    cut: Out(1)

    def elaborate(self, platform):
        m = Module()
        remaining = Signal(8)
        started = Signal()
        zero_owed = Signal()
        m.d.sync += self.valid.eq(0)
        m.d.sync += self.end.eq(0)
        with m.If(self.enable):
            with m.If(self.byte == 0):
                m.d.sync += self.end.eq(started)
                m.d.sync += self.cut.eq(remaining != 0)
                m.d.sync += started.eq(0)
                m.d.sync += zero_owed.eq(0)
                m.d.sync += remaining.eq(0)
            with m.Elif(remaining == 0):
                # A code byte. The zero before its block is known to be part of the packet only now.
                m.d.sync += self.valid.eq(zero_owed)
                m.d.sync += self.value.eq(0)
                m.d.sync += started.eq(1)
                m.d.sync += zero_owed.eq(self.byte != 0xFF)
                m.d.sync += remaining.eq(self.byte - 1)
            with m.Else():
                m.d.sync += self.valid.eq(1)
                m.d.sync += self.value.eq(self.byte)
                m.d.sync += remaining.eq(remaining - 1)
        return m


class CobsEncoder(wiring.Component):
    """Stuff packets of 1 to 254 bytes and put a zero byte behind each.

    Two packets are buffered: one is sent while the next one is filled.

    Latency: a packet leaves when it is complete, 5 clocks after its last byte. Throughput: one byte per clock at the
    output; at the input two clocks more per packet.  Reset: empty.  Overflow: none (back-pressure); a packet of more
    than 254 bytes is not allowed.

    Ports
    -----
    packets : In(stream.Signature(PacketByte))
        Packets, with their CRC.
    out : Out(stream.Signature(8))
        Bytes for the wire.
    sent : Out(1)
        One clock for each packet that was completed.
    """

    packets: In(stream.Signature(PacketByte))
    out: Out(stream.Signature(8))
    sent: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.buffer = buffer = Memory(shape=8, depth=512, init=[], attrs=ANY_ON_COLLISION)
        write = buffer.write_port()

        full = Signal(2)
        last_place = Array(Signal(8, name=f"last_place_{half}") for half in range(2))
        fill_half = Signal()
        place = Signal(8, init=1)
        code_place = Signal(8)
        distance = Signal(8)
        write_place = Signal(8)
        m.d.comb += distance.eq(place - code_place)
        m.d.comb += write.addr.eq(Cat(write_place, fill_half))
        with m.FSM():
            with m.State("FILL"):
                m.d.comb += self.packets.ready.eq(~full.bit_select(fill_half, 1))
                with m.If(self.packets.valid & self.packets.ready):
                    m.d.comb += write.en.eq(1)
                    m.d.sync += place.eq(place + 1)
                    with m.If(self.packets.payload.value == 0):
                        m.d.comb += write_place.eq(code_place)
                        m.d.comb += write.data.eq(distance)
                        m.d.sync += code_place.eq(place)
                    with m.Else():
                        m.d.comb += write_place.eq(place)
                        m.d.comb += write.data.eq(self.packets.payload.value)
                    with m.If(self.packets.payload.last):
                        m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += write.en.eq(1)
                m.d.comb += write_place.eq(code_place)
                m.d.comb += write.data.eq(distance)
                m.next = "DELIMIT"
            with m.State("DELIMIT"):
                m.d.comb += write.en.eq(1)
                m.d.comb += write_place.eq(place)
                m.d.comb += write.data.eq(0)
                m.d.comb += self.sent.eq(1)
                m.d.sync += last_place[fill_half].eq(place)
                m.d.sync += full.bit_select(fill_half, 1).eq(1)
                m.d.sync += fill_half.eq(~fill_half)
                m.d.sync += place.eq(1)
                m.d.sync += code_place.eq(0)
                m.next = "FILL"

        send_half = Signal()
        send_place = Signal(8)
        fetch = Signal()
        fetched = Signal()
        out_free = Signal()
        m.d.comb += out_free.eq(~self.out.valid | self.out.ready)
        m.d.comb += fetch.eq(full.bit_select(send_half, 1) & (~fetched | out_free))
        found = word_read(m, buffer, Cat(send_place, send_half), name="fetched", enable=fetch)
        payload = Signal(8, reset_less=True)
        m.d.comb += self.out.payload.eq(payload)
        with m.If(fetch):
            m.d.sync += fetched.eq(1)
            m.d.sync += send_place.eq(send_place + 1)
            with m.If(send_place == last_place[send_half]):
                m.d.sync += send_place.eq(0)
                m.d.sync += full.bit_select(send_half, 1).eq(0)
                m.d.sync += send_half.eq(~send_half)
        with m.Elif(out_free):
            m.d.sync += fetched.eq(0)
        with m.If(out_free):
            m.d.sync += self.out.valid.eq(fetched)
            with m.If(fetched):
                m.d.sync += payload.eq(found)
        return m
