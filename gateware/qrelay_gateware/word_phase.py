"""A word counter modulo a period that falls in step with the slot index of a run."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import SLOT_WORD_BITS

__all__ = ["WordPhase"]


class WordPhase(wiring.Component):
    """Count words modulo a period, freely outside a run and as ``slot_word mod period`` in a run.

    Falling in step takes a division, done bit by bit: `aligned` rises and `phase` is right from the word
    `align_words` after the first word of the run on, and until then `phase` runs on freely. The word of slot 0 has
    phase 0 at once, so a run from slot 0 is in step from its first word, and the wrap of the slot index keeps in step.
    A change of the period acts one word later; in a run, it starts the division again.

    Latency: 1 word from `running` and `slot_word` to `phase` and `aligned`.
    Reset: phase 0, not aligned.
    Overflow: none; a period of 0 acts as 1.

    Parameters
    ----------
    period_bits : int
        Width of the period.

    Ports
    -----
    period : In(period_bits)
        Words.
    running, slot_word : In(1), In(46)
        The present word.
    phase : Out(period_bits)
        0 .. period - 1.
    aligned : Out(1)
        The word is in a run and `phase` is ``slot_word mod period``.
    """

    align_words = SLOT_WORD_BITS + 1

    def __init__(self, period_bits: int):
        super().__init__(
            {
                "period": In(period_bits),
                "running": In(1),
                "slot_word": In(SLOT_WORD_BITS),
                "phase": Out(period_bits),
                "aligned": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Registered as they are needed, so that no path has two carry chains.
        period = Signal(len(self.period), init=1)
        final = Signal.like(self.period)
        period_before = Signal.like(self.period)
        period_changed = Signal()
        m.d.sync += period.eq(Mux(self.period == 0, 1, self.period))
        m.d.sync += final.eq(self.period - self.period.any())
        m.d.sync += period_before.eq(self.period)
        m.d.sync += period_changed.eq(self.period != period_before)

        with m.If(self.phase >= final):
            m.d.sync += self.phase.eq(0)
        with m.Else():
            m.d.sync += self.phase.eq(self.phase + 1)

        # Long division of the index of a word that is yet to come: its remainder is ready when that word is here.
        was_running = Signal()
        bits_left = Signal(range(SLOT_WORD_BITS + 1))
        dividing = Signal()
        dividend = Signal(SLOT_WORD_BITS)
        remainder = Signal.like(period)
        trial = Signal(len(period) + 1)
        m.d.sync += was_running.eq(self.running)
        with m.If(dividing):
            m.d.comb += trial.eq((remainder << 1) | dividend[-1])
            m.d.sync += dividend.eq(dividend << 1)
            m.d.sync += remainder.eq(Mux(trial >= period, trial - period, trial))
            m.d.sync += bits_left.eq(bits_left - 1)
            with m.If(bits_left == 0):
                m.d.sync += dividing.eq(0)
                m.d.sync += self.phase.eq(remainder)
                m.d.sync += self.aligned.eq(1)

        with m.If(~self.running):
            m.d.sync += dividing.eq(0)
            m.d.sync += self.aligned.eq(0)
        with m.Elif(~was_running | period_changed):
            m.d.sync += dividing.eq(1)
            m.d.sync += dividend.eq(self.slot_word + self.align_words)
            m.d.sync += remainder.eq(0)
            m.d.sync += bits_left.eq(SLOT_WORD_BITS)
            m.d.sync += self.aligned.eq(0)
        with m.If(self.running & (self.slot_word == 0)):
            m.d.sync += self.phase.eq(0)
            m.d.sync += self.aligned.eq(1)
        return m
