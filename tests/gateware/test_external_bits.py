"""Key bits from outside against their golden model: used in their word, kept, and never answered wrong."""

import pytest
from amaranth.sim import Simulator
from external_cases import OUTPUTS, cases, small_ring
from sdram_chip import ChipModel, connect_chip
from stepping import resolve

from benches import run_bench
from qrelay_gateware.block_ring import BlockRing
from qrelay_gateware.external_bits import ExternalBits
from qrelay_gateware.sdram import SdramChip
from qrelay_gateware.sdram_ring import SdramRing
from qrelay_sim.golden.sequencer import QUANTUM


def stepping(block, chip):
    """A testbench: the chip at the pins of the block."""

    async def step_chip(ctx):
        while True:
            connect_chip(ctx, block.sdram, chip)
            await ctx.tick()

    return step_chip


def simulate(case, enable=1, chip=None):
    block = ExternalBits(small_ring(chip is not None))
    seen = {name: [] for name in OUTPUTS}
    answers = []

    async def bench(ctx):
        ctx.set(block.clock_locked, 1)
        if chip is not None:
            assert ctx.get(block.status.lookback) == 0
            await ctx.tick().until(block.status.lookback != 0)
        ctx.set(block.config.enable, enable)
        ctx.set(block.arm, 1)
        await ctx.tick().repeat(2)
        ctx.set(block.arm, 0)
        columns = case.columns
        for word in range(len(case.ticks)):
            for name, column in columns.items():
                ctx.set(resolve(block, name), column[word])
            for name in OUTPUTS:
                seen[name].append(ctx.get(resolve(block, name)))
            await ctx.tick()
        ctx.set(block.offsets.enable, 1)
        for address, slot in enumerate(case.slots.tolist()):
            ctx.set(block.offsets.address, address)
            ctx.set(block.offsets.value, slot - case.base)
            await ctx.tick()
        ctx.set(block.offsets.enable, 0)
        ctx.set(block.config.base, case.base)
        ctx.set(block.config.ask, len(case.slots))
        await ctx.tick()
        ctx.set(block.config.ask, 0)
        await ctx.tick().repeat((10 if chip is None else 54) * len(case.slots))
        assert ctx.get(block.status.answered) == len(case.slots)
        assert ctx.get(block.status.lookback) == 4 * case.kept_words
        for address in range(len(case.slots)):
            ctx.set(block.address, address)
            await ctx.tick().repeat(2)
            answers.append(ctx.get(block.value))
        assert ctx.get(block.status.failed) == (enable and case.trace.failed_word is not None)
        ctx.set(block.arm, 1)
        await ctx.tick().repeat(2)
        assert ctx.get(block.status.failed) == 0

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    if chip is not None:
        simulator.add_testbench(stepping(block, chip), background=True)
    simulator.run()
    return seen, answers


@pytest.mark.parametrize("chip", [None, "chip"])
@pytest.mark.parametrize("index", range(6))
def test_as_the_golden_model(index, chip):
    case = cases(chip is not None)[index]
    seen, answers = simulate(case, chip=chip and ChipModel(power_up_ns=2000))
    case.check(seen)
    assert answers == case.answers
    assert sum(answer >> 1 for answer in answers) > 0 or case.trace.failed_word == 4


def test_not_enabled_nothing_is_kept_and_nothing_stops():
    seen, answers = simulate(cases()[2], enable=0)
    assert not any(seen["blocked"])
    assert not any(seen["failed"])
    assert not any(answers)


