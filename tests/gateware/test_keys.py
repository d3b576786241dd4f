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
        """Order a key and wait; returns the word from which on its samples count."""
        first_word = self.word + 2
        await self.strobe("make")
        await self.words(4)
        await self.until(lambda: not self.status("key_state") & MAKING, 40_000)
        await self.words(20)
        return first_word

    async def regenerate(self, place, nonce, stream, slots):
        ctx, block = self.ctx, self.block
        base = min(slots)
        for name, value in (("place", place), ("nonce", nonce), ("stream", stream), ("base", base)):
            ctx.set(block.config[f"regenerate_{name}"], value)
        await self.pose(slot - base for slot in slots)
        await self.strobe("regenerate", len(slots))
        return await self.answers(len(slots))

    async def pose(self, offsets):
        """Write the questions."""
        ctx, block = self.ctx, self.block
        for address, offset in enumerate(offsets):
            ctx.set(block.offsets.address, address)
            ctx.set(block.offsets.value, offset)
            ctx.set(block.offsets.enable, 1)
            await self.words()
        ctx.set(block.offsets.enable, 0)

    async def answers(self, count):
        """Wait for the answers and read them."""
        ctx, block = self.ctx, self.block
        await self.until(lambda: self.status("answered") == count, 200 * count + 1000)
        answers = []
        for address in range(count):
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


@pytest.fixture
def short_keys(monkeypatch):
    """A key takes two blocks of samples, not thirty-two: half a minute of simulation less."""
    monkeypatch.setattr("qrelay_gateware.keys.CONDITIONING_BLOCKS", 1)


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
        samples = used_samples(bench.samples, await bench.make())
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


@pytest.mark.usefixtures("short_keys")
def test_interval_in_a_run_places_and_the_key_in_use():
    """Keys at an interval until every place is taken; the key in use stays while the station runs."""

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


@pytest.mark.usefixtures("short_keys")
def test_an_order_of_before_spares_the_key_that_is_in_use_by_then():
    """Erasures wait while a key is made; that key is the one in use when they are carried out."""

    async def scenario(bench):
        await bench.healthy()
        await bench.make()
        bench.ctx.set(bench.block.in_use, 1)
        await bench.strobe("make")
        await bench.words(100)
        assert bench.status("key_state") == MAKING | ON_BOARD
        await bench.strobe("erase", 0b1110)  # all but the present one
        await bench.until(lambda: bench.status("key_place") == 1, 4000)
        await bench.words(1500)
        assert bench.status("keys") == 0b0011
        assert bench.status("key_state") == ON_BOARD | ERASE_REFUSED
        assert bench.key is not None
        assert "unload" not in bench.events

    run(scenario)


@pytest.mark.usefixtures("short_keys")
def test_arming_while_the_key_is_being_erased():
    """Whichever comes first: either the station saw that its key goes and does not arm, or the key stays.

    The station refuses to arm two words after `on_board` fell, and an order to arm that it took before acts a word
    later.
    """

    async def scenario(bench):
        await bench.healthy()
        for delay in (0, 1, 2, 3, 4, 5, 6, 9, 14):
            await bench.make()
            await bench.strobe("erase", 0b1111)
            gone = 0
            for _ in range(delay):
                await bench.words()
                gone = gone + 1 if not bench.status("key_state") & ON_BOARD else 0
            arms = gone <= 3
            bench.ctx.set(bench.block.in_use, int(arms))
            await bench.words(600)
            assert (bench.key is not None) == arms == bool(bench.status("keys")), delay
            assert bool(bench.status("key_state") & ON_BOARD) == arms, delay
            bench.ctx.set(bench.block.in_use, 0)
            await bench.strobe("erase", 0b1111)
            await bench.words(1500)
            assert bench.status("keys") == 0

    run(scenario)


@pytest.mark.usefixtures("short_keys")
def test_an_erasure_ordered_around_the_end_of_another_is_carried_out():
    async def scenario(bench):
        await bench.healthy()
        await bench.make()
        began = bench.word
        await bench.strobe("erase", 0b01)
        while bench.status("keys"):
            await bench.words()
        end = bench.word - began
        for delay in range(end - 6, end + 3):
            while bench.status("keys") & 0b11 != 0b11:
                await bench.make()
            await bench.strobe("erase", 0b01)
            await bench.words(delay)
            await bench.strobe("erase", 0b10)
            await bench.words(600)
            assert bench.status("keys") & 0b11 == 0, delay

    run(scenario)


@pytest.mark.usefixtures("short_keys")
def test_orders_to_make_a_key_are_joined_to_one_under_way():
    async def scenario(bench):
        await bench.healthy()
        await bench.strobe("make")
        for _ in range(20):
            await bench.words(50)
            assert bench.status("key_state") & MAKING
            await bench.strobe("make")
        await bench.words(4000)
        assert bench.status("key_number") == 1
        assert bench.status("keys") == 0b0001
        assert bench.events == ["prepare"]

    run(scenario)


@pytest.mark.usefixtures("short_keys")
def test_asked_anew_in_the_middle_of_an_answer():
    """At every third clock of an answer: the answers are those to the new questions."""

    async def scenario(bench):
        await bench.healthy()
        await bench.make()
        stream = ChoiceStream(bench.key, 5, 6)
        old, new = [800, 801, 802], [840, 848]
        right = [1 << 16 | int(draw) for draw in stream.draws_at(new)]
        for name, value in (("place", 0), ("nonce", 5), ("stream", 6), ("base", 0)):
            bench.ctx.set(bench.block.config[f"regenerate_{name}"], value)
        for clocks in range(0, 150, 3):
            await bench.pose(old)
            await bench.strobe("regenerate", 3)
            await bench.words(clocks)
            await bench.pose(new)
            await bench.strobe("regenerate", 2)
            assert await bench.answers(2) == right, clocks

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
