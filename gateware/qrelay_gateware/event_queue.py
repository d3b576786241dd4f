"""A queue of records waiting for their packet, and the ledger of those that found it full."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from qrelay.protocol.records import RECORDS, RecordKind

from .fifo import BlockFifo

__all__ = ["DropLedger", "EventQueue"]

_GAP_DROPPED_BITS = next(f.width for f in RECORDS[RecordKind.GAP].fields if f.name == "dropped")


class EventQueue(wiring.Component):
    """FIFO of one record kind that knows when its contents deserve a packet.

    Having been full, the queue stays closed until an eighth of it is free: records are lost in few long gaps, not in
    many short ones, so that gap records stay rare.

    Latency: an entry is at `head` 3 clocks after its offer, and can be `eligible` one clock later.  Reset: empty.
    Overflow: an entry offered while `room` is low is refused (see `DropLedger`).

    Parameters
    ----------
    shape : ShapeLike
        One entry.
    depth : int
        Entries, a power of two.
    threshold : int
        Entries that make a packet worth sending without waiting.

    Ports
    -----
    offer, value : In(1), In(shape)
        An entry to queue.
    room : Out(1)
        An entry offered in this clock is taken.
    head : Out(stream.Signature(shape))
        The oldest entry.
    hold_words : In(16)
        Time from the first entry in the empty queue to `eligible`, at most; an entry that follows waits no longer.
    flush : In(1)
        Do not wait for company.
    eligible : Out(1)
        Entries wait and should be sent: `threshold` of them are there, or the oldest waited `hold_words`, or `flush`.
    fill, high_water : Out(16)
        Entries waiting, now and at most since `clear`.
    clear : In(1)
        Forget everything.
    """

    def __init__(self, shape, depth: int, threshold: int):
        self._shape = shape
        self._depth = depth
        self._threshold = threshold
        super().__init__(
            {
                "offer": In(1),
                "value": In(shape),
                "room": Out(1),
                "head": Out(stream.Signature(shape)),
                "hold_words": In(16),
                "flush": In(1),
                "eligible": Out(1),
                "fill": Out(16),
                "high_water": Out(16),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.fifo = fifo = BlockFifo(self._shape, self._depth)
        connect(m, fifo.head, flipped(self.head))
        closed = Signal()
        waited = Signal(16)
        m.d.comb += self.room.eq(~closed & ~fifo.full)
        m.d.comb += fifo.write_enable.eq(self.offer & ~closed)
        m.d.comb += fifo.write_value.eq(self.value)
        m.d.comb += fifo.clear.eq(self.clear)
        m.d.comb += self.fill.eq(fifo.level)
        with m.If(self.offer & fifo.full):
            m.d.sync += closed.eq(1)
        with m.Elif(closed & (fifo.level <= self._depth - self._depth // 8)):
            m.d.sync += closed.eq(0)

        m.d.sync += self.eligible.eq(0)
        with m.If(fifo.level == 0):
            m.d.sync += waited.eq(0)
        with m.Else():
            with m.If(waited < self.hold_words):
                m.d.sync += waited.eq(waited + 1)
            m.d.sync += self.eligible.eq(
                self.head.valid & ((fifo.level >= self._threshold) | (waited >= self.hold_words) | self.flush)
            )
            with m.If(fifo.level > self.high_water):
                m.d.sync += self.high_water.eq(fifo.level)
        with m.If(self.clear):
            m.d.sync += closed.eq(0)
            m.d.sync += self.eligible.eq(0)
            m.d.sync += self.high_water.eq(0)
        return m


class DropLedger(wiring.Component):
    """Account of the records that one queue refused: a total, and what the next gap record has to say.

    A gap record is due when the queue takes entries again, so that it covers a gap from end to end. What is dropped
    later, or while the gap record itself finds no room, is added to the next one: nothing is lost but precision of
    place.

    Latency: 2 clocks.  Reset: nothing dropped.  Overflow: `gap_dropped` saturates at 2^28 - 1; `dropped` is exact.

    Ports
    -----
    refused, amount, slot_high : In(1), In(3), In(32)
        `amount` records were refused; slot index / 65536 of the first.
    room : In(1)
        The queue takes entries.
    due, gap_dropped, gap_first : Out(1), Out(28), Out(32)
        Contents of the gap record that should be made.
    taken : In(1)
        The gap record was made.
    dropped : Out(48)
        Records dropped since `clear`.
    clear : In(1)
        Forget everything.
    """

    refused: In(1)
    amount: In(3)
    slot_high: In(32)
    room: In(1)
    due: Out(1)
    gap_dropped: Out(_GAP_DROPPED_BITS)
    gap_first: Out(32)
    taken: In(1)
    dropped: Out(48)
    clear: In(1)

    def elaborate(self, platform):
        m = Module()
        pending = Signal()
        refused = Signal()
        amount = Signal(3)
        slot_high = Signal(32)
        m.d.comb += self.due.eq(pending & self.room)
        m.d.sync += refused.eq(self.refused)
        with m.If(self.refused):
            m.d.sync += amount.eq(self.amount)
            m.d.sync += slot_high.eq(self.slot_high)

        # The flag is a clock late: one more addition of at most 4 still fits.
        nearly_full = Signal()
        m.d.sync += nearly_full.eq(self.gap_dropped[3:].all())
        with m.If(self.taken):
            m.d.sync += pending.eq(refused)
            m.d.sync += self.gap_dropped.eq(Mux(refused, amount, 0))
            m.d.sync += nearly_full.eq(0)
        with m.Elif(refused):
            m.d.sync += pending.eq(1)
            m.d.sync += self.gap_dropped.eq(Mux(nearly_full, ~0, self.gap_dropped + amount))
        with m.If(refused):
            m.d.sync += self.dropped.eq(self.dropped + amount)
            with m.If(~pending | self.taken):
                m.d.sync += self.gap_first.eq(slot_high)
        with m.If(self.clear):
            m.d.sync += refused.eq(0)
            m.d.sync += pending.eq(0)
            m.d.sync += nearly_full.eq(0)
            m.d.sync += self.gap_dropped.eq(0)
            m.d.sync += self.dropped.eq(0)
        return m
