"""Proof: the event queue neither loses, duplicates nor reorders, and the ledger counts every refused record once.

By induction, for a queue of 8 entries. One arbitrary entry is followed from its offer to its delivery; as it is
arbitrary, what holds for it holds for all. The gap account is proven up to its stated limit of 2^28 - 1 records.
"""

import pytest
from amaranth.hdl import Array, Assert, Assume, Mux, Signal
from formal import Harness, mutant, proves, refutes

from qrelay_gateware import event_queue
from qrelay_gateware.event_queue import DropLedger, EventQueue
from qrelay_gateware.fifo import BlockFifo

DEPTH = 8
VALUE_BITS = 3
GAP_LIMIT = (1 << 28) - 16


class QueueHarness(Harness):
    """Offers, readiness, gap records and restarts at any time."""

    map_memories = True

    def __init__(self, queue=EventQueue, ledger=DropLedger):
        super().__init__()
        self.queue = queue
        self.ledger = ledger

    def elaborate(self, platform):
        m = self.module()
        m.submodules.queue = queue = self.queue(VALUE_BITS, DEPTH, 4)
        m.submodules.ledger = ledger = self.ledger()
        offer = self.free(1, "offer")
        value = self.free(VALUE_BITS, "value")
        clear = self.free(1, "clear")
        ready = self.free(1, "ready")
        m.d.comb += [
            queue.offer.eq(offer),
            queue.value.eq(value),
            queue.head.ready.eq(ready),
            queue.clear.eq(clear),
            queue.flush.eq(self.free(1, "flush")),
            queue.hold_words.eq(self.free(16, "hold_words")),
        ]
        self.check_order(m, queue, offer & queue.room, value, clear)
        self.check_account(m, ledger, offer & ~queue.room, queue.room, clear)
        return m

    def check_order(self, m, queue, accepted, value, clear):
        delivered = Signal()
        m.d.comb += delivered.eq(queue.head.valid & queue.head.ready)
        count = Signal(range(DEPTH + 1))
        m.d.sync += count.eq(Mux(clear, 0, count + accepted - delivered))
        m.d.comb += Assert(queue.fill == count)
        m.d.comb += Assert(count <= DEPTH)
        m.d.comb += Assert(~queue.head.valid | (count != 0))

        followed = Signal()
        ahead = Signal(range(DEPTH + 1))
        """Entries that must leave before the followed one."""
        mark = Signal(VALUE_BITS)
        with m.If(clear):
            m.d.sync += followed.eq(0)
        with m.Elif(~followed):
            with m.If(accepted & self.free(1, "follow")):
                m.d.sync += [followed.eq(1), ahead.eq(count - delivered), mark.eq(value)]
        with m.Elif(delivered):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += followed.eq(0)
                m.d.comb += Assert(queue.head.payload == mark)
        m.d.comb += Assert(~followed | (ahead < count))

        silent = Signal(range(4))
        """Clocks for which entries have been there but not at the head."""
        m.d.sync += silent.eq(Mux(clear | (count == 0) | queue.head.valid, 0, silent + 1))
        m.d.comb += Assert(silent < 3)

        # Where the entries are: at the head, then in the memory's output register, then in the memory.
        stored = self.peek(range(DEPTH + 1), "queue.fifo.stored")
        some_stored = self.peek(1, "queue.fifo.some_stored")
        fetched = self.peek(1, "queue.fifo.fetched")
        write_address = self.peek(range(DEPTH), "queue.fifo.write__addr")
        read_address = self.peek(range(DEPTH), "queue.fifo.fetch_place")
        read_data = self.peek(VALUE_BITS, "queue.fifo.fetched_found")
        words = Array(self.peek(VALUE_BITS, f"queue.fifo.memory[{n}]") for n in range(DEPTH))
        at_head = queue.head.valid
        self.invariant(m, count == stored + fetched + at_head)
        self.invariant(m, some_stored == (stored != 0))
        self.invariant(m, (write_address - read_address)[:3] == stored[:3])
        self.invariant(m, (silent == 0) | (count != 0))
        self.invariant(m, (silent != 2) | fetched | at_head)
        place = (read_address + ahead - fetched - at_head)[:3]
        where = Mux(ahead < at_head, queue.head.payload, Mux(ahead < at_head + fetched, read_data, words[place]))
        self.invariant(m, ~followed | (where == mark))

    def check_account(self, m, ledger, refused, room, clear):
        amount = self.free(3, "amount")
        slot_high = self.free(32, "slot_high")
        taken = self.free(1, "taken")
        was_due = self.register(m, ledger.due & ~clear & ~taken, "was_due")
        m.d.comb += [
            ledger.refused.eq(refused),
            ledger.amount.eq(amount),
            ledger.slot_high.eq(slot_high),
            ledger.room.eq(room),
            ledger.clear.eq(clear),
            ledger.taken.eq(taken),
            Assume((amount >= 1) & (amount <= 4)),
            # A gap record is made in the clock after it was found due, unless a restart comes between.
            Assume(~taken | (was_due & ~clear)),
        ]
        refused_before = Signal()
        amount_before = Signal(3)
        slot_before = Signal(32)
        total = Signal(48)
        """Records refused two clocks ago and earlier."""
        reported = Signal(48)
        first = Signal(32)
        m.d.sync += [refused_before.eq(refused & ~clear), amount_before.eq(amount), slot_before.eq(slot_high)]
        m.d.sync += total.eq(Mux(clear, 0, total + Mux(refused_before, amount_before, 0)))
        m.d.sync += reported.eq(Mux(clear, 0, reported + Mux(taken, ledger.gap_dropped, 0)))
        unreported = Signal()
        m.d.comb += unreported.eq(total != reported)
        with m.If(refused_before & (taken | ~unreported)):
            m.d.sync += first.eq(slot_before)
        m.d.comb += Assume(total < GAP_LIMIT)
        m.d.comb += Assert(ledger.dropped == total)
        m.d.comb += Assert(reported + ledger.gap_dropped == total)
        m.d.comb += Assert(ledger.due == (unreported & room))
        m.d.comb += Assert(~unreported | (ledger.gap_first == first))

        self.invariant(m, self.peek(1, "ledger.pending") == unreported)
        self.invariant(m, reported <= total)
        self.invariant(m, ~self.peek(1, "ledger.nearly_full"))
        self.invariant(m, self.peek(1, "ledger.refused") == refused_before)
        self.invariant(m, ~refused_before | (self.peek(3, "ledger.amount") == amount_before))
        self.invariant(m, ~refused_before | (self.peek(32, "ledger.slot_high") == slot_before))


