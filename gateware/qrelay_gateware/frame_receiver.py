"""The receiving side of the link: frames from the wire, checked, one at a time."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.packets import MAX_PACKET_BYTES

from .cobs import CobsDecoder
from .crc import CRC_BYTES, CRC_INIT, CRC_RESIDUE, crc32_next
from .slow_read import ANY_ON_COLLISION, word_read

__all__ = ["FrameReceiver", "RequestHeader"]


class RequestHeader(data.Struct):
    """First bytes of a packet, as a request means them, and the packet's length in bytes with its CRC."""

    kind: 8
    sequence: 8
    address: 16
    count: 8
    length: 8


class FrameReceiver(wiring.Component):
    """Receive COBS frames, check them, and keep a sound one until it is done with.

    Latency: the verdict on a frame comes 3 clocks after its zero byte.  Reset: between frames.  Overflow: none;
    `rx.ready` is low from the end of a frame to its verdict and while a sound packet waits for `done`.

    Ports
    -----
    rx : In(stream.Signature(8))
        Bytes from the wire.
    valid, header : Out(1), Out(RequestHeader)
        A sound packet of at least 6 bytes is there.
    address, value : In(8), Out(8)
        Reads the bytes of the packet; `value` is what stands at `address` two clocks before.
    done : In(1)
        The packet is not needed any more.
    received, damaged, overlong : Out(1)
        One clock for each sound frame, each with wrong stuffing, wrong CRC or fewer than 6 bytes, each of more than
        254 bytes.
    """

    rx: In(stream.Signature(8))
    valid: Out(1)
    header: Out(RequestHeader)
    address: In(8)
    value: Out(8)
    done: In(1)
    received: Out(1)
    damaged: Out(1)
    overlong: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = CobsDecoder()
        m.submodules.buffer = buffer = Memory(shape=8, depth=256, init=[], attrs=ANY_ON_COLLISION)
        write = buffer.write_port()
        found = word_read(m, buffer, self.address, name="asked", enable=self.valid)
        value = Signal(8, reset_less=True)
        m.d.comb += self.value.eq(value)
        with m.If(self.valid):
            m.d.sync += value.eq(found)

        length = self.header.length
        crc = Signal(32, init=CRC_INIT)
        too_long = Signal()
        m.d.comb += write.addr.eq(length)
        m.d.comb += write.data.eq(decoder.value)
        with m.If(decoder.valid):
            with m.If(length == MAX_PACKET_BYTES):
                m.d.sync += too_long.eq(1)
            with m.Else():
                m.d.comb += write.en.eq(1)
                m.d.sync += length.eq(length + 1)
                m.d.sync += crc.eq(crc32_next(crc, decoder.value))
            for place, byte in enumerate(
                (
                    self.header.kind,
                    self.header.sequence,
                    self.header.address[:8],
                    self.header.address[8:],
                    self.header.count,
                )
            ):
                with m.If(length == place):
                    m.d.sync += byte.eq(decoder.value)

        sound = Signal()
        m.d.comb += decoder.byte.eq(self.rx.payload)
        with m.FSM():
            with m.State("LISTEN"):
                m.d.comb += self.rx.ready.eq(1)
                m.d.comb += decoder.enable.eq(self.rx.valid)
                with m.If(self.rx.valid & (self.rx.payload == 0)):
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                m.d.sync += sound.eq(~decoder.cut & (crc == CRC_RESIDUE) & (length >= 2 + CRC_BYTES))
                with m.If(decoder.end):
                    m.next = "VERDICT"
                with m.Else():
                    m.next = "LISTEN"
            with m.State("VERDICT"):
                with m.If(too_long):
                    m.d.comb += self.overlong.eq(1)
                    m.next = "FORGET"
                with m.Elif(sound):
                    m.d.comb += self.received.eq(1)
                    m.next = "PRESENT"
                with m.Else():
                    m.d.comb += self.damaged.eq(1)
                    m.next = "FORGET"
            with m.State("PRESENT"):
                m.d.comb += self.valid.eq(1)
                with m.If(self.done):
                    m.next = "FORGET"
            with m.State("FORGET"):
                m.d.sync += length.eq(0)
                m.d.sync += crc.eq(CRC_INIT)
                m.d.sync += too_long.eq(0)
                m.next = "LISTEN"
        return m
