"""The small AES: FIPS 197, the cryptography package as reference, keys that come in, are expanded and erased."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from qrelay.protocol.entropy import CONDITIONING_KEY, KEY_PLACES
from qrelay_gateware.aes_core import CONDITIONING_PLACE, AesCore, CoreCommand


def encrypted(key, block):
    return Cipher(AES256(key), ECB()).encryptor().update(block)


def columns(block):
    return np.frombuffer(block, "<u4").tolist()


def run(bench):
    core = AesCore()

    async def go(ctx):
        await bench(Driver(ctx, core))

    simulator = Simulator(core)
    simulator.add_clock(1e-6)
    simulator.add_testbench(go)
    simulator.run()


class Driver:
    def __init__(self, ctx, core):
        self.ctx, self.core = ctx, core

    async def do(self, command, place=0, half=0, plain=bytes(16)):
        """Carry out a command; returns the words that went to the keystream."""
        ctx, core = self.ctx, self.core
        ctx.set(core.start, 1)
        ctx.set(core.command, command)
        ctx.set(core.place, place)
        ctx.set(core.half, half)
        ctx.set(core.plain, columns(plain))
        await ctx.tick()
        ctx.set(core.start, 0)
        # Nothing that is there later matters.
        ctx.set(core.place, 7)
        ctx.set(core.plain, [0xDEADBEEF] * 4)
        words = {}
        clocks = 1
        while True:
            if ctx.get(core.done):
                break
            assert ctx.get(core.busy) == 1
            if ctx.get(core.key_valid):
                words[ctx.get(core.key_index)] = ctx.get(core.key_word)
            await ctx.tick()
            clocks += 1
        assert clocks == AesCore.latency(command)
        assert ctx.get(core.busy) == 0
        return words

    async def encrypt(self, place, block):
        await self.do(CoreCommand.ENCRYPT, place, plain=block)
        return b"".join(self.ctx.get(self.core.cipher[c]).to_bytes(4, "little") for c in range(4))

    async def store(self, place, key):
        for half in range(2):
            await self.do(CoreCommand.STORE, place, half, key[16 * half : 16 * half + 16])
        await self.do(CoreCommand.EXPAND, place)


def test_fips_197_example():
    """Appendix C.3; its key is that of the conditioning."""
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    cipher = bytes.fromhex("8ea2b7ca516745bfeafc49904b496089")
    assert bytes.fromhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f") == CONDITIONING_KEY

    async def bench(driver):
        assert await driver.encrypt(CONDITIONING_PLACE, plain) == cipher

    run(bench)


@pytest.mark.parametrize("seed", range(3))
def test_keys_of_all_places(seed):
    random = np.random.default_rng(seed)
    keys = [random.bytes(32) for _ in range(KEY_PLACES)]

    async def bench(driver):
        for place in random.permutation(KEY_PLACES).tolist():
            await driver.store(place, keys[place])
        for place in [*range(KEY_PLACES), 2, 2, 0]:
            block = random.bytes(16)
            assert await driver.encrypt(place, block) == encrypted(keys[place], block)
        words = await driver.do(CoreCommand.COPY, 1)
        assert [words[n] for n in range(8)] == np.frombuffer(keys[1], "<u4").tolist()
        await driver.do(CoreCommand.ERASE, 2)
        zeros = await driver.do(CoreCommand.COPY, 2)
        assert list(zeros.values()) == [0] * 8
        # Of an erased key not even the later round keys are left: all of them are zero.
        block = random.bytes(16)
        assert await driver.encrypt(2, block) == all_round_keys_zero(block)
        for place, key in ((1, keys[1]), (3, keys[3]), (CONDITIONING_PLACE, CONDITIONING_KEY)):
            assert await driver.encrypt(place, block) == encrypted(key, block)
        fresh = random.bytes(32)
        await driver.store(2, fresh)
        assert await driver.encrypt(2, block) == encrypted(fresh, block)

    run(bench)


def all_round_keys_zero(block):
    """The rounds of FIPS 197 without any key."""
    from qrelay_gateware.aes import SBOX

    def times_x(byte):
        return (byte << 1) ^ (0x11B if byte & 0x80 else 0)

    state = list(block)
    for number in range(1, 15):
        state = [SBOX[byte] for byte in state]
        state = [state[(4 * (c + r) + r) % 16] for c in range(4) for r in range(4)]
        if number < 14:
            mixed = []
            for c in range(4):
                a = state[4 * c : 4 * c + 4]
                mixed += [
                    times_x(a[r]) ^ times_x(a[(r + 1) % 4]) ^ a[(r + 1) % 4] ^ a[(r + 2) % 4] ^ a[(r + 3) % 4]
                    for r in range(4)
                ]
            state = mixed
    return bytes(state)


def test_a_command_while_busy_is_not_heard():
    async def bench(driver):
        ctx, core = driver.ctx, driver.core
        block = bytes(range(16))
        ctx.set(core.start, 1)
        ctx.set(core.command, CoreCommand.ENCRYPT)
        ctx.set(core.place, CONDITIONING_PLACE)
        ctx.set(core.plain, columns(block))
        await ctx.tick()
        ctx.set(core.command, CoreCommand.ERASE)
        ctx.set(core.plain, [1, 2, 3, 4])
        await ctx.tick().repeat(50)
        ctx.set(core.start, 0)
        while not ctx.get(core.done):
            await ctx.tick()
        seen = b"".join(ctx.get(core.cipher[c]).to_bytes(4, "little") for c in range(4))
        assert seen == encrypted(CONDITIONING_KEY, block)
        assert await driver.encrypt(CONDITIONING_PLACE, block) == seen

    run(bench)
