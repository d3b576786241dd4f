"""Ring of key bits in an SDRAM chip, against a model of the chip by its data sheet."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from sdram_chip import CAS_CLOCKS, ChipModel, connect_chip

from qrelay_gateware.sdram import LINE_WORDS, READ_CLOCKS, Command, Sdram, SdramChip
from qrelay_gateware.sdram_ring import SdramRing

SMALL = SdramChip(row_bits=4, power_up_us=2)
"""With fewer rows, so that the ring wraps within a test."""
SHORT_NS = 2000
"""Its power-up."""
TRIAL_CLOCKS = 22 * (14 + 8 * 15)
"""What one trial of the memory takes at most: 22 lines written and read back."""


def simulate(block, chip, bench):
    async def stepper(ctx):
        async def tick(count=1):
            for _ in range(count):
                connect_chip(ctx, block.pins, chip)
                await ctx.tick()

        await bench(ctx, tick)

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(stepper)
    simulator.run()


async def until(ctx, tick, signal, limit):
    for count in range(limit):
        if ctx.get(signal):
            return count
        await tick()
    raise AssertionError(f"{signal.name} stays low for {limit} clocks")


@pytest.mark.parametrize("way", [READ_CLOCKS.start - CAS_CLOCKS, 4, READ_CLOCKS.stop - CAS_CLOCKS - 1])
def test_the_memory_is_proven_whatever_the_way_through_the_pads(way):
    chip = ChipModel(way)

    async def bench(ctx, tick):
        await until(ctx, tick, ring.ready, 15_400 + len(READ_CLOCKS) * TRIAL_CLOCKS)

    ring = SdramRing(SdramChip())
    simulate(ring, chip, bench)
    # Lines whose addresses differ in one bit each, and line 0: every address pin was seen at both levels.
    assert {place & ~7 for place in chip.cells} == {0, *(1 << bit for bit in range(3, 24))}
    assert all(chip.cells.values())
    chip.check_refresh()


BROKEN = {
    "data pin stuck low": lambda place, word: (place, word & ~(1 << 11)),
    "data pins bridged": lambda place, word: (place, word | (word >> 1 & 1)),
    "address pin open": lambda place, word: (place & ~(1 << 17), word),
    "bank pins exchanged, one low": lambda place, word: (place & ~(1 << 9), word),
    "no chip": lambda place, word: (1 << 30, word),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_chip_is_never_ready(fault):
    ring = SdramRing(SdramChip(power_up_us=2))
    chip = ChipModel(power_up_ns=SHORT_NS, broken=BROKEN[fault])

    async def bench(ctx, tick):
        for _ in range((len(READ_CLOCKS) + 1) * TRIAL_CLOCKS):
            await tick()
            assert not ctx.get(ring.ready)

    simulate(ring, chip, bench)
    # Every way was tried, and the first one again.
    assert chip.counts[Command.WRITE] > 8 * 22 * len(READ_CLOCKS)


def test_a_run_comes_out_as_it_went_in():
    """Runs that begin and end anywhere in a line, one that wraps the ring; reads at any time, also while it goes on."""
    random = np.random.default_rng(1)
    ring = SdramRing(SMALL)
    chip = ChipModel(way=3, power_up_ns=SHORT_NS)
    kept = {}
    checked = 0

    async def read(ctx, tick, word):
        nonlocal checked
        ctx.set(ring.asked, word)
        ctx.set(ring.ask, 1)
        await tick()
        await until(ctx, tick, ring.answered, 32)
        assert ctx.get(ring.answer) == kept[word]
        await tick()
        ctx.set(ring.ask, 0)
        checked += 1

    async def bench(ctx, tick):
        await until(ctx, tick, ring.ready, len(READ_CLOCKS) * TRIAL_CLOCKS)
        begin = 12_345

        async def put_and_tick(count=1):
            nonlocal next_word
            for _ in range(count):
                if next_word < begin + length:
                    bits = int(random.integers(16))
                    ctx.set(ring.write, 1)
                    ctx.set(ring.word, next_word)
                    ctx.set(ring.bits, bits)
                    kept[next_word] = bits
                    next_word += 1
                else:
                    ctx.set(ring.write, 0)
                await tick()

        for length in (1, 2, 31, 32, 33, 5000, ring.words + 777):
            next_word = begin
            kept.clear()
            while next_word < begin + length:
                await put_and_tick(int(random.integers(40)))
                oldest = max(begin, next_word - ring.words + ring.unsettled_words)
                if next_word - ring.unsettled_words > oldest and (length < 10_000 or random.random() < 0.05):
                    await read(ctx, put_and_tick, int(random.integers(oldest, next_word - ring.unsettled_words + 1)))
            await put_and_tick()
            assert await until(ctx, put_and_tick, ring.quiet, 64) < ring.unsettled_words
            words = list(kept)[-ring.words + ring.unsettled_words :]
            for word in words if length < 40 else [*words[:40], *random.choice(words, 100).tolist(), *words[-40:]]:
                await read(ctx, tick, int(word))
            begin += length + int(random.integers(200))

    simulate(ring, chip, bench)
    assert checked > 600
    chip.check_refresh()


def test_lines_leave_room_for_everything_else():
    """A line every 32 clocks with a read waiting all the time: no line waits for the next, refreshes keep pace."""
    block = Sdram(SMALL)
    chip = ChipModel(way=READ_CLOCKS[-1] - CAS_CLOCKS, power_up_ns=SHORT_NS)
    waits, reads = [], 0

    async def bench(ctx, tick):
        nonlocal reads
        ctx.set(block.read_clocks, READ_CLOCKS[-1])
        await until(ctx, tick, block.ready, 400)
        since = None
        ctx.set(block.read, 1)
        for clock in range(20_000):
            if clock % 32 == 0:
                assert since is None, "a line waits for the next"
                since = clock
                ctx.set(block.line, clock // 32 % 256)
                ctx.set(block.write, 1)
            ctx.set(block.value, clock & 0xFFFF)
            reads += ctx.get(block.done)
            await tick()
            if ctx.get(block.written):
                waits.append(clock - since)
                since = None
                await tick()
                ctx.set(block.write, 0)
        chip.check_refresh()

    simulate(block, chip, bench)
    assert max(waits) <= 29
    assert reads > 500
    assert chip.counts[Command.WRITE] == LINE_WORDS * len(waits)
