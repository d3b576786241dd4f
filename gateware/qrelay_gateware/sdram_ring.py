"""Ring of key bits in an SDRAM chip: every word of a run goes in, any word of the last second comes out."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Out, connect, flipped

from qrelay.protocol.units import SLOT_WORD_BITS, SLOTS_PER_WORD

from .block_ring import RING_PORTS
from .sdram import LINE_WORDS, READ_CLOCKS, Sdram, SdramChip, SdramPins

__all__ = ["SdramRing"]

_BITS = 16
_PARTS = _BITS // SLOTS_PER_WORD
"""Station words in a memory word."""
_PART_BITS = (_PARTS - 1).bit_length()
_INDEX_BITS = (LINE_WORDS - 1).bit_length()
_PLACE_BITS = _PART_BITS + _INDEX_BITS
"""Of a word's place in its line."""


class SdramRing(wiring.Component):
    """Keep four bits for every word, under the word's slot index / 4 modulo the size of the ring.

    Words are gathered to lines of 32, in a buffer of two lines, and a line is written while the next one fills. Where
    writing ends in the middle of a line, the rest of it is filled with zeros, so that a run's last words reach the
    memory too. A run that begins so soon after another that a line is complete before the last one is written loses
    words, and `overrun` tells.

    After power-up the ring tests the way to the memory: it writes lines whose addresses differ in one bit each, reads
    them back, and takes the first of `READ_CLOCKS` with which all of them are right. Which one that is depends on the
    cells in the pads. With none it starts again, so `ready` stays low without a chip or with a wrong connection. Cells
    that lose their content later are not noticed.

    Latency: a word is in the memory `unsettled_words` words after it came at the latest, `quiet` says that all are. An
    answer takes 8 to 47 words.  Reset: power-up of the chip, then its test, 0.5 ms in all at most.  Overflow: the
    oldest line is overwritten; words that come before `ready` are lost.

    Parameters
    ----------
    chip : SdramChip

    Ports
    -----
    pins : Out(SdramPins())
    RING_PORTS, of which `ready` rises after the test, and `overrun` tells for one clock that words are lost and that
    what was written since the run began means nothing.
    """

    unsettled_words = 2 << _PLACE_BITS
    """The last words of a run may be on their way to the memory while it goes on; no older ones."""

    def __init__(self, chip: SdramChip):
        self._chip = chip
        self.words = _PARTS << chip.address_bits
        """Station words in the ring."""
        super().__init__({"pins": Out(SdramPins()), **RING_PORTS})

    def elaborate(self, platform):
        m = Module()
        m.submodules.sdram = sdram = Sdram(self._chip)
        m.submodules.lines = lines = Memory(shape=_BITS, depth=2 * LINE_WORDS, init=[])
        fill, drain = lines.write_port(), lines.read_port()
        connect(m, sdram.pins, flipped(self.pins))

        # Words to lines. The low bits of `word` count on by themselves where a line has to be filled.
        put = Signal()
        word = Signal(SLOT_WORD_BITS)
        bits = Signal(SLOTS_PER_WORD)
        unfinished = Signal()
        place = word[:_PLACE_BITS]
        m.d.comb += unfinished.eq(put & ~place.all())
        m.d.sync += put.eq(self.write | unfinished)
        with m.If(self.write):
            m.d.sync += [word.eq(self.word), bits.eq(self.bits)]
        with m.Elif(unfinished):
            m.d.sync += [place.eq(place + 1), bits.eq(0)]
        earlier = Signal(_BITS - SLOTS_PER_WORD)
        with m.If(put):
            m.d.sync += earlier.eq(Cat(earlier, bits)[SLOTS_PER_WORD:])
        m.d.comb += [
            fill.addr.eq(word[_PART_BITS:]),
            fill.data.eq(Cat(earlier, bits)),
            fill.en.eq(put & word[:_PART_BITS].all()),
        ]

        # Lines to the memory, once it is known to work.
        full = Signal()
        line = Signal(max(len(sdram.line), 1))
        with m.If(put & place.all() & self.ready):
            m.d.sync += [full.eq(1), line.eq(word[_PLACE_BITS:])]
        with m.Elif(sdram.written):
            m.d.sync += full.eq(0)
        m.d.comb += self.overrun.eq(put & place.all() & full & ~sdram.written)
        m.d.comb += [drain.addr.eq(Cat(sdram.index, line[0])), self.quiet.eq(~(self.write | put | full))]

        # The proof: line 0 (whose `number` is that of the last bit inside a line), then those with one address bit.
        address_bits = self._chip.address_bits
        first = _INDEX_BITS - 1
        trial = Signal(range(READ_CLOCKS.stop), init=READ_CLOCKS.start)
        number = Signal(range(address_bits), init=first)
        index = Signal(range(LINE_WORDS))
        reading = Signal()
        wrong = Signal()
        tested = Signal(address_bits)
        pattern = Signal(_BITS)
        here = Mux(reading, index, sdram.index)
        label = Cat(here, number)[: _BITS // 2]
        m.d.comb += [tested.eq(Mux(number == first, index, (1 << number) | index)), sdram.read_clocks.eq(trial)]
        m.d.sync += pattern.eq(Cat(label, ~label))
        with m.If(self.ready):
            m.d.comb += [
                sdram.write.eq(full),
                sdram.line.eq(line),
                sdram.value.eq(drain.data),
                sdram.read.eq(self.ask),
                sdram.address.eq(self.asked[_PART_BITS:]),
                self.answered.eq(sdram.done),
            ]
        with m.Else():
            m.d.comb += [
                sdram.write.eq(sdram.ready & ~reading),
                sdram.line.eq(tested[_INDEX_BITS:]),
                sdram.value.eq(pattern),
                sdram.read.eq(reading),
                sdram.address.eq(tested),
                self.answered.eq(1),
            ]
            last = number == address_bits - 1
            following = Mux(last, first, number + 1)
            with m.If(sdram.written):
                m.d.sync += [number.eq(following), reading.eq(last), wrong.eq(0)]
            with m.If(sdram.done):
                failed = wrong | (sdram.word != pattern)
                m.d.sync += [index.eq(index + 1), wrong.eq(failed)]
                with m.If(index == LINE_WORDS - 1):
                    m.d.sync += number.eq(following)
                    with m.If(last & ~failed):
                        m.d.sync += self.ready.eq(1)
                    with m.Elif(last):
                        # Again from the beginning: what is at the pads may have been late with the first lines too.
                        m.d.sync += [
                            reading.eq(0),
                            trial.eq(Mux(trial == READ_CLOCKS.stop - 1, READ_CLOCKS.start, trial + 1)),
                        ]
        m.d.comb += self.answer.eq(sdram.word.word_select(self.asked[:_PART_BITS], SLOTS_PER_WORD))
        return m
