"""Records on their way to the host: a queue per kind, drop accounts, packets."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from qrelay.protocol.records import RECORD_BITS, RECORDS, RecordKind
from qrelay.protocol.registers import FRAME_MODES
from qrelay.protocol.units import SLOT_WORD_BITS, SLOTS_PER_WORD

from .event_packets import EventPackets
from .event_queue import DropLedger, EventQueue
from .layouts import WordRecords, config_layout, status_layout
from .packet_stream import PacketByte

__all__ = ["FIFO_DEPTHS", "Events"]

FIFO_DEPTHS = {
    RecordKind.SUCCESS: 512,
    RecordKind.CLICK: 512,
    RecordKind.FRAME: 64,
    RecordKind.GAP: 16,
    RecordKind.STATUS: 16,
    RecordKind.REFERENCE: 512,
    RecordKind.KEY: 16,
}
"""Entries of each queue: words of up to four records for successes and clicks, records for the others."""

_THRESHOLDS = {
    RecordKind.SUCCESS: 8,
    RecordKind.CLICK: 8,
    RecordKind.FRAME: 29,
    RecordKind.GAP: 8,
    RecordKind.STATUS: 8,
    RecordKind.REFERENCE: 29,
    RecordKind.KEY: 8,
}
"""Entries that make a packet: about 29 records where the queue has room for as many."""

_ALARM_FLAG = 1


class _WordEntry(data.Struct):
    """Records of one word as they wait: a word's records share slot and flags."""

    records: WordRecords
    alarm: 1


def _shift(kind: RecordKind, field: str) -> int:
    return RECORDS[kind].offset(field)


