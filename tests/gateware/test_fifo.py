"""The block RAM FIFO against a deque, and the ledger of what a full one refused."""

import random
from collections import deque

import pytest
from amaranth.sim import Simulator

from qrelay_gateware.event_queue import DropLedger
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


def test_ledger_saturates_and_keeps_its_total():
    """A gap of more than 2^28 - 1 records reads as that; the total goes on."""
    dut = DropLedger()
    limit = (1 << len(dut.gap_dropped)) - 1

    async def bench(ctx):
        ctx.set(dut.room, 0)
        ctx.set(dut.amount, 4)
        ctx.set(dut.refused, 1)
        await ctx.tick()
        # The sum of a second of drops, put in its place.
        ctx.set(dut.gap_dropped, limit - 13)
        for _ in range(8):
            await ctx.tick()
            assert ctx.get(dut.gap_dropped) > limit - 13
        ctx.set(dut.refused, 0)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.gap_dropped) == limit
        assert ctx.get(dut.dropped) == 9 * 4
        assert not ctx.get(dut.due)
        ctx.set(dut.room, 1)
        assert ctx.get(dut.due)
        # Dropped in the clock of the gap record: it belongs to the next one.
        ctx.set(dut.amount, 3)
        ctx.set(dut.slot_high, 77)
        ctx.set(dut.refused, 1)
        await ctx.tick()
        ctx.set(dut.refused, 0)
        ctx.set(dut.taken, 1)
        await ctx.tick()
        ctx.set(dut.taken, 0)
        assert (ctx.get(dut.gap_dropped), ctx.get(dut.gap_first), ctx.get(dut.due)) == (3, 77, 1)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