class Run:
    """Runs of words from `FIRST` on, with bits that follow from run and word, and questions at any time."""

    FIRST = 4096

    def __init__(self, ctx, block):
        self.ctx, self.block = ctx, block
        self.word = None
        self.first = self.FIRST
        self.number = 0

    def bits(self, word):
        return ((word + 77 * self.number) * 0x9E37 >> 5) & 15

    async def step(self, count=1, enable=1):
        for _ in range(count):
            running = self.word is not None
            tick = {"running": running, "slot_word": self.word or 0, "segment": QUANTUM}
            self.ctx.set(self.block.tick, tick)
            self.ctx.set(self.block.valid, 1)
            self.ctx.set(self.block.bits, self.bits(self.word + 1 if running else self.first))
            self.ctx.set(self.block.config.enable, enable)
            await self.ctx.tick()
            self.word = self.word + 1 if running else None

    async def arm(self):
        self.number += 1
        self.ctx.set(self.block.arm, 1)
        await self.step()
        self.ctx.set(self.block.arm, 0)

    async def start(self, first=FIRST):
        self.first = first
        await self.arm()
        await self.step()
        self.word = first

    async def pose(self, words):
        """Write the questions for slot 1 of some words."""
        self.ctx.set(self.block.offsets.enable, 1)
        for address, word in enumerate(words):
            self.ctx.set(self.block.offsets.address, address)
            self.ctx.set(self.block.offsets.value, 4 * word + 1)
            await self.step()
        self.ctx.set(self.block.offsets.enable, 0)

    async def ask(self, count):
        self.ctx.set(self.block.config.ask, count)
        await self.step()
        self.ctx.set(self.block.config.ask, 0)

    async def answers(self, count):
        for _ in range(54 * count + 10):
            await self.step()
        assert self.ctx.get(self.block.status.answered) == count
        found = []
        for address in range(count):
            self.ctx.set(self.block.address, address)
            await self.step(2)
            found.append(self.ctx.get(self.block.value))
        return found

    async def asked(self, words):
        await self.pose(words)
        await self.ask(len(words))
        return await self.answers(len(words))

    def right(self, words):
        return [2 | self.bits(word) >> 1 & 1 for word in words]


CHIP = SdramChip(row_bits=2, column_bits=4, power_up_us=2)
"""A ring of 1024 words."""


def simulate_run(bench, *, chip=True, ready=True, words=1024):
    block = ExternalBits(SdramRing(CHIP) if chip else BlockRing(words))

    async def testbench(ctx):
        ctx.set(block.clock_locked, 1)
        if chip and ready:
            await ctx.tick().until(block.status.lookback != 0)
        await bench(Run(ctx, block), ctx, block)

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    if chip:
        simulator.add_testbench(stepping(block, ChipModel(power_up_ns=2000)), background=True)
    simulator.run()


@pytest.mark.parametrize("chip", [False, True])
def test_asked_anew_in_the_middle_of_an_answer(chip):
    """At every clock: the answers are those to the new questions."""

    async def bench(run, ctx, block):
        await run.start()
        await run.step(300)
        run.word = None
        await run.step(100)
        old, new = [run.FIRST + 10] * 3, [run.FIRST + 13, run.FIRST + 14]
        assert run.right(old)[0] != run.right(new)[0]
        for clocks in range(60 if chip else 20):
            await run.pose(old)
            await run.ask(3)
            await run.step(clocks)
            # The questions are written while the old ones are answered, as a host with a lost packet would.
            await run.pose(new)
            await run.ask(2)
            assert await run.answers(2) == run.right(new), clocks

    simulate_run(bench, chip=chip)


@pytest.mark.parametrize("chip", [False, True])
def test_what_has_not_settled_is_not_kept(chip):
    """Asked while the run goes on: a slot of the last words is answered right or as not kept, an older one is right."""

    async def bench(run, ctx, block):
        await run.start()
        await run.step(200)
        unkept = 0
        unsettled_words = (SdramRing if chip else BlockRing).unsettled_words
        for ahead in range(-90, 60):
            word = run.word + ahead
            (answer,) = await run.asked([word])
            assert answer in (0, *run.right([word]))
            assert answer or ahead > -unsettled_words
            unkept += not answer
        assert unkept > 30

    simulate_run(bench, chip=chip)


