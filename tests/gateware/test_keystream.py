"""Keystream against published vectors, the `cryptography` package, and each promise of its docstring by name."""

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator
from cryptography.hazmat.primitives.ciphers import Cipher as Reference
from cryptography.hazmat.primitives.ciphers import algorithms, modes
from keystream_cases import CASES, RUNS_ON, Go, Key, key_words, random_case, start, words_of

from benches import run_bench
from qrelay.protocol.choice import counter_block
from qrelay_gateware.aes import SBOX, Aes256Pipeline, KeyExpansion
from qrelay_gateware.keystream import Keystream
from qrelay_sim.golden.keystream import draws, draws_at

INPUTS = ("load", "go", "halt")


def simulate(component, bench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


async def drive(ctx, dut, inputs):
    """Set the inputs of one word."""
    for name in INPUTS:
        ctx.set(dut.config.load if name == "load" else getattr(dut, name), inputs.get(name, 0))
    for name in ("nonce", "stream", "enable"):
        if name in inputs:
            ctx.set(dut.config[name], inputs[name])
    if "start_slot" in inputs:
        ctx.set(dut.start_slot, inputs["start_slot"])
    ctx.set(dut.key.enable, "key" in inputs)
    if "key" in inputs:
        ctx.set(dut.key.address, inputs["key"][0])
        ctx.set(dut.key.value, inputs["key"][1])


def run(dut, commands):
    """Run commands; compare every output in every word with the model. Returns the draws of valid words."""
    valid_draws = []

    async def bench(ctx):
        for word, (inputs, expected) in enumerate(words_of(commands)):
            await drive(ctx, dut, inputs)
            seen = tuple(ctx.get(s) for s in (dut.valid, dut.draws.as_value(), dut.ready, dut.fresh))
            assert seen == expected, f"word {word}"
            if seen[0]:
                valid_draws.append(seen[1])
            await ctx.tick()

    simulate(dut, bench)
    return valid_draws


class Cipher(wiring.Component):
    """Key expansion and pipeline alone, to encrypt any block."""

    def __init__(self):
        self.expansion = KeyExpansion()
        self.pipeline = Aes256Pipeline()
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.expansion, self.pipeline]
        m.d.comb += self.pipeline.keys.eq(self.expansion.keys)
        return m


