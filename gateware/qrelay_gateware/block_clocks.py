"""Blocks of a station whose clock may stop while they have nothing to do."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .entropy import EntropyBlock

__all__ = ["GATED_BLOCKS", "BlockBits", "BlockClocks"]

GATED_BLOCKS = {
    "link": 1024,
    "events": 256,
    "keystream": 1024,
    "receiver": 2048,
    "entropy": EntropyBlock.rest_words,
    "histograms": 1024,
    "external": 16,
}
"""Blocks whose clock may stop, and words after the last cause to run that each needs to come to rest."""

BlockBits = data.StructLayout(dict.fromkeys(GATED_BLOCKS, 1))


class BlockClocks(wiring.Component):
    """Clock each block from the first cause on until it has come to rest after the last.

    Latency: none, a block is clocked in the word of its cause.  Reset: no block.  Overflow: none.

    Ports
    -----
    wanted : In(BlockBits)
        There is a cause in this word.
    clocked : Out(BlockBits)
    """

    wanted: In(BlockBits)
    clocked: Out(BlockBits)

    def elaborate(self, platform):
        m = Module()
        for name, rest_words in GATED_BLOCKS.items():
            rest = Signal(range(rest_words + 1), name=f"{name}_rest")
            with m.If(self.wanted[name]):
                m.d.sync += rest.eq(rest_words)
            with m.Elif(rest != 0):
                m.d.sync += rest.eq(rest - 1)
            m.d.comb += self.clocked[name].eq(self.wanted[name] | (rest != 0))
        return m