def test_asked_right_after_the_end():
    async def bench(run, ctx, block):
        for clocks in range(0, 80, 3):
            await run.start()
            await run.step(101)
            run.word = None
            await run.step(clocks)
            last = run.FIRST + 100
            (answer,) = await run.asked([last])
            assert answer in (0, *run.right([last]))
            await run.step(100)
            words = [last - 32, last, last + 1]
            assert await run.asked(words) == [*run.right(words[:2]), 0]

    simulate_run(bench)


def test_a_run_that_begins_before_the_chip_is_ready():
    async def bench(run, ctx, block):
        await run.start()
        while not ctx.get(block.status.lookback):
            await run.step()
        first_kept = run.word
        await run.step(300)
        words = [first_kept - 40, first_kept - 2, first_kept + 33, run.word - 70]
        answers = await run.asked(words)
        assert answers == [0, 0, *run.right(words[2:])]

    simulate_run(bench, ready=False)


def test_a_lost_clock_forgets_what_the_chip_held():
    async def bench(run, ctx, block):
        await run.start()
        await run.step(300)
        run.word = None
        await run.step(100)
        word = run.FIRST + 100
        assert await run.asked([word]) == run.right([word])
        ctx.set(block.clock_locked, 0)
        await run.step(3)
        ctx.set(block.clock_locked, 1)
        assert ctx.get(block.status.lookback) == 0
        assert await run.asked([word]) == [0]
        while not ctx.get(block.status.lookback):
            await run.step()
        assert await run.asked([word]) == [0]

    simulate_run(bench)


@pytest.mark.parametrize("chip", [False, True])
def test_switched_off_in_a_run_what_was_before_is_forgotten(chip):
    async def bench(run, ctx, block):
        await run.start()
        await run.step(100)
        await run.step(10, enable=0)
        await run.step(200)
        words = [run.FIRST + n for n in (50, 99, 104, 120, 200)]
        assert await run.asked(words) == [0, 0, 0, *run.right(words[3:])]

    simulate_run(bench, chip=chip)


def test_a_new_run_forgets_the_one_before():
    async def bench(run, ctx, block):
        # The old run ends, and the new one begins, with one word of a line: the lines are closest together.
        for gap in (2, *range(29, 70, 3)):
            await run.start()
            await run.step(129)
            run.word = None
            await run.step(gap)
            await run.start(run.FIRST + 31)
            await run.step(400)
            words = [run.FIRST + n for n in (0, 30, 31, 60, 100, 300)]
            answers = await run.asked(words)
            assert answers[:2] == [0, 0]
            for answer, right in zip(answers[2:], run.right(words[2:]), strict=True):
                assert answer in (0, right)
            # Only a run that follows at once may lose words of its beginning.
            assert gap < 60 or all(answers[2:])
            run.word = None
            await run.step(100)

    simulate_run(bench)


def test_a_ring_of_several_banks():
    """Of 32,768 words, as on boards: answers come from the bank that was asked, also where the next one is written."""

    async def bench(run, ctx, block):
        first = (1 << 15) - 20
        await run.start(first)
        await run.step(50)
        await run.step((1 << 14) + 50)
        run.word = None
        await run.step(20)
        words = [first, (1 << 15) - 1, 1 << 15, first + (1 << 14), first + (1 << 14) + 98, first - 1]
        assert await run.asked(words) == [*run.right(words[:-1]), 0]

    simulate_run(bench, chip=False, words=1 << 15)


def test_ring_sizes():
    with pytest.raises(ValueError, match="ring of 48 words; give a power of two above 8"):
        BlockRing(48)


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(ExternalBits(small_ring()), "bench_external_bits", tmp_path)


@pytest.mark.cocotb
def test_exported_verilog_with_a_chip(tmp_path):
    run_bench(ExternalBits(small_ring(chip=True)), "bench_external_bits", tmp_path, env={"CHIP": "1"})
