"""All pairs of a click of one detector with the earlier clicks of another, by their distance."""

from amaranth.hdl import Array, Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import LAG_SLOTS
from qrelay.protocol.units import SLOTS_PER_WORD

from .count_memory import CountMemory
from .fifo import BlockFifo
from .readout import Readout

__all__ = ["GAP_LIMIT", "LagEngine", "LagEvent"]

_WORDS = LAG_SLOTS // SLOTS_PER_WORD
"""Words back to the earliest click that makes a pair, and so entries that must be remembered at most."""
GAP_LIMIT = 255
"""Distances in words stand for themselves below this, and for any longer one at it."""
_DEPTH = 512
_ROOM = 480
_REST = 8

assert LAG_SLOTS == 512


class LagEvent(data.Struct):
    """A word with clicks, or with a mark."""

    new: SLOTS_PER_WORD
    """Clicks, by lane, whose distances to earlier ones are wanted."""
    old: SLOTS_PER_WORD
    """Clicks to which distances are counted."""
    gap: 8
    """Words since the event before, GAP_LIMIT at most."""
    mark: 1
    """What was counted up to the event before is a whole histogram."""


class _State(enum.Enum, shape=2):
    IDLE = 0
    BEGIN = 1
    WALK = 2
    DRAIN = 3


class _Earlier(data.Struct):
    old: SLOTS_PER_WORD
    gap: 8
    """Words since the entry before."""


