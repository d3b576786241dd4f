"""Counts of a few bits."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from qrelay_gateware.counting import exactly, ones, sum_of_two


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


@pytest.mark.parametrize(("first_bits", "second_bits"), [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_every_pair(first_bits, second_bits):
    first, second, total = Signal(first_bits), Signal(second_bits), Signal(4)
    m = Module()
    m.d.comb += total.eq(sum_of_two(first, second))

    async def bench(ctx):
        for a in range(1 << first_bits):
            for b in range(1 << second_bits):
                ctx.set(first, a)
                ctx.set(second, b)
                await ctx.delay(1e-9)
                assert ctx.get(total) == a + b

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


def test_numbers_too_wide_for_a_table():
    with pytest.raises(ValueError, match="numbers of 3 and 2 bits: up to 2 each fit the table"):
        sum_of_two(Signal(3), Signal(2))


def test_too_many_bits():
    with pytest.raises(ValueError, match="5 bits to count at once; up to 4 fit one look-up table"):
        ones(Signal(5))
