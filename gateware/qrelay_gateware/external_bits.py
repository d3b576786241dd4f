"""Key bits from outside, such as a quantum random number generator: used in place of drawn ones, kept to be read."""

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from qrelay.protocol.registers import register
from qrelay.protocol.units import SLOT_BITS, SLOT_WORD_BITS, SLOTS_PER_WORD
from qrelay.protocol.windows import window

from .block_ring import BlockRing
from .layouts import Segment, Tick, bit_layout, config_layout, status_layout, table_write
from .sdram import SdramPins
from .sdram_ring import SdramRing
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["RING_WORDS", "ExternalBits"]

_DEPTH = window("offsets").depth
_LANE_BITS = (SLOTS_PER_WORD - 1).bit_length()
RING_WORDS = 1 << 15
"""Words in the ring of boards with such an input and no memory chip: eight block RAMs."""
_MOST_LOOKBACK = (1 << register("external.lookback")[1].width) - 1


class ExternalBits(wiring.Component):
    """Four bits per word from outside; the ring of the last words keeps them until they are asked for.

    With `config.enable` each drawn slot takes the bit of its lane as bit 3 of its phase. These bits cannot be drawn
    again, so those of the last words of the run stand in a ring, `ring.unsettled_words` fewer than it has.
    `config.ask` n takes the first n of the offsets, adds each to `config.base`, and answers with the bit of that slot
    and whether it is kept: a slot that is overwritten, was never reached, or belongs to an earlier run is not, and its
    answer is 0.

    The time to ask is that of the ring, 13.1 ns a word: 430 us with 32,768 words in eight block RAMs, 880 ms in an
    SDRAM of 32 Mbyte. A run that is shorter than the ring keeps all its bits until the next arm. A longer one needs
    announcements that come back within the ring, so the first kind serves short runs only.

    The last `ring.unsettled_words` words are not kept yet while the run goes on, and nothing is before the memory is
    ready. `status.lookback` is 0 until then, and ends at its largest value where the ring is larger. The ring starts
    anew whenever the clock is lost, without which an SDRAM is not refreshed: all that it held is forgotten.

    A word of a quantum segment for which no bits came is not drawn, and no word after it is until the next arm.

    Latency: an input is used in the second word after it came. An answer takes 9 words, from an SDRAM 54 at most.
    Reset: nothing kept.  Overflow: the ring is overwritten; `ask` while busy begins anew. With `config.enable` low in a
    word of the run all words before it are forgotten.

    Parameters
    ----------
    ring : BlockRing or SdramRing
        None: there is no such input, and `config` does nothing.

    Ports
    -----
    config, status : group ``external``
    bits : In(4)
        Bit of each lane, used with `valid`.
    valid : In(1)
    tick : In(Tick)
        That of the word for which `key_bits` are.
    arm : In(1)
        A run begins: forget failure and bits.
    clock_locked : In(1)
        The word clock is good.
    replaces : Out(1)
        `key_bits` are to be used.
    key_bits : Out(4)
    blocked : Out(1)
        The word must not be drawn.
    failed : Out(1)
        One word: bits were missing.
    offsets : table_write("offsets")
    address, value : In(8), Out(32)
        Answers, bit 0 the bit, bit 1 it is kept; `value` is what stood at `address` two clocks before.
    sdram : Out(SdramPins())
        Pins of the chip, where there is one.
    busy : Out(1)
        Without an input and with `config.enable` low the block has something to do: an answer, or the memory's start.
    """

    config: In(config_layout("external"))
    status: Out(status_layout("external"))
    bits: In(SLOTS_PER_WORD)
    valid: In(1)
    tick: In(Tick)
    arm: In(1)
    clock_locked: In(1)
    replaces: Out(1)
    key_bits: Out(SLOTS_PER_WORD)
    blocked: Out(1)
    failed: Out(1)
    offsets: table_write("offsets")
    address: In(range(_DEPTH))
    value: Out(32)
    sdram: Out(SdramPins())
    busy: Out(1)

    def __init__(self, ring: BlockRing | SdramRing | None):
        self._ring = ring
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        ring = self._ring
        if ring is None:
            return m
        m.submodules.ring = ResetInserter(~self.clock_locked)(ring)
        if isinstance(ring, SdramRing):
            connect(m, ring.pins, flipped(self.sdram))
        kept_words = ring.words - ring.unsettled_words
        m.submodules.questions = questions = Memory(shape=32, depth=_DEPTH, init=[], attrs=ANY_ON_COLLISION)
        m.submodules.answers = answers = Memory(
            shape=bit_layout(window("external").entry), depth=_DEPTH, init=[], attrs=ANY_ON_COLLISION
        )
        question_write, answer_write = questions.write_port(), answers.write_port()

        # Into the choices.
        came = Signal()
        lost = Signal()
        enable = Signal()
        m.d.sync += enable.eq(self.config.enable)
        with m.If(enable):
            m.d.sync += [came.eq(self.valid), self.key_bits.eq(self.bits)]
        m.d.comb += [self.replaces.eq(enable), self.blocked.eq(enable & (lost | ~came))]
        quantum = self.tick.running & (self.tick.segment == Segment.QUANTUM.value)
        missing = Signal()
        m.d.comb += missing.eq(enable & quantum & ~came)
        m.d.sync += self.failed.eq(missing & ~lost)
        with m.If(self.arm):
            m.d.sync += lost.eq(0)
        with m.Elif(missing):
            m.d.sync += lost.eq(1)

        # Into the ring.
        newest = Signal(SLOT_WORD_BITS)
        kept = Signal(range(kept_words + 1))
        write = Signal()
        m.d.sync += write.eq(enable & self.tick.running & ~missing & ~lost)
        with m.If(enable & self.tick.running & ~missing & ~lost):
            m.d.sync += [newest.eq(self.tick.slot_word), ring.bits.eq(self.key_bits)]
            with m.If((kept != kept_words) & ring.ready):
                m.d.sync += kept.eq(kept + 1)
        with m.If(self.arm | (self.tick.running & ~enable) | ~self.clock_locked | ring.overrun):
            m.d.sync += kept.eq(0)
        m.d.comb += [ring.word.eq(newest), ring.write.eq(write)]

        # Out of the ring.
        answered = Signal(range(_DEPTH + 1))
        left = Signal(range(_DEPTH + 1))
        slot = Signal(SLOT_BITS)
        slot_word = slot[_LANE_BITS:]
        age = Signal(SLOT_WORD_BITS + 1)
        then_kept = Signal.like(kept)
        word = Signal(SLOTS_PER_WORD)
        lookback = min(SLOTS_PER_WORD * kept_words, _MOST_LOOKBACK)
        m.d.comb += [
            question_write.addr.eq(self.offsets.address),
            question_write.data.eq(self.offsets.value),
            question_write.en.eq(self.offsets.enable),
            ring.asked.eq(slot_word),
            answer_write.addr.eq(answered),
            self.status.answered.eq(answered),
            self.status.lookback.eq(Mux(ring.ready, lookback, 0)),
            self.status.failed.eq(lost),
        ]
        question = slow_read(m, questions, answered, name="question")
        m.d.comb += self.value.eq(slow_read(m, answers, self.address, name="answer"))
        # `ask` in the middle of an answer: that answer is one to a question of before, and counts for nothing.
        stale = Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If((left != 0) & ~self.config.ask.any()):
                    m.next = "READ"
            with m.State("READ"):  # the offset is there in the clock that follows
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += slot.eq(self.config.base + question)
                m.next = "LOOK"
            with m.State("LOOK"):
                m.d.comb += ring.ask.eq(1)
                with m.If(ring.answered):
                    m.next = "AGE"
            with m.State("AGE"):
                m.d.sync += [word.eq(ring.answer), age.eq(newest - slot_word), then_kept.eq(kept)]
                m.next = "JUDGE"
            with m.State("JUDGE"):
                # If all is quiet now, the read came after the last write.
                settled = ring.quiet | (age >= ring.unsettled_words)
                is_kept = ~age[len(kept) :].any() & (age[: len(kept)] < then_kept) & settled
                bit = word.bit_select(slot[:_LANE_BITS], 1)
                m.d.sync += [answer_write.data.bit.eq(bit & is_kept), answer_write.data.kept.eq(is_kept)]
                m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(~stale):
                    m.d.comb += answer_write.en.eq(1)
                    m.d.sync += [answered.eq(answered + 1), left.eq(left - 1)]
                m.d.sync += stale.eq(0)
                m.next = "IDLE"
        m.d.comb += self.busy.eq((left != 0) | ~fsm.ongoing("IDLE") | ~ring.ready | ~ring.quiet)
        with m.If(self.config.ask.any()):
            m.d.sync += [
                left.eq(self.config.ask),
                answered.eq(0),
                stale.eq(~(fsm.ongoing("IDLE") | fsm.ongoing("WRITE"))),
            ]
        return m
