"""A second key beside the one in use: the change in a run loses no slot, and no key is used twice with a nonce."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from keystream_cases import key_words, random_key

from qrelay_gateware.keystream import Keystream
from qrelay_sim.golden.keystream import draws

FIRST, SECOND, THIRD = (random_key(seed) for seed in (11, 12, 13))


class Driver:
    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut
        self.word = 0
        self.draws = {}
        self.firsts = {}

    async def words(self, count=1):
        for _ in range(count):
            if self.ctx.get(self.dut.valid):
                self.draws[self.word] = self.ctx.get(self.dut.draws.as_value())
            if self.ctx.get(self.dut.first):
                self.firsts[self.word] = self.ctx.get(self.dut.first_slot)
            await self.ctx.tick()
            self.word += 1

    async def key(self, key):
        for address, value in enumerate(key_words(key)):
            self.ctx.set(self.dut.key.address, address)
            self.ctx.set(self.dut.key.value, value)
            self.ctx.set(self.dut.key.enable, 1)
            await self.words()
        self.ctx.set(self.dut.key.enable, 0)

    async def pulse(self, port):
        self.ctx.set(port, 1)
        await self.words()
        self.ctx.set(port, 0)

    async def load(self, key):
        await self.key(key)
        await self.pulse(self.dut.config.load)
        await self.words(Keystream.expansion_latency + 3)

    async def settings(self, nonce, stream=0):
        self.ctx.set(self.dut.config.nonce, nonce)
        self.ctx.set(self.dut.config.stream, stream)
        self.ctx.set(self.dut.config.enable, 1)
        await self.words(2)

    async def go(self, start_slot):
        """Start; returns the word of the first draws."""
        self.ctx.set(self.dut.start_slot, start_slot)
        await self.pulse(self.dut.go)
        return self.word - 1 + Keystream.latency

    def fresh(self):
        return bool(self.ctx.get(self.dut.fresh))


def run(bench):
    dut = Keystream()

    async def go(ctx):
        await bench(Driver(ctx, dut))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(go)
    simulator.run()


def as_words(values):
    return [sum(int(draw) << 16 * lane for lane, draw in enumerate(four)) for four in values.reshape(-1, 4)]


def expected(start_slot, words, *parts):
    """Draws per word: parts are (first slot, key, nonce, stream), in order."""
    slots = start_slot + np.arange(4 * words)
    values = np.zeros(4 * words, np.uint16)
    for first, key, nonce, stream in parts:
        of_key = slots >= first
        values[of_key] = draws(key, nonce, stream, first, int(of_key.sum()))
    return as_words(values)


@pytest.mark.parametrize("wait", range(6))
def test_change_in_a_run_loses_no_slot(wait):
    start_slot = 8 * 1000

    async def bench(driver):
        await driver.load(FIRST)
        await driver.settings(7, 3)
        first_word = await driver.go(start_slot)
        await driver.words(20 + wait)
        await driver.key(SECOND)
        await driver.pulse(driver.dut.prepare)
        assert not driver.ctx.get(driver.dut.settled)
        await driver.words(250)
        assert driver.ctx.get(driver.dut.settled)
        await driver.key(THIRD)
        await driver.pulse(driver.dut.prepare)
        await driver.words(250)
        (started, second_slot, third_slot) = driver.firsts.values()
        assert started == start_slot
        assert second_slot % 8 == third_slot % 8 == 0
        words = driver.word - first_word
        assert start_slot < second_slot < third_slot < start_slot + 4 * words
        model = expected(
            start_slot, words, (start_slot, FIRST, 7, 3), (second_slot, SECOND, 7, 3), (third_slot, THIRD, 7, 3)
        )
        assert driver.draws == {first_word + n: draw for n, draw in enumerate(model)}
        # The word of the report lies ahead of the draws: a record made of it is not late.
        for word, slot in list(driver.firsts.items())[1:]:
            assert first_word + (slot - start_slot) // 4 - word == Keystream.latency - 1
        # The nonce of the run is used up under the new keys too.
        await driver.pulse(driver.dut.halt)
        await driver.words(3)
        assert not driver.fresh()
        await driver.settings(8, 3)
        assert driver.fresh()

    run(bench)


def test_change_without_a_run_takes_any_nonce():
    async def bench(driver):
        await driver.load(FIRST)
        await driver.settings(7)
        await driver.go(0)
        await driver.words(60)
        await driver.pulse(driver.dut.halt)
        await driver.words(3)
        assert not driver.fresh()
        await driver.key(SECOND)
        assert driver.ctx.get(driver.dut.ready)
        driver.ctx.set(driver.dut.halt, 1)  # as a station does that is not armed
        await driver.pulse(driver.dut.prepare)
        await driver.words(Keystream.expansion_latency + 3)
        assert driver.ctx.get(driver.dut.settled)
        driver.ctx.set(driver.dut.halt, 0)
        assert driver.ctx.get(driver.dut.ready)
        assert driver.fresh()
        driver.draws.clear()
        first_word = await driver.go(80)
        await driver.words(100)
        words = driver.word - first_word
        assert list(driver.draws.values()) == expected(80, words, (80, SECOND, 7, 0))

    run(bench)


def test_first_key_of_all_may_be_a_prepared_one():
    async def bench(driver):
        await driver.settings(0)
        assert not driver.ctx.get(driver.dut.ready)
        await driver.key(FIRST)
        await driver.pulse(driver.dut.prepare)
        assert not driver.ctx.get(driver.dut.ready)
        await driver.words(Keystream.expansion_latency + 3)
        assert driver.fresh()
        first_word = await driver.go(800)
        await driver.words(100)
        assert list(driver.draws.values()) == expected(800, driver.word - first_word, (800, FIRST, 0, 0))

    run(bench)


def test_scrub_overwrites_the_bank_that_is_not_in_use():
    async def bench(driver):
        await driver.load(FIRST)
        await driver.key(SECOND)
        await driver.pulse(driver.dut.prepare)
        await driver.words(Keystream.expansion_latency + 3)
        await driver.settings(1)
        first_word = await driver.go(0)
        await driver.key(bytes(32))
        await driver.pulse(driver.dut.scrub)
        await driver.words(200)
        assert driver.ctx.get(driver.dut.settled)
        assert list(driver.firsts.values()) == [0]
        assert list(driver.draws.values()) == expected(0, driver.word - first_word, (0, SECOND, 1, 0))

    run(bench)


def test_load_ends_a_preparation():
    async def bench(driver):
        await driver.load(FIRST)
        await driver.settings(3)
        await driver.key(SECOND)
        await driver.pulse(driver.dut.prepare)
        await driver.words(20)
        await driver.load(THIRD)
        assert driver.ctx.get(driver.dut.settled)
        await driver.settings(3)
        first_word = await driver.go(16)
        await driver.words(300)
        assert list(driver.draws.values()) == expected(16, driver.word - first_word, (16, THIRD, 3, 0))

    run(bench)


def test_start_while_the_change_waits():
    """A start between `prepare` and the change: the run begins with the old key, and goes over to the new one."""

    async def bench(driver):
        await driver.load(FIRST)
        await driver.settings(3)
        await driver.key(SECOND)
        await driver.pulse(driver.dut.prepare)
        await driver.words(Keystream.expansion_latency - 4)
        first_word = await driver.go(64)
        await driver.words(200)
        started, changed = driver.firsts.values()
        assert started == 64
        model = expected(64, driver.word - first_word, (64, FIRST, 3, 0), (changed, SECOND, 3, 0))
        assert list(driver.draws.values()) == model
        assert 64 < changed < 64 + 4 * 20

    run(bench)


@pytest.mark.parametrize("erase", ["unload", "scrub"])
@pytest.mark.parametrize("before", ["nothing", "key"])
def test_without_a_key_nothing_is_ready_or_starts(before, erase):
    """What the key window holds after `unload`, or while nothing was loaded, is no key: it might be known, as zeros."""

    async def bench(driver):
        if before == "key":
            await driver.load(FIRST)
        await driver.settings(7)
        await driver.key(bytes(32))
        await driver.pulse(getattr(driver.dut, erase))
        await driver.words(2 * Keystream.expansion_latency)
        has_key = before == "key" and erase == "scrub"
        assert driver.ctx.get(driver.dut.settled)
        assert driver.ctx.get(driver.dut.ready) == has_key
        assert driver.fresh() == has_key
        await driver.go(8000)
        await driver.words(Keystream.latency + 10)
        assert bool(driver.draws) == has_key
        # The next key is one again, and takes any nonce where the one before is gone.
        await driver.load(SECOND)
        assert driver.fresh()

    run(bench)


def test_unload_ends_the_stream_at_once():
    async def bench(driver):
        await driver.load(FIRST)
        await driver.settings(7)
        await driver.go(8000)
        await driver.words(Keystream.latency + 10)
        assert driver.ctx.get(driver.dut.valid)
        await driver.pulse(driver.dut.unload)
        assert not driver.ctx.get(driver.dut.valid)
        assert not driver.fresh()

    run(bench)


def test_a_prepared_key_after_unload_is_a_key():
    async def bench(driver):
        await driver.load(FIRST)
        await driver.pulse(driver.dut.unload)
        await driver.words(Keystream.expansion_latency + 3)
        await driver.key(SECOND)
        await driver.pulse(driver.dut.prepare)
        await driver.settings(1)
        await driver.words(2 * Keystream.expansion_latency)
        first_word = await driver.go(8000)
        await driver.words(Keystream.latency + 10)
        assert driver.draws[first_word] == expected(8000, 1, (8000, SECOND, 1, 0))[0]

    run(bench)