class Events(wiring.Component):
    """Queue the records of a station, count what is lost, and make event packets.

    Each kind has its own queue and switch; a record of a kind that is switched off is neither queued nor counted. Where
    a queue is full its records are dropped, counted exactly, and reported by a gap record once the queue takes records
    again (which is an eighth of its depth later). If gap records are switched off their contents add up until they are
    switched on.

    Kinds are served in the order gap, status, key, success, frame, reference, click, a packet at a time: a success
    waits for at most one packet of another kind that was begun, besides those already in the link.

    A status record is made every `status_words` words (at least 2), run or no run, and when an alarm bit rises (bits
    that rise in the same clock share it).

    `arm` empties the queues and clears counters, gap accounts, packet sequence number and running counts; both restart
    at 0. A packet already offered to the link ends early with its old numbers; it stands before the answer to the
    WRITE that armed (see `link.Link`).

    Latency: `latency` words from an input word to its queue entry.  Reset: empty, counts 0.  Overflow: see above.

    Parameters
    ----------
    timer_domain : str
        Clock domain of the period of status records, where the block's own clock may stop while `busy` is low.

    Ports
    -----
    config, status : group ``events``
    success, clicks : In(WordRecords)
        Records of one word.
    clicks_beyond_four : In(5)
        Clicks of this word that have no record.
    frame, frame_valid : In(64), In(1)
        A frame record; its flags are set here.
    reference, reference_valid : In(64), In(1)
        A reference record; its flags are set here.
    key, key_valid : In(64), In(1)
        A key record.
    alarms, state : In(16)
        Registers `system.alarms` (latched) and `system.state`.
    slot_word : In(46)
        Present word, for status records and the gaps of records without a slot.
    running : In(1)
        While low, records are sent without waiting for company.
    arm : In(1)
        Restart, one clock.
    packets : Out(stream.Signature(PacketByte))
        Event packets for the link.
    overflow : Out(1)
        One clock for each word with a dropped record, for the alarm.
    busy : Out(1)
        Something is queued or under way, or a status record is due.
    """

    latency = 2

    config: In(config_layout("events"))
    status: Out(status_layout("events"))
    success: In(WordRecords)
    clicks: In(WordRecords)
    clicks_beyond_four: In(5)
    frame: In(RECORD_BITS)
    frame_valid: In(1)
    reference: In(RECORD_BITS)
    reference_valid: In(1)
    key: In(RECORD_BITS)
    key_valid: In(1)
    alarms: In(16)
    state: In(16)
    slot_word: In(SLOT_WORD_BITS)
    running: In(1)
    arm: In(1)
    packets: Out(stream.Signature(PacketByte))
    overflow: Out(1)
    busy: Out(1)

    def __init__(self, *, timer_domain: str = "sync"):
        self._timer_domain = timer_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        alarm = Signal()
        m.d.sync += alarm.eq(self.alarms.any())
        m.submodules.packets = packets = EventPackets()
        connect(m, packets.packets, flipped(self.packets))
        m.d.comb += packets.clear.eq(self.arm)
        with m.If(self.clicks_beyond_four != 0):
            m.d.sync += self.status.clicks_beyond_four.eq(self.status.clicks_beyond_four + self.clicks_beyond_four)
        with m.If(self.arm):
            m.d.sync += self.status.clicks_beyond_four.eq(0)

        queues = {}
        for kind, depth in FIFO_DEPTHS.items():
            shape = _WordEntry if kind in (RecordKind.SUCCESS, RecordKind.CLICK) else RECORD_BITS
            queues[kind] = queue = EventQueue(shape, depth, _THRESHOLDS[kind])
            name = kind.name.lower()
            m.submodules[f"queue_{name}"] = queue
            m.d.comb += queue.hold_words.eq(self.config.hold_words)
            m.d.comb += queue.flush.eq(~self.running)
            m.d.comb += queue.clear.eq(self.arm)
            m.d.comb += packets.eligible[kind].eq(queue.eligible)
            m.d.comb += self.status[f"fill_{name}"].eq(queue.fill)
            m.d.comb += self.status[f"high_water_{name}"].eq(queue.high_water)
            m.d.comb += self.status[f"sent_{name}"].eq(packets.sent[kind])

        first_slots = {}
        amounts = {}
        for kind, source in ((RecordKind.SUCCESS, self.success), (RecordKind.CLICK, self.clicks)):
            amounts[kind] = self._word_input(m, kind, source, alarm, queues[kind])
            first_slots[kind] = queues[kind].value.records.slot_word
            self._word_output(m, kind, queues[kind], packets)
        slot_word = Signal(SLOT_WORD_BITS)
        m.d.sync += slot_word.eq(self.slot_word)
        self._frame_input(m, alarm, queues[RecordKind.FRAME])
        self._reference_input(m, alarm, queues[RecordKind.REFERENCE])
        m.d.sync += queues[RecordKind.KEY].offer.eq(self.key_valid & self.config.enable_key)
        with m.If(self.key_valid):
            m.d.sync += queues[RecordKind.KEY].value.eq(self.key)
        due = self._status_input(m, queues[RecordKind.STATUS])
        for kind in (RecordKind.FRAME, RecordKind.STATUS, RecordKind.REFERENCE, RecordKind.KEY):
            amounts[kind] = 1
            first_slots[kind] = slot_word
        for kind in (RecordKind.FRAME, RecordKind.GAP, RecordKind.STATUS, RecordKind.REFERENCE, RecordKind.KEY):
            m.d.comb += packets.records[kind].eq(queues[kind].head.payload)
            m.d.comb += packets.valid[kind].eq(queues[kind].head.valid)
            m.d.comb += queues[kind].head.ready.eq(packets.take[kind])
        self._gaps(m, queues, amounts, first_slots)
        m.d.comb += self.busy.eq(
            self.packets.valid | due | Cat((queue.offer, queue.fill) for queue in queues.values()).any()
        )
        return m

    def _word_input(self, m, kind, source, alarm, queue):
        """Register the records of a word; return how many there are."""
        amount = Signal(range(SLOTS_PER_WORD + 1), name=f"amount_{kind.name.lower()}")
        m.d.sync += queue.offer.eq(0)
        with m.If(source.valid.any() & self.config[f"enable_{kind.name.lower()}"]):
            m.d.sync += queue.offer.eq(1)
            m.d.sync += queue.value.records.eq(source)
            m.d.sync += amount.eq(sum(source.valid[n] for n in range(SLOTS_PER_WORD)))
        m.d.comb += queue.value.alarm.eq(alarm)
        return amount

    def _word_output(self, m, kind, queue, packets) -> None:
        """Take the records of the head entry one by one, lowest item first.

        What is to be taken next is chosen ahead, in registers: they are right 2 clocks after a record was taken.
        """
        name = kind.name.lower()
        given = Signal(SLOTS_PER_WORD, name=f"given_{name}")
        left = Signal(SLOTS_PER_WORD, name=f"left_{name}")
        lowest = Signal(SLOTS_PER_WORD, name=f"lowest_{name}")
        is_last = Signal(name=f"is_last_{name}")
        item = Signal.like(queue.head.payload.records.items[0], name=f"item_{name}")
        head = queue.head.payload
        m.d.comb += left.eq(head.records.valid & ~given)
        m.d.sync += packets.valid[kind].eq(queue.head.valid & ~self.arm)
        with m.If(queue.head.valid):
            m.d.sync += is_last.eq(1)
            for n in reversed(range(SLOTS_PER_WORD)):
                with m.If(left[n]):
                    m.d.sync += item.eq(head.records.items[n])
                    m.d.sync += lowest.eq(1 << n)
                    m.d.sync += is_last.eq(~left[n + 1 :].any())
        # The two fields between slot and flags differ by kind in name only.
        m.d.comb += packets.records[kind].eq(
            Cat(item.lane, head.records.slot_word, item.low, item.high, head.alarm & _ALARM_FLAG)
        )
        with m.If(packets.take[kind]):
            m.d.comb += queue.head.ready.eq(is_last)
            m.d.sync += given.eq(Mux(is_last, 0, given | lowest))
        with m.If(self.arm):
            m.d.sync += given.eq(0)

    def _frame_input(self, m, alarm, queue) -> None:
        frame = RecordKind.FRAME
        successes = RECORDS[frame].offset("successes")
        flags = RECORDS[frame].offset("flags")
        wanted = Signal()
        with m.Switch(self.config.frame_mode):
            with m.Case(FRAME_MODES.index("all")):
                m.d.comb += wanted.eq(1)
            with m.Case(FRAME_MODES.index("with_success")):
                m.d.comb += wanted.eq(self.frame[successes:flags].any())
        m.d.sync += queue.offer.eq(self.frame_valid & wanted & self.config.enable_frame)
        with m.If(self.frame_valid):
            m.d.sync += queue.value[:flags].eq(self.frame)
        m.d.comb += queue.value[flags:].eq(alarm)

    def _reference_input(self, m, alarm, queue) -> None:
        flags = RECORDS[RecordKind.REFERENCE].offset("flags")
        m.d.sync += queue.offer.eq(self.reference_valid & self.config.enable_reference)
        with m.If(self.reference_valid):
            m.d.sync += queue.value[:flags].eq(self.reference)
        m.d.comb += queue.value[flags:].eq(alarm)

    def _status_input(self, m, queue):
        """Make status records; return whether one is due."""
        known_alarms = Signal(16)
        due = Signal()
        m.d.sync += known_alarms.eq(self.alarms)
        # Every comparison has a clock of its own; the period counts two clocks for it.
        timer = m.d[self._timer_domain]
        periodic = Signal()
        last_word = Signal(32)
        elapsed = Signal(32)
        reached = Signal()
        timer += periodic.eq(self.config.status_words != 0)
        with m.If(self.config.status_words == 1):
            timer += last_word.eq(0)
        with m.Else():
            timer += last_word.eq(self.config.status_words - 2)
        with m.If(reached | ~periodic):
            timer += elapsed.eq(0)
            timer += reached.eq(0)
        with m.Else():
            timer += elapsed.eq(elapsed + 1)
            timer += reached.eq(elapsed >= last_word)
        m.d.comb += due.eq(reached | (self.alarms & ~known_alarms).any())
        m.d.sync += queue.offer.eq(due & self.config.enable_status)
        with m.If(due):
            widths = {field.name: field.width for field in RECORDS[RecordKind.STATUS].fields}
            alarms, state = self.alarms[: widths["alarms"]], self.state[: widths["state"]]
            m.d.sync += queue.value.eq(Cat(self.slot_word, alarms, state))
        return due

    def _gaps(self, m, queues, amounts, first_slots) -> None:
        """Account for refused records and make one gap record at a time of what is due."""
        gap_queue = queues[RecordKind.GAP]
        gap = RecordKind.GAP
        ledgers = {}
        for kind in amounts:
            name = kind.name.lower()
            queue = queues[kind]
            ledgers[kind] = ledger = DropLedger()
            m.submodules[f"ledger_{name}"] = ledger
            m.d.comb += ledger.refused.eq(queue.offer & ~queue.room)
            m.d.comb += ledger.amount.eq(amounts[kind])
            m.d.comb += ledger.slot_high.eq(first_slots[kind][14:])
            m.d.comb += ledger.room.eq(queue.room)
            m.d.comb += ledger.clear.eq(self.arm)
            m.d.comb += self.status[f"dropped_{name}"].eq(ledger.dropped)
        m.d.sync += self.overflow.eq(Cat(ledger.refused for ledger in ledgers.values()).any())

        # One ledger is asked per clock; its gap record is made in the clock that follows.
        turn = Signal(range(len(ledgers)))
        granted = Signal(len(ledgers))
        m.d.sync += granted.eq(0)
        with m.If(Cat(ledger.due for ledger in ledgers.values()).any() & ~granted.any()):
            m.d.sync += turn.eq(turn + 1)
            with m.Switch(turn):
                for n, ledger in enumerate(ledgers.values()):
                    with m.Case(n):
                        m.d.sync += granted[n].eq(ledger.due & self.config.enable_gap & gap_queue.room & ~self.arm)
        m.d.comb += gap_queue.offer.eq(granted.any())
        for n, (kind, ledger) in enumerate(ledgers.items()):
            m.d.comb += ledger.taken.eq(granted[n])
            with m.If(granted[n]):
                m.d.comb += gap_queue.value.eq(
                    (ledger.gap_first << _shift(gap, "first_slot_hi"))
                    | (ledger.gap_dropped << _shift(gap, "dropped"))
                    | (int(kind) << _shift(gap, "kind"))
                )
