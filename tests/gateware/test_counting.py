"""Counts of a few bits."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from qrelay_gateware.counting import exactly, ones


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_pattern(width):
    bits = Signal(width)
    count = Signal(8)
    exact = Signal(width + 2)
    m = Module()
    m.d.comb += count.eq(ones(bits))
    for number in range(width + 2):
        m.d.comb += exact[number].eq(exactly(bits, number))

    async def bench(ctx):
        for pattern in range(1 << width):
            ctx.set(bits, pattern)
            await ctx.delay(1e-9)
            assert ctx.get(count) == pattern.bit_count()
            assert ctx.get(exact) == 1 << pattern.bit_count()

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_too_many_bits():
    with pytest.raises(ValueError, match="5 bits to count at once; up to 4 fit one look-up table"):
        ones(Signal(5))