class LagEngine(wiring.Component):
    """Walk from each new click back over the old ones, one pair per word, and count distances of 1 to 512 slots.

    A queue holds the events that the walk has not reached. An event costs 1 word, every new click in it 1 word and 1
    for each of its pairs, and up to 2 more. At a mark the walk stops for 530 words while the bins go to the window and
    are set to zero.

    Latency: none promised; `settled` tells.  Reset: bins keep their counts, everything else is forgotten.
    Overflow: an event offered while `room` is low may be lost: whoever offers must look, and may ignore it for a mark
    now and then.

    Parameters
    ----------
    read_domain : str
        Clock domain of `address` and `value`.

    Ports
    -----
    offer, event : In(1), In(LagEvent)
    room : Out(1)
        The queue takes the event of this word. It holds 480 events, and a few more that are always taken.
    flush : In(1)
        Forget all events, clicks and counts, those of the word before too; the window shows zeros then.
    settled : Out(1)
        No mark waits or is at work, and no flush.
    fill : Out(10)
        Events in the queue.
    address : In(9), value : Out(32)
        Window: `value` is the number of pairs at distance address + 1 slots, two words later.
    """

    offer: In(1)
    event: In(LagEvent)
    room: Out(1)
    flush: In(1)
    settled: Out(1)
    fill: Out(range(_DEPTH + 1))
    address: In(range(LAG_SLOTS))
    value: Out(32)

    def __init__(self, *, read_domain: str = "sync"):
        self._read_domain = read_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = BlockFifo(LagEvent, _DEPTH)
        m.submodules.bins = bins = CountMemory(LAG_SLOTS, 32)
        marks = Signal(2)
        m.d.comb += [
            queue.write_enable.eq(self.offer),
            queue.write_value.eq(self.event),
            queue.clear.eq(self.flush),
            self.fill.eq(queue.level),
        ]
        m.d.sync += self.room.eq(queue.level < _ROOM)

        # Old clicks of the last words, without the words between them: the walk goes back one entry per word.
        earlier = Memory(shape=_Earlier, depth=_WORDS, init=[], attrs={"ram_style": "distributed"})
        m.submodules.earlier = earlier
        write = earlier.write_port()
        read = earlier.read_port(domain="comb")
        newest = Signal(range(_WORDS))
        since = Signal(8, init=GAP_LIMIT)
        """Words from the newest entry to the last event."""

        head = queue.head.payload
        new = Signal(SLOTS_PER_WORD)
        old = Signal(SLOTS_PER_WORD)
        left = Signal(SLOTS_PER_WORD)
        distance = Signal(range(_WORDS + 1))
        """Words from the event back to the clicks in `left`."""
        next_distance = Signal(10)
        next_place = Signal(range(_WORDS))
        drained = Signal()
        drain = Signal(range(2 * LAG_SLOTS))
        discards = Signal()

        lane = Signal(range(SLOTS_PER_WORD))
        rest_of_new = Signal(SLOTS_PER_WORD)
        m.d.comb += rest_of_new.eq(new & (new - 1))
        for k in reversed(range(SLOTS_PER_WORD)):
            with m.If(new[k]):
                m.d.comb += lane.eq(k)
        rest_of_left = Signal(SLOTS_PER_WORD)
        old_lane = Signal(range(SLOTS_PER_WORD))
        m.d.comb += rest_of_left.eq(left & (left - 1))
        for k in reversed(range(SLOTS_PER_WORD)):
            with m.If(left[k]):
                m.d.comb += old_lane.eq(k)
        below = Array(Const((1 << k) - 1, SLOTS_PER_WORD) for k in range(SLOTS_PER_WORD))

        # A pair, then its bin.
        pair = Signal()
        slots = Signal(11)
        m.d.sync += pair.eq(0)
        m.d.comb += [bins.count.eq(pair & (slots[9:] == 0)), bins.address.eq(slots), read.addr.eq(next_place)]

        gone = Signal(9)
        m.d.comb += gone.eq(since + head.gap)
        state = Signal(_State)
        with m.Switch(state):
            with m.Case(_State.IDLE):
                with m.If(queue.head.valid & head.mark & ~drained):
                    m.d.sync += [drain.eq(0), discards.eq(0)]
                    m.d.sync += state.eq(_State.DRAIN)
                with m.Elif(queue.head.valid):
                    m.d.comb += queue.head.ready.eq(1)
                    m.d.sync += [
                        new.eq(head.new),
                        old.eq(head.old),
                        since.eq(Mux(gone >= GAP_LIMIT, GAP_LIMIT, gone)),
                        drained.eq(0),
                    ]
                    m.d.sync += state.eq(_State.BEGIN)
            with m.Case(_State.BEGIN):
                m.d.sync += [
                    left.eq(old & below[lane]),
                    distance.eq(0),
                    next_distance.eq(since),
                    next_place.eq(newest),
                ]
                with m.If(new.any()):
                    m.d.sync += state.eq(_State.WALK)
                with m.Else():
                    m.d.comb += write.en.eq(old.any())
                    m.d.sync += state.eq(_State.IDLE)
            with m.Case(_State.WALK):
                with m.If(left.any()):
                    m.d.sync += [
                        pair.eq(1),
                        slots.eq((distance << 2) + (Const(3, 4) + lane - old_lane) - Const(4)),
                        left.eq(rest_of_left),
                    ]
                with m.If(~rest_of_left.any()):
                    with m.If(next_distance > _WORDS):
                        m.d.sync += new.eq(rest_of_new)
                        m.d.sync += state.eq(_State.BEGIN)
                    with m.Else():
                        m.d.sync += [
                            left.eq(read.data.old),
                            distance.eq(next_distance),
                            next_distance.eq(next_distance + read.data.gap),
                            next_place.eq(next_place - 1),
                        ]
            with m.Case(_State.DRAIN):
                m.d.sync += drain.eq(drain + 1)
                m.d.comb += [
                    bins.take.eq((drain >= _REST) & (drain < _REST + LAG_SLOTS)),
                    bins.address.eq(drain - _REST),
                ]
                with m.If(drain == 2 * _REST + LAG_SLOTS):
                    m.d.sync += drained.eq(~discards)
                    m.d.sync += state.eq(_State.IDLE)
        m.d.comb += [
            write.addr.eq(newest + 1),
            write.data.old.eq(old),
            write.data.gap.eq(since),
        ]
        with m.If(write.en):
            m.d.sync += [newest.eq(newest + 1), since.eq(0)]

        done = Signal()
        m.d.comb += done.eq((state == _State.DRAIN) & (drain == 2 * _REST + LAG_SLOTS))
        marked = Signal()
        m.d.comb += marked.eq(self.offer & self.event.mark)
        with m.If(self.flush):
            # Takes the place of whatever was about to be done.
            m.d.sync += [
                state.eq(_State.DRAIN),
                drain.eq(0),
                discards.eq(1),
                since.eq(GAP_LIMIT),
                drained.eq(0),
                pair.eq(0),
                marks.eq(1),
            ]
        with m.Elif(marked | done):
            m.d.sync += marks.eq(marks + marked - done)
        m.d.comb += self.settled.eq(marks == 0)

        m.submodules.readout = readout = Readout(LAG_SLOTS, read_domain=self._read_domain)
        m.d.comb += [
            readout.write_enable.eq(bins.taken),
            readout.write_address.eq(drain - _REST - CountMemory.latency),
            readout.write_value.eq(Mux(discards, 0, bins.value)),
            readout.address.eq(self.address),
            self.value.eq(readout.value),
        ]
        return m
