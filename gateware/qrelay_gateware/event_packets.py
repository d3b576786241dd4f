"""Builds event packets from the queues: header, running count, records of one kind."""

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.packets import EVENT_BASE, MAX_RECORDS
from qrelay.protocol.records import RECORD_BITS, RecordKind

from .packet_stream import PacketByte

__all__ = ["PRIORITY", "EventPackets"]

PRIORITY = (
    RecordKind.GAP,
    RecordKind.STATUS,
    RecordKind.KEY,
    RecordKind.SUCCESS,
    RecordKind.FRAME,
    RecordKind.REFERENCE,
    RecordKind.CLICK,
)
"""Which kind goes first when several deserve a packet."""

_KINDS = len(RecordKind)
_HEADER_BYTES = 6
_LAST_FETCH_BYTE = 4
"""A record that follows must be at hand by the next byte, so that the last byte of a record can tell that it is."""


class EventPackets(wiring.Component):
    """Serialise records into event packets of up to 29 records of one kind.

    A packet takes the records of its kind until it is full or none waits. After `clear` a packet that was already
    offered ends at its next record border, with its old header; the next packet has sequence number 0, and running
    counts start at 0. No record from before `clear` comes in a packet that was offered after it.

    Throughput: one byte per clock inside a packet.  Latency: the first byte of a packet is offered 3 clocks after its
    kind became eligible.  Reset: idle, counts 0.  Overflow: none (back-pressure).

    Ports
    -----
    eligible : In(7)
        Bit k: kind k deserves a packet.
    records : In(ArrayLayout(64, 7)), valid : In(7)
        The next record of each kind.
    take : Out(7)
        Bit k: the record of kind k of the clock before was copied, remove it; within 3 clocks the next one must be
        there, or `valid` low.
    sent : Out(ArrayLayout(32, 7))
        Records put in finished packets since `clear`.
    packets : Out(stream.Signature(PacketByte))
        Event packets without CRC.
    clear : In(1)
        Restart the counts.
    """

    eligible: In(_KINDS)
    records: In(data.ArrayLayout(RECORD_BITS, _KINDS))
    valid: In(_KINDS)
    take: Out(_KINDS)
    sent: Out(data.ArrayLayout(32, _KINDS))
    packets: Out(stream.Signature(PacketByte))
    clear: In(1)

    def elaborate(self, platform):
        m = Module()
        kind = Signal(range(_KINDS))
        sequence = Signal(8)
        packet_sequence = Signal(8)
        running_count = Signal(32)
        header_place = Signal(range(_HEADER_BYTES))
        record = Signal(RECORD_BITS)
        record_place = Signal(range(RECORD_BITS // 8))
        count = Signal(range(MAX_RECORDS + 1))
        """Records of this packet that were begun."""
        last = Signal()
        waiting = Signal(RECORD_BITS)
        is_waiting = Signal()
        """The record that follows is at hand."""
        stale = Signal()
        """The counts were restarted after this packet was offered."""
        may_fetch = Signal()
        accepted = Signal()
        m.d.comb += accepted.eq(self.packets.valid & self.packets.ready)

        # The record is copied first and taken from its queue one clock later, to keep both paths short. Bytes between
        # two fetches give the queue time to show its next record.
        m.d.sync += self.take.eq(0)
        with m.If(may_fetch & ~is_waiting & ~self.clear):
            with m.Switch(kind):
                for candidate in range(_KINDS):
                    with m.Case(candidate):
                        m.d.sync += waiting.eq(self.records[candidate])
                        m.d.sync += is_waiting.eq(self.valid[candidate])
                        m.d.sync += self.take[candidate].eq(self.valid[candidate])

        header = Array(
            [EVENT_BASE + kind, packet_sequence, *(running_count.word_select(n, 8) for n in range(_HEADER_BYTES - 2))]
        )
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += count.eq(0)
                m.d.sync += header_place.eq(0)
                m.d.sync += stale.eq(0)
                for candidate in reversed(PRIORITY):
                    with m.If(self.eligible[candidate]):
                        m.d.sync += kind.eq(candidate)
                with m.If(self.eligible.any() & ~self.clear):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += may_fetch.eq(1)
                m.d.sync += packet_sequence.eq(sequence)
                m.d.sync += running_count.eq(Array(self.sent)[kind])
                with m.If(self.clear | (~is_waiting & ~(self.valid & (1 << kind)).any())):
                    m.next = "IDLE"
                with m.Elif(is_waiting):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += self.packets.valid.eq(1)
                m.d.comb += self.packets.payload.value.eq(header[header_place])
                with m.If(accepted):
                    m.d.sync += header_place.eq(header_place + 1)
                    with m.If(header_place == _HEADER_BYTES - 1):
                        m.d.sync += record.eq(waiting)
                        m.d.sync += is_waiting.eq(0)
                        m.d.sync += count.eq(1)
                        m.d.sync += last.eq(0)
                        m.next = "RECORD"
            with m.State("RECORD"):
                m.d.comb += may_fetch.eq((record_place <= _LAST_FETCH_BYTE) & (count != MAX_RECORDS) & ~stale)
                m.d.comb += self.packets.valid.eq(1)
                m.d.comb += self.packets.payload.value.eq(record[:8])
                m.d.comb += self.packets.payload.last.eq(last & (record_place == RECORD_BITS // 8 - 1))
                with m.If(accepted):
                    m.d.sync += record.eq(record >> 8)
                    m.d.sync += record_place.eq(record_place + 1)
                    with m.If(record_place == RECORD_BITS // 8 - 2):
                        m.d.sync += last.eq(~is_waiting | self.clear | stale)
                    with m.If(record_place == RECORD_BITS // 8 - 1):
                        with m.If(last):
                            with m.If(~stale):
                                m.d.sync += Array(self.sent)[kind].eq(running_count + count)
                                m.d.sync += sequence.eq(sequence + 1)
                            m.next = "IDLE"
                        with m.Else():
                            m.d.sync += record.eq(waiting)
                            m.d.sync += is_waiting.eq(0)
                            m.d.sync += count.eq(count + 1)

        promised = Signal()
        """The packet offered so far needs the waiting record."""
        offered = Signal()
        m.d.comb += promised.eq(offered & ((count == 0) | ((record_place == RECORD_BITS // 8 - 1) & ~last)))
        m.d.comb += offered.eq(self.packets.valid)
        with m.If(self.clear):
            m.d.sync += sequence.eq(0)
            m.d.sync += self.sent.as_value().eq(0)
            with m.If(offered):
                m.d.sync += stale.eq(1)
            with m.If(~promised):
                m.d.sync += is_waiting.eq(0)
        return m
