"""The register bank at its bus; whole requests are compared with the model in the bench of the link."""

import random

import pytest
from amaranth.sim import Simulator

from qrelay.protocol.registers import ADDRESS_BITS, GROUPS, register
from qrelay.protocol.windows import WINDOWS, window
from qrelay_gateware.csr import QUERY_LATENCY, READ_LATENCY, WRITE_LATENCY, RegisterBank

IDENTITY = [0x1000 + n for n in range(64)]


def run(bench):
    bank = RegisterBank(IDENTITY)
    simulator = Simulator(bank)
    simulator.add_clock(1e-8)

    async def process(ctx):
        await bench(ctx, bank)

    simulator.add_testbench(process)
    simulator.run()


async def read(ctx, bank, address):
    ctx.set(bank.bus.address, address)
    ctx.set(bank.bus.read, 1)
    await ctx.tick()
    ctx.set(bank.bus.read, 0)
    await ctx.tick().repeat(READ_LATENCY - 1)
    return ctx.get(bank.bus.read_value)


async def write(ctx, bank, address, value, latency=WRITE_LATENCY):
    ctx.set(bank.bus.address, address)
    ctx.set(bank.bus.write_value, value)
    ctx.set(bank.bus.write, 1)
    await ctx.tick()
    ctx.set(bank.bus.write, 0)
    await ctx.tick().repeat(latency - 1)


