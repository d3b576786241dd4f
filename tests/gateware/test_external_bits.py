"""Key bits from outside against their golden model: used in their word, kept, and never answered wrong."""

import pytest
from amaranth.sim import Simulator
from external_cases import OUTPUTS, RING_WORDS, SMALL_CHIP, cases
from sdram_chip import ChipModel, connect_chip
from stepping import resolve

from benches import run_bench
from qrelay_gateware.external_bits import ExternalBits


def simulate(case, enable=1, chip=None):
    block = ExternalBits(RING_WORDS, chip and SMALL_CHIP)
    seen = {name: [] for name in OUTPUTS}
    answers = []

    async def step_chip(ctx):
        while True:
            connect_chip(ctx, block.sdram, chip)
            await ctx.tick()

    async def bench(ctx):
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
        await ctx.tick().repeat((8 if chip is None else 40) * len(case.slots))
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
        simulator.add_testbench(step_chip, background=True)
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


def test_ring_sizes():
    with pytest.raises(ValueError, match="ring of 48 words; give a power of two above 8, or 0 for no input"):
        ExternalBits(ring_words=48)


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(ExternalBits(RING_WORDS), "bench_external_bits", tmp_path)


@pytest.mark.cocotb
def test_exported_verilog_with_a_chip(tmp_path):
    run_bench(ExternalBits(0, SMALL_CHIP), "bench_external_bits", tmp_path, env={"CHIP": "1"})
