"""Serial port against a model of the other side that knows time only, not clocks."""

import random
from fractions import Fraction
from itertools import pairwise

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer, with_timeout
from cocotb.utils import get_sim_time

CLOCK_PS = 13136
"""Period of the word clock, 76.13 MHz, rounded to an even number of ps (+60 ppm)."""
BAUD = 3_000_000
BIT_PS = Fraction(10**12, BAUD)


def now() -> int:
    return int(get_sim_time("ps"))


async def begin(dut):
    dut.rx.value = 1
    dut.received__ready.value = 0
    dut.to_send__valid.value = 0
    Clock(dut.clk, CLOCK_PS, unit="ps").start()
    dut.rst.value = 1
    for _ in range(4):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    for _ in range(8):
        await FallingEdge(dut.clk)


async def send_bits(dut, bits, bit_ps: Fraction):
    """Put bits on the line, each edge rounded to 1 ps from the start of the byte."""
    start = now()
    for n, bit in enumerate(bits):
        dut.rx.value = bit
        await Timer(int(start + (n + 1) * bit_ps) - now(), unit="ps")


async def send(dut, data, generator, bit_ps: Fraction):
    for byte in data:
        await send_bits(dut, [0, *(byte >> n & 1 for n in range(8)), 1], bit_ps)
        if generator.random() < 0.3:
            await Timer(generator.randrange(1, 400_000), unit="ps")


async def take(dut, received, generator, pause=0.5):
    while True:
        await FallingEdge(dut.clk)
        ready = generator.random() >= pause
        dut.received__ready.value = ready
        if ready and dut.received__valid.value:
            received.append(int(dut.received__payload.value))


@cocotb.test()
async def receives_at_any_allowed_rate(dut):
    """Senders from 1.5 % slow to 1.5 % fast, back to back and with gaps, edges at any phase of the clock."""
    generator = random.Random(1)
    received = bytearray()
    await begin(dut)
    cocotb.start_soon(take(dut, received, generator))
    expected = bytearray()
    for error in (Fraction(-15, 1000), Fraction(0), Fraction(15, 1000)):
        data = bytes((0x00, 0xFF, 0x55, 0xAA)) + generator.randbytes(60)
        expected += data
        await send(dut, data, generator, BIT_PS / (1 + error))
    for _ in range(200):
        await FallingEdge(dut.clk)
    assert received == expected


@cocotb.test()
async def sends_with_edges_in_place(dut):
    """Every edge within half a clock of its ideal place in the byte, and bytes follow without a gap."""
    generator = random.Random(2)
    await begin(dut)
    data = bytes((0x55, 0x00, 0xFF)) + generator.randbytes(80)
    starts = []
    got = bytearray()

    async def listen():
        while len(got) < len(data):
            if dut.tx.value:
                await dut.tx.value_change
            starts.append(start := now())
            byte = 0
            for n in range(8):
                await Timer(int(start + (n + Fraction(3, 2)) * BIT_PS) - now(), unit="ps")
                byte |= int(dut.tx.value) << n
            await Timer(int(start + Fraction(19, 2) * BIT_PS) - now(), unit="ps")
            assert dut.tx.value, "no stop bit"
            got.append(byte)

    async def edges():
        while True:
            await dut.tx.value_change
            time = now() - starts[-1] if starts else 0
            place = min(abs(time - n * BIT_PS) for n in range(11))
            assert place <= Fraction(CLOCK_PS, 2) + 1000, f"edge {float(place):.0f} ps from its place"

    task = cocotb.start_soon(listen())
    cocotb.start_soon(edges())
    for byte in data:
        dut.to_send__valid.value = 1
        dut.to_send__payload.value = byte
        while not dut.to_send__ready.value:
            await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
    dut.to_send__valid.value = 0
    await with_timeout(task, 20, "us")
    assert got == data
    longest = max(b - a for a, b in pairwise(starts))
    assert longest <= 10 * BIT_PS + CLOCK_PS


@cocotb.test()
async def drops_what_is_no_byte(dut):
    """Glitches and bytes without a stop bit are dropped; the next byte is received."""
    generator = random.Random(3)
    received = bytearray()
    await begin(dut)
    cocotb.start_soon(take(dut, received, generator, pause=0.0))
    errors = 0

    async def count_errors():
        nonlocal errors
        while True:
            await FallingEdge(dut.clk)
            errors += int(dut.framing_error.value)

    cocotb.start_soon(count_errors())
    await send(dut, b"\x12", generator, BIT_PS)
    await send_bits(dut, [0], BIT_PS / 4)
    await send_bits(dut, [1] * 3, BIT_PS)
    await send(dut, b"\x34", generator, BIT_PS)
    await send_bits(dut, [0] * 25, BIT_PS)
    await send_bits(dut, [1] * 2, BIT_PS)
    await send(dut, b"\x56", generator, BIT_PS)
    for _ in range(100):
        await FallingEdge(dut.clk)
    assert received == b"\x12\x34\x56"
    assert errors == 1


@cocotb.test()
async def full_buffer_drops_new_bytes(dut):
    """The buffer keeps its 16 bytes (the bench builds it so), what comes then is dropped and told."""
    generator = random.Random(4)
    await begin(dut)
    overruns = 0

    async def count():
        nonlocal overruns
        while True:
            await FallingEdge(dut.clk)
            overruns += int(dut.overrun.value)

    cocotb.start_soon(count())
    await send(dut, bytes(range(20)), generator, BIT_PS)
    received = bytearray()
    cocotb.start_soon(take(dut, received, generator))
    for _ in range(200):
        await FallingEdge(dut.clk)
    await send(dut, b"\x77", generator, BIT_PS)
    for _ in range(50):
        await FallingEdge(dut.clk)
    assert received == bytes(range(16)) + b"\x77"
    assert overruns == 4
