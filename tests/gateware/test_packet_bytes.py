"""CRC, byte stuffing and arbitration of packets, against zlib and the `cobs` package."""

import random
import zlib

import pytest
from amaranth.sim import Simulator
from cobs import cobs

from qrelay.protocol.packets import cobs_decode
from qrelay_gateware.cobs import CobsDecoder, CobsEncoder
from qrelay_gateware.crc import CrcAppender
from qrelay_gateware.packet_stream import PacketArbiter, PacketBuffer

CHUNKS = (1, 2, 3, 17, 253, 254)


def packets(seed: int, lengths=CHUNKS) -> list[bytes]:
    """Random packets, packets of zeros, packets without zeros, and some with few zeros."""
    generator = random.Random(seed)
    out = []
    for length in lengths:
        out += [bytes(length), b"\x01" * length, generator.randbytes(length)]
        out.append(bytes(generator.choice((0, 0, 1, 255)) for _ in range(length)))
    return out


def run(dut, *benches, deadline=40_000):
    """Run until the first bench is done."""
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    done = []

    def main(bench):
        async def process(ctx):
            await bench(ctx)
            done.append(bench)

        return process

    simulator.add_testbench(main(benches[0]))
    for bench in benches[1:]:
        simulator.add_testbench(bench, background=True)
    simulator.run_until(deadline * 1e-8)
    assert done, f"not done after {deadline} clocks"


def offer(port, items, seed, pause):
    """Send packets on a packet stream with random pauses."""
    generator = random.Random(seed)

    async def bench(ctx):
        for packet in items:
            for n, byte in enumerate(packet):
                while generator.random() < pause:
                    await ctx.tick()
                ctx.set(port.payload, {"value": byte, "last": n == len(packet) - 1})
                ctx.set(port.valid, 1)
                await ctx.tick().until(port.ready)
                ctx.set(port.valid, 0)

    return bench


def collect(port, count, out, seed, pause, read):
    """Take `count` items with random pauses."""
    generator = random.Random(seed)

    async def bench(ctx):
        while len(out) < count:
            while generator.random() < pause:
                await ctx.tick()
            ctx.set(port.ready, 1)
            (payload,) = await ctx.tick().sample(port.payload).until(port.valid)
            out.append(read(payload))
            ctx.set(port.ready, 0)

    return bench


def packet_byte(payload):
    return payload.value, payload.last


@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_crc_is_that_of_zlib(pause):
    sent = packets(1, (1, 2, 9, 40))
    expected = []
    for packet in sent:
        whole = packet + zlib.crc32(packet).to_bytes(4, "little")
        expected += [(byte, n == len(whole) - 1) for n, byte in enumerate(whole)]
    dut = CrcAppender()
    got = []
    run(dut, collect(dut.out, len(expected), got, 2, pause, packet_byte), offer(dut.packets, sent, 3, pause))
    assert got == expected


@pytest.mark.parametrize("pause", [0.0, 0.4])
def test_encoder_agrees_with_cobs_package(pause):
    sent = packets(4)
    expected = b"".join(cobs.encode(packet) + b"\0" for packet in sent)
    dut = CobsEncoder()
    got = bytearray()
    run(dut, collect(dut.out, len(expected), got, 5, pause, int), offer(dut.packets, sent, 6, pause))
    assert bytes(got) == expected


def test_encoder_sustains_a_byte_per_clock():
    """While a packet leaves, the next is filled: few clocks more than bytes."""
    dut = CobsEncoder()
    sent = packets(7, (254,)) * 2
    expected = b"".join(cobs.encode(packet) + b"\0" for packet in sent)
    clocks = 0
    got = bytearray()

    async def sink(ctx):
        nonlocal clocks
        ctx.set(dut.out.ready, 1)
        async for _, _, valid, payload in ctx.tick().sample(dut.out.valid, dut.out.payload):
            clocks += 1
            if valid:
                got.append(payload)
                if len(got) == len(expected):
                    return

    run(dut, sink, offer(dut.packets, sent, 0, 0.0))
    assert bytes(got) == expected
    assert clocks < len(expected) + 254 + 4 * len(sent) + 10


def test_decoder_agrees_with_host():
    """Sound encodings, random bytes and cut frames, zeros in between."""
    generator = random.Random(8)
    frames = [cobs.encode(packet) for packet in packets(9)]
    frames += [
        bytes(generator.choice((1, 2, 3, 5, 255, 9)) for _ in range(generator.randrange(300))) for _ in range(60)
    ]
    wire = b"\0".join(frames) + b"\0\0\0"
    expected = [cobs_decode(frame) for frame in frames if frame]
    dut = CobsDecoder()
    got = []

    async def bench(ctx):
        packet = bytearray()
        for byte in wire + b"\0":
            ctx.set(dut.byte, byte)
            ctx.set(dut.enable, 1)
            await ctx.tick()
            if generator.random() < 0.2:
                ctx.set(dut.enable, 0)
                ctx.set(dut.byte, generator.randrange(256))
                collected(ctx, packet)
                await ctx.tick()
            collected(ctx, packet)

    def collected(ctx, packet):
        if ctx.get(dut.valid):
            packet.append(ctx.get(dut.value))
        if ctx.get(dut.end):
            got.append(None if ctx.get(dut.cut) else bytes(packet))
            packet.clear()

    run(dut, bench)
    assert got == expected
    assert None in got


def test_arbiter_keeps_packets_whole():
    first = [b"\x01" + bytes(n) for n in range(10)]
    second = [b"\x02" + bytes(n) for n in range(10)]
    dut = PacketArbiter()
    got = []
    run(
        dut,
        collect(dut.out, sum(map(len, first + second)), got, 1, 0.3, packet_byte),
        offer(dut.first, first, 2, 0.6),
        offer(dut.second, second, 3, 0.3),
    )
    whole, packet = [], bytearray()
    for value, last in got:
        packet.append(value)
        if last:
            whole.append(bytes(packet))
            packet.clear()
    assert [packet for packet in whole if packet[0] == 1] == first
    assert [packet for packet in whole if packet[0] == 2] == second
    assert whole not in (first + second, second + first)


@pytest.mark.parametrize(("fill", "drain"), [(0.0, 0.0), (0.5, 0.1), (0.1, 0.5)])
def test_buffer_changes_nothing(fill, drain):
    sent = packets(10, (1, 3, 20))
    expected = [(byte, n == len(packet) - 1) for packet in sent for n, byte in enumerate(packet)]
    dut = PacketBuffer()
    got = []
    run(dut, collect(dut.out, len(expected), got, 1, drain, packet_byte), offer(dut.packets, sent, 2, fill))
    assert got == expected
