"""The slot counter: armed by the host, started by a command or by an edge on the start input."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import SLOT_WORD_BITS

from .layouts import LINE_BINS, config_layout, status_layout

__all__ = ["TimeBase"]


def _ones(bits):
    """Number of ones, as a balanced tree."""
    if len(bits) == 1:
        return bits
    middle = len(bits) // 2
    return _ones(bits[:middle]) + _ones(bits[middle:])


class TimeBase(wiring.Component):
    """Count slots from a start event on, one word of four slots per clock.

    States: idle, waiting (armed, no start yet), pending (the start has happened, the first word has not), running.
    `arm` leads from idle to waiting and does nothing in the other states: a restart needs `disarm` (or the end of the
    run) first. `disarm` leads back to idle from any state and wins over everything that happens in the same clock.

    The start event is, while waiting, the `start` strobe (`start_source` 0, place 0) or a rising edge on the start
    input (`start_source` 1; the first edge if a word has several). An edge in the first or last bin of a word is
    refused, because within one bin of the word edge neighbouring stations might not agree on the word: `refused`
    pulses, and the station goes back to idle, so that it cannot start on a later edge than its partners.
    `start_place` keeps the bin of the edge, refused or not. Edges at other times start nothing.

    Each edge while running counts in `sync_edges`. With `sync_period` not 0, an edge that is not a whole number of
    periods after the word of the start event, or not in bin `start_place`, also counts in `sync_slips` and pulses
    `sync_slip`. A missing edge is no slip. Both counters start from 0 at `arm`.

    `start_slot` counts in whole blocks of 8 slots and `length` in whole words; lower bits are ignored. Both are taken
    in the word after the start event; `sync_period` must not change between arm and the end of the run.

    Latency: `go` and `refused` in the word of the start event; `running` rises with `slot_word` = start_slot / 4
    `start_latency` words later. `disarm` acts on all outputs in the next word, `start` on `start_out` in the next word,
    an edge on the sync counters two words later and on `sync_slip` in the next word.
    Reset: idle. Nothing can start in the first word after it, so a start input that idles high has no edge.
    Overflow: the slot index wraps at 2^48, the sync counters wrap at 2^32.

    Parameters
    ----------
    start_latency : int, 2 or more
        Words from the word of the start event to the word of `start_slot`: what the blocks need that start with `go`.

    Ports
    -----
    config, status
        Registers of group `timebase`.
    arm, disarm, start : In(1)
        Strobes.
    start_bins : In(8)
        Samples of the start input, bit 0 is the earliest bin of the word.
    go : Out(1)
        One clock, in the word of the start event.
    running : Out(1)
        The present word belongs to the run.
    slot_word : Out(46)
        Slot index / 4 of the present word; after a run the first word behind it.
    armed : Out(1)
        Waiting or pending.
    finished : Out(1)
        The last run ended by its length; cleared by `arm`.
    refused, sync_slip : Out(1)
        Pulses.
    start_out : Out(8)
        Bins of the start output: one word of ones for each `start` strobe.
    """

    config: In(config_layout("timebase"))
    status: Out(status_layout("timebase"))
    arm: In(1)
    disarm: In(1)
    start: In(1)
    start_bins: In(LINE_BINS)
    go: Out(1)
    running: Out(1)
    slot_word: Out(SLOT_WORD_BITS)
    armed: Out(1)
    finished: Out(1)
    refused: Out(1)
    sync_slip: Out(1)
    start_out: Out(LINE_BINS)

    def __init__(self, start_latency: int):
        if start_latency < 2:
            raise ValueError(f"start_latency {start_latency}: the first word follows the start by at least 2 words")
        self.start_latency = start_latency
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        config = self.config

        before = Signal()
        """Last bin of the word before."""
        rises = Signal(LINE_BINS)
        m.d.comb += rises.eq(self.start_bins & ~Cat(before, self.start_bins[:-1]))
        m.d.sync += before.eq(self.start_bins[-1])

        waiting = Signal()
        pending = Signal()
        wait_words = Signal(range(self.start_latency))
        words_left = Signal(SLOT_WORD_BITS)
        """Words of the run after the present one; only used where the run has an end."""
        endless = Signal()
        m.d.comb += self.armed.eq(waiting | pending)

        edge = Signal()
        unsafe = Signal()
        m.d.comb += edge.eq(waiting & config.start_source & ~self.disarm & rises.any())
        m.d.comb += unsafe.eq(rises[0] | ~rises[:-1].any())
        m.d.comb += self.refused.eq(edge & unsafe)
        with m.If(config.start_source):
            m.d.comb += self.go.eq(edge & ~unsafe)
        with m.Else():
            m.d.comb += self.go.eq(waiting & ~self.disarm & self.start)

        # What is wide is loaded a word after the start: the start input is at the pins, these are amid the die.
        started = Signal()
        m.d.sync += started.eq(self.go)
        with m.If(pending):
            m.d.sync += wait_words.eq(wait_words - 1)
            with m.If(wait_words == 1):
                m.d.sync += pending.eq(0)
                m.d.sync += self.running.eq(1)
        with m.If(self.running):
            m.d.sync += self.slot_word.eq(self.slot_word + 1)
            m.d.sync += words_left.eq(words_left - 1)
            with m.If(~endless & (words_left == 0) & ~self.disarm):
                m.d.sync += self.running.eq(0)
                m.d.sync += self.finished.eq(1)
        with m.If(waiting):
            with m.If(edge):
                for place in reversed(range(LINE_BINS)):
                    with m.If(rises[place]):
                        m.d.sync += self.status.start_place.eq(place)
                m.d.sync += waiting.eq(0)
            with m.If(self.go):
                m.d.sync += waiting.eq(0)
                m.d.sync += wait_words.eq(self.start_latency - 1)
                m.d.sync += pending.eq(1)
                with m.If(~config.start_source):
                    m.d.sync += self.status.start_place.eq(0)

        with m.If(started):
            m.d.sync += self.slot_word.eq(Cat(C(0, 1), config.start_slot[3:]))
            m.d.sync += words_left.eq(config.length[2:] - 1)
            m.d.sync += endless.eq(config.length[2:] == 0)

        self._check_sync(m, rises, started)

        with m.If(self.arm & ~self.disarm & ~self.armed & ~self.running):
            m.d.sync += waiting.eq(1)
            m.d.sync += self.finished.eq(0)
            m.d.sync += self.status.sync_edges.eq(0)
            m.d.sync += self.status.sync_slips.eq(0)
        with m.If(self.disarm):
            m.d.sync += waiting.eq(0)
            m.d.sync += pending.eq(0)
            m.d.sync += self.running.eq(0)

        m.d.comb += self.status.slot_now.eq(self.slot_word << 2)
        m.d.sync += self.start_out.eq(self.start.replicate(LINE_BINS))
        return m

    def _check_sync(self, m, rises, started):
        """Compare each edge while running with the place and word where it is due."""
        period = self.config.sync_period
        words_to_due = Signal.like(period)
        first = Signal.like(period)
        """At its place two words after the start event."""
        m.d.sync += first.eq(Mux(period == 1, 0, period - 2))
        with m.If(started):
            m.d.sync += words_to_due.eq(first)
        with m.Elif(words_to_due == 0):
            m.d.sync += words_to_due.eq(period - 1)
        with m.Else():
            m.d.sync += words_to_due.eq(words_to_due - 1)

        seen = Signal(LINE_BINS)
        due = Signal(LINE_BINS)
        slipped = Signal(LINE_BINS)
        periodic = Signal()
        m.d.sync += periodic.eq(period != 0)
        m.d.sync += seen.eq(Mux(self.running, rises, 0))
        with m.If(rises.any()):
            m.d.sync += due.eq((words_to_due == 0) << self.status.start_place)
        with m.If(seen.any()):
            m.d.comb += slipped.eq(Mux(periodic, seen & ~due, 0))
            m.d.comb += self.sync_slip.eq(slipped.any())
            m.d.sync += self.status.sync_edges.eq(self.status.sync_edges + _ones(seen))
            m.d.sync += self.status.sync_slips.eq(self.status.sync_slips + _ones(slipped))
