"""CRC-32 of IEEE 802.3, one byte per clock."""

from functools import reduce
from operator import xor

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .packet_stream import PacketByte

__all__ = ["CRC_BYTES", "CRC_INIT", "CRC_RESIDUE", "CrcAppender", "crc32_next"]

CRC_BYTES = 4
CRC_INIT = 0xFFFFFFFF
"""Register content before the first byte."""
CRC_RESIDUE = 0xDEBB20E3
"""Register content after a packet and its own CRC (little-endian), whatever the packet."""
_POLYNOMIAL = 0xEDB88320
"""0x04C11DB7, bit-reversed: the least significant bit of a byte comes first."""


def _step(register: int, byte: int) -> int:
    register ^= byte
    for _ in range(8):
        register = (register >> 1) ^ (_POLYNOMIAL if register & 1 else 0)
    return register


def crc32_next(register, byte):
    """Register content after one more byte, as an expression of 32 XORs.

    The step is linear over GF(2), so the inputs of each output bit are read off from the images of the unit vectors.
    """
    inputs = [(register[i], _step(1 << i, 0)) for i in range(32)] + [(byte[i], _step(0, 1 << i)) for i in range(8)]
    return Cat(reduce(xor, [bit for bit, image in inputs if image >> output & 1]) for output in range(32))


class CrcAppender(wiring.Component):
    """Append the CRC-32 of each packet, least significant byte first.

    Latency: none; four more bytes after the last one of a packet.  Reset: between packets.  Overflow: none.

    Ports
    -----
    packets : In(stream.Signature(PacketByte))
        Packets without CRC.
    out : Out(stream.Signature(PacketByte))
        The same with CRC.
    """

    packets: In(stream.Signature(PacketByte))
    out: Out(stream.Signature(PacketByte))

    def elaborate(self, platform):
        m = Module()
        register = Signal(32, init=CRC_INIT)
        appending = Signal()
        place = Signal(2)
        with m.If(~appending):
            m.d.comb += self.out.valid.eq(self.packets.valid)
            m.d.comb += self.out.payload.value.eq(self.packets.payload.value)
            m.d.comb += self.packets.ready.eq(self.out.ready)
            with m.If(self.packets.valid & self.out.ready):
                m.d.sync += register.eq(crc32_next(register, self.packets.payload.value))
                m.d.sync += appending.eq(self.packets.payload.last)
        with m.Else():
            m.d.comb += self.out.valid.eq(1)
            m.d.comb += self.out.payload.value.eq(~register[:8])
            m.d.comb += self.out.payload.last.eq(place == CRC_BYTES - 1)
            with m.If(self.out.ready):
                m.d.sync += register.eq(register >> 8)
                m.d.sync += place.eq(place + 1)
                with m.If(place == CRC_BYTES - 1):
                    m.d.sync += register.eq(CRC_INIT)
                    m.d.sync += appending.eq(0)
        return m