def encrypt(key: bytes, blocks: bytes) -> bytes:
    """Encrypt blocks by the gateware."""
    dut = Cipher()
    words = key_words(key)
    result = bytearray()

    async def bench(ctx):
        ctx.set(dut.expansion.load, 1)
        for word in range(KeyExpansion.latency):
            assert not ctx.get(dut.expansion.ready)
            if word:
                ctx.set(dut.expansion.key_word, words[ctx.get(dut.expansion.key_index) % 8])
            await ctx.tick()
            ctx.set(dut.expansion.load, 0)
        assert ctx.get(dut.expansion.ready)
        ctx.set(dut.pipeline.enable, 1)
        for clock in range(len(blocks) // 8 + Aes256Pipeline.latency):
            ctx.set(dut.pipeline.phase, clock % 2)
            block = blocks[8 * clock : 8 * clock + 16] if clock % 2 == 0 else b""
            ctx.set(dut.pipeline.plain.as_value(), int.from_bytes(block, "little"))
            if clock >= Aes256Pipeline.latency and clock % 2 == 0:
                result.extend(ctx.get(dut.pipeline.cipher.as_value()).to_bytes(16, "little"))
            await ctx.tick()

    simulate(dut, bench)
    return bytes(result)


def test_sbox_of_fips_197():
    """Figure 7: its first and last rows, the example of 5.1.1, and a permutation."""
    assert bytes(SBOX[:16]).hex() == "637c777bf26b6fc53001672bfed7ab76"
    assert bytes(SBOX[-16:]).hex() == "8ca1890dbfe6426841992d0fb054bb16"
    assert SBOX[0x53] == 0xED
    assert sorted(SBOX) == list(range(256))


def test_fips_197_example_c3():
    cipher = encrypt(bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff"))
    assert cipher.hex() == "8ea2b7ca516745bfeafc49904b496089"


def test_sp_800_38a_ctr_aes256_f55():
    """The encrypted counter blocks of F.5.5: the output blocks, and the ciphertext that follows from them."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    first = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    counters = b"".join((first + block).to_bytes(16, "big") for block in range(4))
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    output = encrypt(key, counters)
    assert output[:16].hex() == "0bdf7df1591716335e9a8b15c860c502"
    cipher = bytes(a ^ b for a, b in zip(output, plain, strict=True))
    assert cipher.hex() == (
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )


def test_golden_model_against_counter_mode():
    """The golden model encrypts counter blocks one by one; here the package's own counter mode counts."""
    key = bytes(range(32))
    nonce, stream, block = 0x0123456789ABCDEF, 0xFEDC, (1 << 45) - 9
    counter = Reference(algorithms.AES256(key), modes.CTR(counter_block(nonce, stream, block))).encryptor()
    expected = np.frombuffer(counter.update(bytes(16 * 9)), "<u2")
    np.testing.assert_array_equal(draws(key, nonce, stream, 8 * block, 72), expected)
    np.testing.assert_array_equal(draws_at(key, nonce, stream, [8 * block + 71, 8 * block]), expected[[71, 0]])


def test_every_sbox_entry_in_every_round():
    """300 random blocks look up 4800 entries per round; that a given round misses one of 256 has a chance of 2e-6."""
    random = np.random.default_rng(7)
    key, blocks = random.bytes(32), random.bytes(16 * 300)
    assert encrypt(key, blocks) == Reference(algorithms.AES256(key), modes.ECB()).encryptor().update(blocks)


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    assert run(Keystream(), CASES[case])


@pytest.mark.parametrize("seed", range(4))
def test_random_commands(seed):
    run(Keystream(), random_case(seed))


@pytest.mark.parametrize("seed", range(4))
def test_random_keys_nonces_streams(seed):
    random = np.random.default_rng(50 + seed)
    nonce, stream = int(random.integers(1 << 63)), int(random.integers(1 << 16))
    slot = 8 * int(random.integers(1 << 45))
    assert len(run(Keystream(), start(random.bytes(32), nonce, stream, slot, Keystream.latency + 40))) == 41


def test_no_gap_and_every_draw_over_a_thousand_words():
    valid = run(Keystream(), RUNS_ON)
    assert len(valid) == 1201
    assert len(set(valid)) == len(valid)


def test_start_slot_counts_in_blocks():
    """Bits 2:0 of the start slot are ignored, as the docstring says."""

    def seen(start_slot):
        commands = start(bytes(32), 1, 2, 80, Keystream.latency + 6)
        commands[4] = Go(80)
        result = []
        dut = Keystream()

        async def bench(ctx):
            for inputs, _ in words_of(commands):
                await drive(ctx, dut, inputs | ({"start_slot": start_slot} if "start_slot" in inputs else {}))
                result.append(ctx.get(dut.draws.as_value()))
                await ctx.tick()

        simulate(dut, bench)
        return result

    assert seen(80) == seen(87)
    assert seen(80) != seen(88)


def test_later_settings_do_not_act_on_a_run():
    """Start slot, stream and nonce are taken in the word of go."""
    dut = Keystream()

    async def bench(ctx):
        for inputs, expected in words_of(start(bytes(32), 1, 2, 80, Keystream.latency + 60)):
            await drive(ctx, dut, inputs)
            assert ctx.get(dut.draws.as_value()) == expected[1]
            await ctx.tick()
            if "go" in inputs:
                ctx.set(dut.start_slot, 0xFFFF)
                ctx.set(dut.config.stream, 0xFFFF)
                ctx.set(dut.config.nonce, 0xFFFF)

    simulate(dut, bench)


@pytest.mark.parametrize("first_block", [0, 5])
def test_a_run_ends_before_a_block_repeats(first_block):
    """With 6 bits of block index: 64 blocks, of which those still in the pipeline are not delivered."""
    dut = Keystream(block_bits=6)
    blocks = 1 << 6
    seen = []

    async def bench(ctx):
        for inputs, _ in words_of(start(bytes(range(32)), 1, 2, 8 * first_block, 6 * blocks)):
            await drive(ctx, dut, inputs)
            seen.append((ctx.get(dut.valid), ctx.get(dut.draws.as_value())))
            await ctx.tick()

    simulate(dut, bench)
    valid = [draws for valid, draws in seen if valid]
    assert not any(draws for valid, draws in seen if not valid)
    assert len(set(valid)) == len(valid) == 2 * blocks - Aes256Pipeline.latency - 1
    slots = (np.arange(4 * len(valid)) + 8 * first_block) % (8 * blocks)
    expected = draws_at(bytes(range(32)), 1, 2, slots).reshape(-1, 4).tolist()
    assert valid == [sum(draw << 16 * lane for lane, draw in enumerate(four)) for four in expected]


def test_stopped_keystream_toggles_nothing(tmp_path):
    """Soon after halt no signal of the pipeline but its clock and inputs changes, whatever the other inputs do."""
    dut = Keystream()
    halted_at_words = 0
    rest_words = 4
    """One word to act on `halt`, three until the registers have taken what the tables last gave."""

    async def bench(ctx):
        nonlocal halted_at_words
        for inputs, _ in words_of(start(bytes(range(32)), 1, 2, 80, Keystream.latency + 9)):
            await drive(ctx, dut, inputs)
            await ctx.tick()
            halted_at_words += 1
        ctx.set(dut.halt, 1)
        await ctx.tick().repeat(rest_words)
        for word in range(20):
            ctx.set(dut.halt, word % 3 == 0)
            ctx.set(dut.config.nonce, word)
            ctx.set(dut.start_slot, word * 8)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    with simulator.write_vcd(str(tmp_path / "halt.vcd")):
        simulator.run()
    changes = pipeline_changes(tmp_path / "halt.vcd")
    microsecond = 10**9
    running = {name for time, name in changes if time < halted_at_words * microsecond}
    assert len(running) > 100
    assert {name for time, name in changes if time > (halted_at_words + rest_words) * microsecond} <= {"clk"}


def pipeline_changes(path):
    """(time in fs, signal) of each change in the scope of the pipeline."""
    scopes, names, changes, time = [], {}, [], 0
    for line in path.read_text().splitlines():
        match line.split():
            case ["$timescale", *unit, "$end"]:
                assert unit == ["1", "fs"]
            case ["$scope", _, scope, *_]:
                scopes.append(scope)
            case ["$upscope", *_]:
                scopes.pop()
            case ["$var", _, _, identifier, name, *_]:
                if "pipeline" in scopes:
                    names[identifier] = name
            case [stamp] if stamp.startswith("#"):
                time = int(stamp[1:])
            case [change] if change[1:] in names and change[0] in "01":
                changes.append((time, names[change[1:]]))
            case [_, identifier] if identifier in names:
                changes.append((time, names[identifier]))
    return changes


def test_key_cannot_be_read():
    """Draws, slots and flags leave the block; no draw does before the cipher has run."""
    top = rtlil.convert(Keystream(), emit_src=False).split("module \\top")[1].split("\n")
    outputs = [line.split()[-1] for line in top if " output " in line]
    assert sorted(outputs) == [
        "\\draws",
        "\\first",
        "\\first_slot",
        "\\fresh",
        "\\ready",
        "\\settled",
        "\\valid",
    ]
    for key in (bytes(32), bytes([255] * 32)):
        assert not run(Keystream(), [Key(key), *start(key, 1, 2, 0, Keystream.latency - 1)])


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Keystream(), "bench_keystream", tmp_path)
