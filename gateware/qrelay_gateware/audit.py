"""Capture of choices and line states, so that a host can prove that what was announced is what was emitted."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import AUDIT_WORDS, LINES
from qrelay.protocol.units import BINS_PER_SLOT, SLOTS_PER_WORD
from qrelay.protocol.windows import AUDIT_CHOICE, window

from .layouts import Choices, Lines, Tick, config_layout
from .modulator import Modulator
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["Audit"]

_SLOT_BITS = 16
"""A slot takes 16 bits of a captured word, for its choice and for its line bins alike."""


class Audit(wiring.Component):
    """Keep the choices and line states of 1024 consecutive slots.

    `arm` clears `done` and waits for the word of `first_slot` (its lower two bits are ignored) in a run; from there on
    256 words are kept and then `done` rises and stays until the next `arm`. A run that ends during the capture ends the
    capture too: the audit waits for `first_slot` again, so a complete capture is never put together from two runs.
    `arm` during a capture starts anew.

    Lines are kept as they leave `Modulator`, forced levels, polarity and all. A captured word holds choices and lines
    of the same slots where the delay of the line is 0; with a delay, the line's bins belong to slots that far back.

    Memory word ``4 * word + part``: parts 0 and 1 choices, parts 2 and 3 line bins, of slots 0, 1 and slots 2, 3 of the
    word, 16 bits per slot. Choice: bits 2:0 setting, 6:3 phase, 7 drawn. Bins: bits 2i and 2i+1 of line i.

    Latency: `done` 2 words after the last captured word left the lines; `value` 2 words after `address`.
    Reset: idle, not done, the memory holds zeros.
    Overflow: none; words behind the 256th are not kept.

    Ports
    -----
    config
        Registers of group `audit`.
    tick, choices : In(Tick), In(Choices)
        As they go into the modulator.
    lines : In(Lines)
        As they leave the modulator.
    done : Out(1)
        The memory holds a complete capture.
    address, value : In(10), Out(32)
        Read port. While not `done`, `value` may belong to the capture before or to this one.
    """

    config: In(config_layout("audit"))
    tick: In(Tick)
    choices: In(Choices)
    lines: In(Lines)
    done: Out(1)
    address: In(range(4 * AUDIT_WORDS))
    value: Out(window("audit").width)

    def elaborate(self, platform):
        m = Module()

        # Choices: one word after the tick. The comparison of 46 bits gets that word for itself.
        waiting = Signal()
        first_here = Signal()
        running = Signal()
        choices = Signal(Choices)
        with m.If(waiting):
            m.d.sync += first_here.eq(self.tick.running & (self.tick.slot_word == self.config.first_slot[2:]))
            m.d.sync += running.eq(self.tick.running)
            m.d.sync += choices.eq(self.choices)
        with m.Else():
            m.d.sync += first_here.eq(0)

        capturing = Signal()
        words_kept = Signal(range(AUDIT_WORDS))
        word = Signal.like(words_kept)
        keep = Signal()
        last = Signal()
        m.d.comb += word.eq(Mux(capturing, words_kept, 0))
        m.d.comb += keep.eq(waiting & running & (first_here | capturing))
        m.d.comb += last.eq(keep & (word == AUDIT_WORDS - 1))
        with m.If(keep):
            m.d.sync += words_kept.eq(word + 1)
        m.d.sync += capturing.eq(keep & ~last)

        # Lines: the same words, as many words later as the modulator takes.
        later = [(keep, word, last)]
        for stage in range(1, Modulator.latency):
            late_keep = Signal(name=f"keep_{stage}")
            late_word = Signal.like(word, name=f"word_{stage}")
            late_last = Signal(name=f"last_{stage}")
            m.d.sync += late_keep.eq(later[-1][0] & ~self.config.arm)
            m.d.sync += late_last.eq(later[-1][2] & ~self.config.arm)
            with m.If(later[-1][0]):
                m.d.sync += late_word.eq(later[-1][1])
            later.append((late_keep, late_word, late_last))
        line_keep, line_word, line_last = later[-1]

        kept = (
            (Cat(_padded(choice) for choice in choices), keep, word),
            (Cat(self._line_bins(lane) for lane in range(SLOTS_PER_WORD)), line_keep, line_word),
        )
        half = Signal(2)
        """Parts 0..3: which memory, which half of its word."""
        values = []
        half_ahead = Signal.like(half)
        m.d.sync += half_ahead.eq(self.address[:2])
        m.d.sync += half.eq(half_ahead)
        for name, (bits, enable, index) in zip(("choices", "lines"), kept, strict=True):
            memory = Memory(
                shape=unsigned(_SLOT_BITS * SLOTS_PER_WORD), depth=AUDIT_WORDS, init=[], attrs=ANY_ON_COLLISION
            )
            m.submodules[f"{name}_memory"] = memory
            write = memory.write_port()
            m.d.comb += write.addr.eq(index)
            m.d.comb += write.data.eq(bits)
            m.d.comb += write.en.eq(enable)
            values.append(slow_read(m, memory, self.address[2:], name=name))
        m.d.comb += self.value.eq(Cat(values).word_select(half, len(self.value)))

        with m.If(last):
            m.d.sync += waiting.eq(0)
        with m.If(line_last):
            m.d.sync += self.done.eq(1)
        with m.If(self.config.arm):
            m.d.sync += waiting.eq(1)
            m.d.sync += capturing.eq(0)
            m.d.sync += first_here.eq(0)
            m.d.sync += self.done.eq(0)
        return m

    def _line_bins(self, lane):
        """Bins of all lines in one slot, in the order of the lines window."""
        return Cat(self.lines[line][BINS_PER_SLOT * lane : BINS_PER_SLOT * (lane + 1)] for line in range(LINES))


def _padded(choice):
    bits = Cat(choice[field.name] for field in AUDIT_CHOICE.fields)
    return Cat(bits, C(0, _SLOT_BITS - len(bits)))
