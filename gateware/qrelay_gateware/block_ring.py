"""Ring of key bits in block RAMs: every word of a run goes in, any of the last words comes out."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import SLOT_WORD_BITS, SLOTS_PER_WORD

from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["RING_PORTS", "BlockRing"]

RING_PORTS = {
    "write": In(1),
    "word": In(SLOT_WORD_BITS),
    "bits": In(SLOTS_PER_WORD),
    "ready": Out(1),
    "quiet": Out(1),
    "overrun": Out(1),
    "ask": In(1),
    "asked": In(SLOT_WORD_BITS),
    "answered": Out(1),
    "answer": Out(SLOTS_PER_WORD),
}
"""Of every ring: `write` puts `bits` to the place of `word`, and while it is high `word` counts up; `ask` and `asked`
hold until `answered`, and `answer` holds for one clock more."""
_BANK_WORDS = 1 << 14
"""Of one block RAM per bit. Larger memories would have a multiplexer between the RAMs and their output registers."""


class BlockRing(wiring.Component):
    """Keep four bits for every word, under the word's slot index / 4 modulo the size of the ring.

    Latency: a word is in the memory `unsettled_words` words after it came, `quiet` says that all are. An answer takes 2
    words.  Reset: the memory is kept.  Overflow: the oldest word is overwritten.

    Parameters
    ----------
    words : int
        A power of two above `unsettled_words`.

    Ports
    -----
    RING_PORTS, of which `ready` is always high and `overrun` always low.
    """

    unsettled_words = 8
    """The last words of a run may be on their way to the memory while it goes on, and the oldest about to be lost."""

    def __init__(self, words: int):
        if words & (words - 1) or words <= self.unsettled_words:
            raise ValueError(f"ring of {words} words; give a power of two above {self.unsettled_words}")
        self.words = words
        super().__init__(RING_PORTS)

    def elaborate(self, platform):
        m = Module()
        depth = min(self.words, _BANK_WORDS)
        banks = self.words // depth
        place_bits = (depth - 1).bit_length()
        bank_bits = (banks - 1).bit_length()
        bank_written, bank_asked = (word[place_bits:][:bank_bits] for word in (self.word, self.asked))
        found = []
        for number in range(banks):
            m.submodules[f"bank_{number}"] = memory = Memory(
                shape=SLOTS_PER_WORD, depth=depth, init=[], attrs=ANY_ON_COLLISION
            )
            write = memory.write_port()
            m.d.comb += [
                write.addr.eq(self.word),
                write.data.eq(self.bits),
                write.en.eq(self.write & (bank_written == number)),
            ]
            found.append(slow_read(m, memory, self.asked, name=f"bank_{number}"))
        m.d.comb += self.answer.eq(Array(found)[bank_asked])

        asked = Signal(2)
        m.d.sync += asked.eq(Cat(self.ask, asked) & ~self.answered.replicate(2))
        writes = Signal(self.unsettled_words // 2)
        m.d.sync += writes.eq(Cat(self.write, writes))
        m.d.comb += [self.answered.eq(asked[1]), self.ready.eq(1), self.quiet.eq(~(self.write | writes.any()))]
        return m