class LedgerHarness(QueueHarness):
    """The ledger alone, with a queue that refuses and takes entries as the solver pleases."""

    def elaborate(self, platform):
        m = self.module()
        m.submodules.ledger = ledger = self.ledger()
        self.check_account(m, ledger, self.free(1, "refused"), self.free(1, "room"), self.free(1, "clear"))
        return m


def test_queue(tmp_path):
    proves(QueueHarness(), tmp_path, clocks=3, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A refused entry overwrites, an entry is given twice, one is lost at the head, two change places.
        ("written.eq(self.write_enable & ~self.full)", "written.eq(self.write_enable)"),
        ("fetch_place.eq(fetch_place + 1)", "fetch_place.eq(fetch_place + ~written)"),
        ("self.head.valid.eq(fetched)", "self.head.valid.eq(fetched & ~self.write_enable)"),
        ("some_stored & (~fetched | head_free)", "some_stored"),
        ("written | (stored != 1)", "written | (stored != 0)"),
        ("m.d.comb += write.en.eq(written)", "m.d.comb += write.en.eq(written & ~self.clear & (self.level != 5))"),
    ],
)
def test_queue_fifo_mutants(tmp_path, monkeypatch, old, new):
    monkeypatch.setattr(event_queue, "BlockFifo", mutant(BlockFifo, old, new))
    refutes(QueueHarness(), tmp_path, clocks=14)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Room is promised while closed; a closed queue takes what it refuses.
        ("self.room.eq(~closed & ~fifo.full)", "self.room.eq(~fifo.full)"),
        ("write_enable.eq(self.offer & ~closed)", "write_enable.eq(self.offer)"),
    ],
)
def test_queue_mutants(tmp_path, old, new):
    refutes(QueueHarness(queue=mutant(EventQueue, old, new)), tmp_path, clocks=14)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Records dropped while their gap record is made: no gap record, or none of their number; a total off by one.
        ("pending.eq(refused)", "pending.eq(0)"),
        ("self.gap_dropped.eq(Mux(refused, amount, 0))", "self.gap_dropped.eq(0)"),
        ("self.dropped.eq(self.dropped + amount)", "self.dropped.eq(self.dropped + 1)"),
        ("with m.If(~pending | self.taken)", "with m.If(~pending)"),
        ("self.due.eq(pending & self.room)", "self.due.eq(pending)"),
    ],
)
def test_queue_ledger_mutants(tmp_path, old, new):
    refutes(LedgerHarness(ledger=mutant(DropLedger, old, new)), tmp_path, clocks=7)
