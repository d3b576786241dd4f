"""Keys made on board: conditioning, places, erasure, refusals; draws of them on request; raw samples."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from qrelay.choices import ChoiceStream
from qrelay.protocol.entropy import CONDITIONING_BLOCKS, KEY_PLACES
from qrelay.protocol.registers import GROUPS
from qrelay.protocol.windows import window
from qrelay_gateware.aes_core import AesCore, CoreCommand
from qrelay_gateware.entropy import EntropyBlock
from qrelay_sim.golden.conditioning import HALF_SAMPLES, conditioned

RESETS = {r.name: r.reset for g in GROUPS if g.name == "entropy" for r in g.registers if r.access == "rw"}
SAMPLE_WORDS = 2
MAKING, ON_BOARD, ERASE_REFUSED = 1, 2, 4
_ENCRYPT = AesCore.latency(CoreCommand.ENCRYPT) + 2
_STORE = AesCore.latency(CoreCommand.STORE) + 1


class Bench:
    """An entropy block with a fair source, and a keystream that takes its keys."""

    def __init__(self, ctx, block, seed):
        self.ctx, self.block = ctx, block
        self.coin = np.random.default_rng(seed)
        self.stuck = False
        self.word = 0
        self.samples = []
        """(word, sample) of all, the word in which it is used: that after the word of the level, which is odd."""
        self.window = [None] * 8
        """Key window of the keystream."""
        self.key = None
        self.unsettled = 0
        self.not_made = 0
        self.events = []
        for name, value in (RESETS | {"sample_words": SAMPLE_WORDS, "on_board": 1}).items():
            ctx.set(block.config[name], value)

    async def words(self, count=1):
        ctx, block = self.ctx, self.block
        for _ in range(count):
            level = 1 if self.stuck else int(self.coin.integers(2))
            ctx.set(block.noise, level)
            if self.word % SAMPLE_WORDS == 1:
                self.samples.append((self.word + 1, level))
            if ctx.get(block.key.enable):
                self.window[ctx.get(block.key.address)] = ctx.get(block.key.value)
            self.unsettled = max(0, self.unsettled - 1)
            for name in ("prepare", "scrub", "unload"):
                if ctx.get(getattr(block, name)):
                    self.events.append(name)
                    if name == "unload":
                        self.key = None
                    else:
                        self.unsettled = 110
                    if name == "prepare":
                        self.key = b"".join(word.to_bytes(4, "little") for word in self.window)
            ctx.set(block.settled, self.unsettled == 0)
            self.not_made += ctx.get(block.not_made)
            await ctx.tick()
            self.word += 1

    def status(self, name):
        return self.ctx.get(self.block.status[name])

    async def strobe(self, name, value=1):
        self.ctx.set(self.block.config[name], value)
        await self.words()
        self.ctx.set(self.block.config[name], 0)

    async def until(self, condition, limit):
        for _ in range(limit // 16):
            if condition():
                return
            await self.words(16)
        raise AssertionError(f"not within {limit} words")

    async def healthy(self):
        await self.until(lambda: self.status("health") & 2, SAMPLE_WORDS * 1100)

    async def make(self):
        """Order a key and wait; returns the samples that it ought to be made of."""
        first_word = self.word + 2
        await self.strobe("make")
        await self.words(4)
        await self.until(lambda: not self.status("key_state") & MAKING, 40_000)
        await self.words(20)
        return used_samples(self.samples, first_word)

    async def regenerate(self, place, nonce, stream, slots):
        ctx, block = self.ctx, self.block
        base = min(slots)
        for name, value in (("place", place), ("nonce", nonce), ("stream", stream), ("base", base)):
            ctx.set(block.config[f"regenerate_{name}"], value)
        for address, slot in enumerate(slots):
            ctx.set(block.offsets.address, address)
            ctx.set(block.offsets.value, slot - base)
            ctx.set(block.offsets.enable, 1)
            await self.words()
        ctx.set(block.offsets.enable, 0)
        await self.strobe("regenerate", len(slots))
        await self.until(lambda: self.status("answered") == len(slots), 200 * len(slots) + 1000)
        answers = []
        for address in range(len(slots)):
            ctx.set(block.answer_address, address)
            await self.words(2)
            answers.append(ctx.get(block.answer_value))
        return answers


def run(scenario, seed=1):
    block = EntropyBlock(True)

    async def go(ctx):
        await scenario(Bench(ctx, block, seed))

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(go)
    simulator.run()


def used_samples(levels, first_word):
    """Which of the samples (word, value) make the key that was ordered so that samples count from `first_word` on.

    During an encryption none is used; half a key ends with its storing.
    """
    used, free_at = [], first_word
    for word, value in levels:
        if word >= free_at:
            used.append(value)
            if len(used) == 2 * HALF_SAMPLES:
                return np.array(used, np.uint8)
            if len(used) % 128 == 0:
                free_at = word + _ENCRYPT + (_STORE if len(used) % (128 * CONDITIONING_BLOCKS) == 0 else 0)
    raise AssertionError(f"{len(used)} samples only")


def test_a_key_is_made_of_the_samples_and_answers_for_its_slots():
    """One key: what the keystream gets is the CBC-MAC of the samples; its draws come back on request alone."""

    async def scenario(bench):
        await bench.strobe("make")  # the start-up test is not over
        await bench.words(10)
        assert bench.not_made == 1
        assert bench.status("keys") == 0
        await bench.healthy()
        samples = await bench.make()
        key = conditioned(samples)
        assert bench.key == key
        assert bench.events == ["prepare"]
        assert bench.window == [0] * 8  # nothing is left where the host's keys go
        assert bench.status("keys") == 0b0001
        assert bench.status("key_state") == ON_BOARD
        assert (bench.status("key_place"), bench.status("key_number")) == (0, 1)

        random = np.random.default_rng(3)
        first = 8 * int(random.integers(1 << 44))
        slots = sorted({first, *(first + random.integers(0, 1 << 32, 10)).tolist(), first + (1 << 32) - 1})
        stream = ChoiceStream(key, 0x0123456789ABCDEF, 0xA5C3)
        answers = await bench.regenerate(0, stream.nonce, stream.stream, slots)
        assert answers == [1 << 16 | int(draw) for draw in stream.draws_at(slots)]
        assert await bench.regenerate(1, stream.nonce, stream.stream, slots[:3]) == [0] * 3  # no key there

        # Erased while nothing runs: the keystream loses it too, and no request is answered any more.
        await bench.strobe("erase", 1)
        await bench.words(400)
        assert bench.events == ["prepare", "scrub", "unload"]
        assert bench.status("keys") == 0
        assert bench.status("key_state") == 0
        assert await bench.regenerate(0, stream.nonce, stream.stream, slots[:3]) == [0] * 3

    run(scenario)


def test_a_source_that_fails_while_a_key_is_made():
    async def scenario(bench):
        await bench.healthy()
        await bench.strobe("make")
        await bench.words(3000)
        assert bench.status("key_state") == MAKING
        bench.stuck = True
        await bench.words(SAMPLE_WORDS * 90 + 200)
        assert bench.status("key_state") == 0
        assert bench.not_made == 1
        assert bench.status("keys") == 0
        assert bench.events == []
        assert bench.window == [None] * 8
        await bench.strobe("make")
        await bench.words(10)
        assert bench.not_made == 2

    run(scenario)


@pytest.mark.parametrize("why", ["record", "on_board"])
def test_reasons_to_make_no_key(why):
    async def scenario(bench):
        await bench.healthy()
        bench.ctx.set(bench.block.config[why], int(why == "record"))
        await bench.words(2)
        await bench.strobe("make")
        await bench.words(10)
        assert bench.not_made == 1
        assert bench.status("key_state") == 0

    run(scenario)


def test_interval_in_a_run_places_and_the_key_in_use(monkeypatch):
    """Keys at an interval until every place is taken; the key in use stays while the station runs."""
    # Half a minute of simulation less: a key of this test takes two blocks, not thirty-two.
    monkeypatch.setattr("qrelay_gateware.keys.CONDITIONING_BLOCKS", 1)

    async def scenario(bench):
        await bench.healthy()
        bench.ctx.set(bench.block.config.reseed_words, 1800)
        bench.ctx.set(bench.block.running, 1)
        bench.ctx.set(bench.block.in_use, 1)
        keys = []
        for number in range(1, KEY_PLACES + 1):
            await bench.until(lambda number=number: bench.status("key_number") == number, 4000)
            keys.append(bench.key)
            assert bench.status("keys") == (1 << number) - 1
            assert bench.status("key_place") == number - 1
        assert len(set(keys)) == KEY_PLACES
        assert bench.not_made == 0
        await bench.words(1900)
        assert bench.not_made == 1  # no free place: nothing is overwritten
        bench.ctx.set(bench.block.config.reseed_words, 0)

        slots = [800, 801, 4711]
        for place, key in enumerate(keys):
            expected = ChoiceStream(key, 5, 6).draws_at(slots)
            assert await bench.regenerate(place, 5, 6, slots) == [1 << 16 | int(draw) for draw in expected]

        await bench.strobe("erase", 0b1010)
        await bench.words(600)
        assert bench.status("keys") == 0b1101  # place 3 is in use
        assert bench.status("key_state") == ON_BOARD | ERASE_REFUSED
        await bench.strobe("erase", 0b1000)
        await bench.words(300)
        assert bench.status("keys") == 0b1101
        bench.ctx.set(bench.block.in_use, 0)
        await bench.strobe("erase", 0b1111)
        await bench.words(1000)
        assert bench.status("keys") == 0
        assert bench.status("key_state") == 0
        assert bench.key is None

    run(scenario)


def test_raw_samples_are_those_of_the_source():
    async def scenario(bench):
        await bench.words(100)
        bench.ctx.set(bench.block.config.record, 1)
        began = bench.word
        await bench.words(SAMPLE_WORDS * 32 * 20 + 10)
        written = bench.status("raw_words")
        assert written == 20
        words = []
        for address in range(written):
            bench.ctx.set(bench.block.raw_address, address)
            await bench.words(2)
            words.append(bench.ctx.get(bench.block.raw_value))
        seen = np.unpackbits(np.array(words, "<u4").view(np.uint8), bitorder="little")
        expected = [value for word, value in bench.samples if word >= began]
        assert seen.tolist() == expected[: 32 * written]
        assert window("raw").depth >= 16

    run(scenario)


def test_without_a_source_there_is_no_part_of_it():
    from amaranth.back import rtlil

    text = rtlil.convert(EntropyBlock(False), emit_src=False)
    assert "cell $" not in text.replace("cell $connect", "")
