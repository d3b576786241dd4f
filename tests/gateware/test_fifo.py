"""The block RAM FIFO against a deque."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from qrelay_gateware.fifo import BlockFifo


@pytest.mark.parametrize(("fill", "drain"), [(0.9, 0.3), (0.3, 0.9), (0.5, 0.5), (1.0, 1.0)])
def test_fifo_against_deque(fill, drain):
    dut = BlockFifo(16, 16)
    generator = random.Random(1)
    model = deque()
    fills = set()

    async def bench(ctx):
        for clock in range(1500):
            write = generator.random() < fill
            value = generator.getrandbits(16)
            ready = generator.random() < drain
            clear = clock % 400 == 399
            ctx.set(dut.write_enable, write)
            ctx.set(dut.write_value, value)
            ctx.set(dut.head.ready, ready)
            ctx.set(dut.clear, clear)
            assert ctx.get(dut.level) == len(model)
            assert ctx.get(dut.full) == (len(model) == 16)
            fills.add(len(model))
            taken = ready and ctx.get(dut.head.valid)
            if taken:
                assert ctx.get(dut.head.payload) == model[0]
            if write and len(model) < 16:
                model.append(value)
            if taken:
                model.popleft()
            if clear:
                model.clear()
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    if fill > drain:
        assert max(fills) == 16


def test_latency_is_three_clocks():
    dut = BlockFifo(8, 4)

    async def bench(ctx):
        ctx.set(dut.write_enable, 1)
        ctx.set(dut.write_value, 7)
        await ctx.tick()
        ctx.set(dut.write_enable, 0)
        for _ in range(2):
            assert not ctx.get(dut.head.valid)
            await ctx.tick()
        assert ctx.get(dut.head.valid)
        assert ctx.get(dut.head.payload) == 7

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()


def test_depth_must_be_a_power_of_two():
    with pytest.raises(ValueError, match="FIFO depth 12 is no power of two; give 2, 4, 8"):
        BlockFifo(8, 12)
