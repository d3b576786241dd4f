"""The link: requests and answers, and the event stream, on one pair of byte streams."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from .cobs import CobsEncoder
from .command import CommandEngine
from .crc import CrcAppender
from .csr import BusSignature, RegisterBank
from .frame_receiver import FrameReceiver
from .layouts import status_layout
from .packet_stream import PacketArbiter, PacketBuffer, PacketByte

__all__ = ["Link", "LinkedBank"]


class Link(wiring.Component):
    """Packets of `qrelay.protocol.packets` between a byte stream and the register bank.

    Requests are carried out one at a time and answered in order; `rx.ready` is low meanwhile. Answers go before event
    packets, except those that were already offered: an event packet offered before a WRITE acted is on the wire before
    the answer to that WRITE. Damaged, cut and overlong frames are dropped and counted; nothing that arrives can stop
    the link.

    Throughput: one byte per clock in both directions within a packet.  Latency: 33 clocks from the last byte of
    a READ of one word to the first byte of its answer.  Reset: idle, counters zero.  Overflow: none (back-pressure on
    all streams); counters wrap.

    Ports
    -----
    rx, tx : In, Out(stream.Signature(8))
        Bytes from and to the wire. `tx.payload` comes from a register.
    bus : Out(BusSignature)
        To `RegisterBank.bus`.
    packets : In(stream.Signature(PacketByte))
        Event packets: kind, sequence number and body, without CRC.
    status : Out(status_layout("link"))
        Counters.
    damaged : Out(1)
        One clock for each damaged or overlong frame, for the alarm.
    framing_error, overrun : In(1)
        One clock for each byte that the serial port before `rx` lost; counted here.
    """

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    bus: Out(BusSignature)
    packets: In(stream.Signature(PacketByte))
    status: Out(status_layout("link"))
    damaged: Out(1)
    framing_error: In(1)
    overrun: In(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = FrameReceiver()
        m.submodules.engine = engine = CommandEngine()
        m.submodules.arbiter = arbiter = PacketArbiter()
        m.submodules.before_crc = before_crc = PacketBuffer()
        m.submodules.crc = crc = CrcAppender()
        m.submodules.before_encoder = before_encoder = PacketBuffer()
        m.submodules.encoder = encoder = CobsEncoder()
        connect(m, flipped(self.rx), receiver.rx)
        connect(m, engine.bus, flipped(self.bus))
        connect(m, engine.answers, arbiter.first)
        connect(m, flipped(self.packets), arbiter.second)
        connect(m, arbiter.out, before_crc.packets)
        connect(m, before_crc.out, crc.packets)
        connect(m, crc.out, before_encoder.packets)
        connect(m, before_encoder.out, encoder.packets)
        connect(m, encoder.out, flipped(self.tx))
        m.d.comb += engine.valid.eq(receiver.valid)
        m.d.comb += engine.header.eq(receiver.header)
        m.d.comb += engine.value.eq(receiver.value)
        m.d.comb += receiver.address.eq(engine.address)
        m.d.comb += receiver.done.eq(engine.done)
        m.d.sync += self.damaged.eq(receiver.damaged | receiver.overlong)
        for counter, pulse in (
            (self.status.received, receiver.received),
            (self.status.damaged, receiver.damaged),
            (self.status.overlong, receiver.overlong),
            (self.status.refused, engine.refused),
            (self.status.sent, encoder.sent),
            (self.status.framing_errors, self.framing_error),
            (self.status.overruns, self.overrun),
        ):
            with m.If(pulse):
                m.d.sync += counter.eq(counter + 1)
        return m


class LinkedBank(wiring.Component):
    """`Link` and `RegisterBank` joined, with the link's own counters in their place.

    Latency, reset and overflow: as of the two.

    Parameters
    ----------
    identity_words : list of int
        As for `RegisterBank`.

    Ports
    -----
    rx, tx, packets, damaged, framing_error, overrun
        Of `Link`.
    config_<group>, status_<group>, table_<window>, read_<window>
        Of `RegisterBank`, but for its `status_link`.
    """

    def __init__(self, identity_words):
        self._link = Link()
        self._bank = RegisterBank(identity_words)
        self._outer = {
            name: (self._link, member)
            for name, member in self._link.signature.members.items()
            if name not in ("bus", "status")
        } | {
            name: (self._bank, member)
            for name, member in self._bank.signature.members.items()
            if name not in ("bus", "status_link")
        }
        super().__init__({name: member for name, (_, member) in self._outer.items()})

    def elaborate(self, platform):
        m = Module()
        m.submodules.link = self._link
        m.submodules.bank = self._bank
        connect(m, self._link.bus, self._bank.bus)
        m.d.comb += self._bank.status_link.eq(self._link.status)
        for name, (inner, member) in self._outer.items():
            if member.is_signature:
                connect(m, flipped(getattr(self, name)), getattr(inner, name))
            elif member.flow == Out:
                m.d.comb += getattr(self, name).eq(getattr(inner, name))
            else:
                m.d.comb += getattr(inner, name).eq(getattr(self, name))
        return m
