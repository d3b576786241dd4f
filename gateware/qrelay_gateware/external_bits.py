"""Key bits from outside, such as a quantum random number generator: used in place of drawn ones, kept to be read."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect, flipped

from qrelay.protocol.registers import register, window
from qrelay.protocol.units import SLOT_BITS, SLOT_WORD_BITS, SLOTS_PER_WORD

from .layouts import Segment, Tick, config_layout, status_layout, table_write
from .sdram import SdramChip, SdramPins
from .sdram_ring import UNSETTLED_WORDS, SdramRing

__all__ = ["RING_WORDS", "SPARE_WORDS", "ExternalBits"]

_DEPTH = window("offsets").depth
_LANE_BITS = (SLOTS_PER_WORD - 1).bit_length()
RING_WORDS = 1 << 15
"""Words in the ring of stations with such an input: eight block RAMs."""
SPARE_WORDS = 8
"""Words of the ring that are not answered for: they may be overwritten while an answer is on its way."""
_MOST_LOOKBACK = (1 << register("external.lookback")[1].width) - 1


class ExternalBits(wiring.Component):
    """Four bits per word from outside; the ring of the last words keeps them until they are asked for.

    With `config.enable` each drawn slot takes the bit of its lane as bit 3 of its phase. These bits cannot be drawn
    again, so those of the last `ring_words - SPARE_WORDS` words of the run stand in a ring. `config.ask` n takes the
    first n of the offsets, adds each to `config.base`, and answers with the bit of that slot and whether it is kept: a
    slot that is overwritten, was never reached, or belongs to an earlier run is not, and its answer is 0.

    The time to ask is that of the ring, 4 * ring_words / 304.52 MHz: 430 us with 32,768 words in eight block RAMs,
    880 ms in an SDRAM of 32 Mbyte. A run that is shorter than the ring keeps all its bits until the next arm. A longer
    one needs announcements that come back within the ring, so the first kind serves short runs only.

    In an SDRAM the last `UNSETTLED_WORDS` words are not kept yet while the run goes on, and nothing is before the
    memory is ready. `status.lookback` is 0 until then, and ends at its largest value where the ring is larger. The
    memory starts anew whenever the clock is lost, without which it is not refreshed: all that it held is forgotten.

    A word of a quantum segment for which no bits came is not drawn, and no word after it is until the next arm.

    Latency: an input is used in the second word after it came. An answer takes 7 words, 54 at most from an SDRAM.
    Reset: nothing kept.  Overflow: the ring is overwritten; `ask` while busy begins anew. With `config.enable` low in a
    word of the run all words before it are forgotten.

    Parameters
    ----------
    ring_words : int
        Words in a ring of block RAMs, a power of two; 0: there is no such input, and `config` does nothing.
    chip : SdramChip
        Memory for the ring instead; `ring_words` is not looked at.

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
        The word clock is good; of interest to an SDRAM only.
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

    def __init__(self, ring_words: int, chip: SdramChip | None = None):
        if ring_words and (ring_words & (ring_words - 1) or ring_words <= SPARE_WORDS):
            raise ValueError(f"ring of {ring_words} words; give a power of two above {SPARE_WORDS}, or 0 for no input")
        self._ring_words = ring_words
        self._chip = chip
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        if not self._ring_words and self._chip is None:
            return m
        chip = self._chip is not None
        if chip:
            ring = SdramRing(self._chip)
            m.submodules.ring = ResetInserter(~self.clock_locked)(ring)
            connect(m, ring.pins, flipped(self.sdram))
            kept_words = ring.words - UNSETTLED_WORDS
            stored, found = ring.bits, ring.answer
        else:
            m.submodules.ring = ring = Memory(shape=SLOTS_PER_WORD, depth=self._ring_words, init=[])
            ring_write, ring_read = ring.write_port(), ring.read_port()
            kept_words = self._ring_words - SPARE_WORDS
            stored, found = ring_write.data, ring_read.data
        m.submodules.questions = questions = Memory(shape=32, depth=_DEPTH, init=[])
        m.submodules.answers = answers = Memory(shape=2, depth=_DEPTH, init=[])
        question_write, question = questions.write_port(), questions.read_port()
        answer_write, answer = answers.write_port(), answers.read_port()

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
            m.d.sync += [newest.eq(self.tick.slot_word), stored.eq(self.key_bits)]
            with m.If((kept != kept_words) & ring.ready if chip else kept != kept_words):
                m.d.sync += kept.eq(kept + 1)
        forget = self.arm | (self.tick.running & ~enable)
        if chip:
            forget |= ~self.clock_locked | ring.overrun
        with m.If(forget):
            m.d.sync += kept.eq(0)
        if chip:
            m.d.comb += [ring.word.eq(newest), ring.write.eq(write)]
        else:
            m.d.comb += [ring_write.addr.eq(newest), ring_write.en.eq(write)]

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
            question.addr.eq(answered),
            (ring.asked if chip else ring_read.addr).eq(slot_word),
            answer.addr.eq(self.address),
            answer_write.addr.eq(answered),
            self.status.answered.eq(answered),
            self.status.lookback.eq(Mux(ring.ready, lookback, 0) if chip else lookback),
            self.status.failed.eq(lost),
        ]
        m.d.sync += self.value.eq(answer.data)
        # `ask` in the middle of an answer: that answer is one to a question of before, and counts for nothing.
        stale = Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(left != 0):
                    m.next = "READ"
            with m.State("READ"):  # the offset is at the port in the clock that follows
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += slot.eq(self.config.base + question.data)
                m.next = "LOOK"
            with m.State("LOOK"):
                if chip:
                    m.d.comb += ring.ask.eq(1)
                    with m.If(ring.answered):
                        m.next = "AGE"
                else:
                    m.next = "AGE"
            with m.State("AGE"):
                m.d.sync += [word.eq(found), age.eq(newest - slot_word), then_kept.eq(kept)]
                m.next = "JUDGE"
            with m.State("JUDGE"):
                is_kept = ~age[len(kept) :].any() & (age[: len(kept)] < then_kept)
                if chip:
                    # A read is over sooner than a line is written: if all is quiet now, it saw the last one.
                    is_kept &= ring.quiet | (age >= UNSETTLED_WORDS)
                bit = word.bit_select(slot[:_LANE_BITS], 1)
                m.d.sync += answer_write.data.eq(Mux(is_kept, Cat(bit, 1), 0))
                m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(~stale):
                    m.d.comb += answer_write.en.eq(1)
                    m.d.sync += [answered.eq(answered + 1), left.eq(left - 1)]
                m.d.sync += stale.eq(0)
                m.next = "IDLE"
        with m.If(self.config.ask.any()):
            m.d.sync += [
                left.eq(self.config.ask),
                answered.eq(0),
                stale.eq(~(fsm.ongoing("IDLE") | fsm.ongoing("WRITE"))),
            ]
        return m