def test_map_of_every_address():
    """`mapped` and `writable` over the whole address space, one query per clock."""
    mapped = dict.fromkeys(range(1 << ADDRESS_BITS), 0)
    writable = dict(mapped)
    for group in GROUPS:
        for base, r in group.addressed():
            for word in range(-(-r.width // 32)):
                mapped[base + word] = 1
                writable[base + word] = int(r.access != "ro")
    for w in WINDOWS:
        for address in range(w.base, w.base + w.depth):
            mapped[address] = 1
            writable[address] = int(w.access != "ro")

    async def bench(ctx, bank):
        ctx.set(bank.bus.query, 1)
        for address in range((1 << ADDRESS_BITS) + QUERY_LATENCY):
            ctx.set(bank.bus.address, address)
            if address >= QUERY_LATENCY:
                asked = address - QUERY_LATENCY
                assert ctx.get(bank.bus.mapped) == mapped[asked], hex(asked)
                assert ctx.get(bank.bus.writable) == writable[asked], hex(asked)
            await ctx.tick()

    run(bench)


def test_resets_and_read_back_of_every_register():
    generator = random.Random(1)

    async def bench(ctx, bank):
        for group in GROUPS:
            for base, r in group.addressed():
                if r.access not in ("rw", "wo"):
                    continue
                setting = getattr(bank, f"config_{group.name}")[r.name]
                assert ctx.get(setting) == r.reset, r.name
                value = generator.getrandbits(96)
                for word in range(-(-r.width // 32)):
                    await write(ctx, bank, base + word, value >> 32 * word & 0xFFFFFFFF)
                    stored = value & ((1 << min(32 * word + 32, r.width)) - 1)
                    assert ctx.get(setting) & ((1 << 32 * word + 32) - 1) == stored, r.name
                    shown = await read(ctx, bank, base + word)
                    assert shown == (stored >> 32 * word if r.access == "rw" else 0), r.name

    run(bench)


def test_every_status_register_is_where_it_should_be():
    generator = random.Random(2)

    async def bench(ctx, bank):
        for group in GROUPS:
            for base, r in group.addressed():
                if r.access != "ro" or group.stored:
                    continue
                status = getattr(bank, f"status_{group.name}")[r.name]
                value = generator.getrandbits(r.width) | 1
                ctx.set(status, value)
                for word in range(-(-r.width // 32)):
                    assert await read(ctx, bank, base + word) == value >> 32 * word & 0xFFFFFFFF, r.name
                ctx.set(status, 0)

    run(bench)


def test_wide_state_is_read_in_one_piece():
    uptime, _ = register("system.uptime")
    slots, _ = register("timebase.slot_now")
    scratch, _ = register("system.scratch")

    async def bench(ctx, bank):
        ctx.set(bank.status_system.uptime, 0x0001_FFFFFFFF)
        assert await read(ctx, bank, uptime) == 0xFFFFFFFF
        ctx.set(bank.status_system.uptime, 0x0002_00000000)
        await read(ctx, bank, scratch)
        assert await read(ctx, bank, uptime + 1) == 1
        # Alone, or after the first word of another register, the later word is what it is.
        assert await read(ctx, bank, uptime + 1) == 2
        await read(ctx, bank, uptime)
        await read(ctx, bank, slots)
        ctx.set(bank.status_system.uptime, 0x0003_00000000)
        assert await read(ctx, bank, uptime + 1) == 3

    run(bench)


def test_strobes_last_one_clock():
    arm, _ = register("system.arm")

    async def bench(ctx, bank):
        await write(ctx, bank, arm, 1)
        assert ctx.get(bank.config_system.arm) == 1
        await ctx.tick()
        assert ctx.get(bank.config_system.arm) == 0
        assert await read(ctx, bank, arm) == 0
        await write(ctx, bank, arm, 0)
        assert ctx.get(bank.config_system.arm) == 0

    run(bench)


def test_alarms_latch_and_set_wins_over_clear():
    alarms, _ = register("system.alarms")

    async def bench(ctx, bank):
        ctx.set(bank.status_system.alarms, 0x8005)
        await ctx.tick()
        ctx.set(bank.status_system.alarms, 0)
        assert await read(ctx, bank, alarms) == 0x8005
        await write(ctx, bank, alarms, 0x0004)
        assert ctx.get(bank.config_system.alarms) == 0x8001
        ctx.set(bank.status_system.alarms, 1)
        await write(ctx, bank, alarms, 0xFFFF)
        assert ctx.get(bank.config_system.alarms) == 0x0001
        ctx.set(bank.status_system.alarms, 0)
        await write(ctx, bank, alarms, 1)
        assert await read(ctx, bank, alarms) == 0

    run(bench)


def test_windows():
    async def bench(ctx, bank):
        assert [await read(ctx, bank, n) for n in (0, 1, 63)] == [0x1000, 0x1001, 0x103F]
        steps = window("steps")
        await write(ctx, bank, steps.base + 63, 0xFFFFFFD5, WRITE_LATENCY - 1)
        assert ctx.get(bank.table_steps.enable)
        assert ctx.get(bank.table_steps.address) == 63
        assert ctx.get(bank.table_steps.value) == 0x55
        await ctx.tick()
        assert not ctx.get(bank.table_steps.enable)
        assert await read(ctx, bank, steps.base + 63) == 0x55
        await write(ctx, bank, window("key").base + 1, 0x5EC2E7)
        assert await read(ctx, bank, window("key").base + 1) == 0
        # The audit memory answers two clocks after its address.
        audit = window("audit")
        ctx.set(bank.bus.address, audit.base + 1000)
        ctx.set(bank.bus.read, 1)
        assert ctx.get(bank.read_audit.address) == 1000
        await ctx.tick()
        ctx.set(bank.bus.read, 0)
        await ctx.tick()
        ctx.set(bank.read_audit.value, 0xCAFE)
        await ctx.tick()
        ctx.set(bank.read_audit.value, 0)
        await ctx.tick().repeat(READ_LATENCY - 3)
        assert ctx.get(bank.bus.read_value) == 0xCAFE

    run(bench)


def test_stored_groups_are_asked_word_by_word():
    """The block's memory answers two clocks after its address."""
    (group,) = (group for group in GROUPS if group.stored)

    async def bench(ctx, bank):
        port = getattr(bank, f"read_{group.name}")
        for offset in range(group.words):
            ctx.set(bank.bus.address, group.base + offset)
            ctx.set(bank.bus.read, 1)
            assert ctx.get(port.address) == offset
            await ctx.tick()
            ctx.set(bank.bus.read, 0)
            await ctx.tick()
            ctx.set(port.value, 0xC0DE0000 + offset)
            await ctx.tick()
            ctx.set(port.value, 0xFFFFFFFF)
            await ctx.tick().repeat(READ_LATENCY - 3)
            assert ctx.get(bank.bus.read_value) == 0xC0DE0000 + offset
        scratch, _ = register("system.scratch")
        assert await read(ctx, bank, scratch) == 0

    run(bench)


def test_a_setting_reads_back_from_the_clock_after_its_write():
    scratch, _ = register("system.scratch")

    async def bench(ctx, bank):
        for value in (0x12345678, 0xFFFFFFFF, 0):
            ctx.set(bank.bus.address, scratch)
            ctx.set(bank.bus.write_value, value)
            ctx.set(bank.bus.write, 1)
            await ctx.tick()
            ctx.set(bank.bus.write, 0)
            assert await read(ctx, bank, scratch) == value

    run(bench)


def test_identity_must_fit():
    with pytest.raises(ValueError, match="identity of 65 words exceeds its window; give at most 64"):
        RegisterBank([0] * 65)
