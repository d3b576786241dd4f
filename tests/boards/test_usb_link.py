"""The USB link: crossing of the clocks, and the whole device against a model of transceiver and host."""

import random
from dataclasses import replace
from fractions import Fraction
from functools import partial

import pytest
from amaranth.hdl import ClockDomain, DomainRenamer, Module
from amaranth.sim import Simulator
from luna.gateware.usb.usb2.reset import USBResetSequencer

from benches import run_bench
from qrelay_boards.ecp5_usb import UsbCrossing, UsbLink, UsbPll, UsbStart
from qrelay_boards.ulpi_pins import UlpiPins
from qrelay_boards.ulpi_translator import TwoBytes
from qrelay_boards.usb_serial import UsbSerial

PINS = UlpiPins(data=tuple("abcdefgh"), clk="i", dir="j", nxt="k", stp="l", rst="m", serial_number="1234")
FLUSH_CLOCKS = 64
WORD_S, USB_S = 13.136e-9, 16.667e-9


@pytest.mark.cocotb
@pytest.mark.slow
def test_link_with_host(tmp_path, monkeypatch):
    """Enumeration, serial port requests, bytes both ways, back-pressure, resets: at high speed, packet by packet."""
    # Of a reset of the bus most of the milliseconds are waiting.
    monkeypatch.setattr(USBResetSequencer, "_CYCLES_2_MILLISECONDS", 6_000)
    monkeypatch.setattr(USBResetSequencer, "_CYCLES_3_MILLISECONDS", 9_000)
    run_bench(UsbLink(UsbSerial("bench-usb", PINS), FLUSH_CLOCKS), "bench_usb_link", tmp_path)


async def send(ctx, domain, stream, content, pauses, seed):
    source = random.Random(f"send {seed}")
    for byte in content:
        while source.random() < pauses:
            await ctx.tick(domain)
        ctx.set(stream.payload, byte)
        ctx.set(stream.valid, 1)
        await ctx.tick(domain).until(stream.ready)
        ctx.set(stream.valid, 0)


async def receive(ctx, domain, stream, count, pauses, seed, into):
    """Take `count` items; returns the clocks that it took."""
    source = random.Random(f"receive {seed}")
    clocks = 0
    while len(into) < count:
        ready = source.random() >= pauses
        ctx.set(stream.ready, ready)
        _, _, valid, payload = await ctx.tick(domain).sample(stream.valid, stream.payload)
        clocks += 1
        if ready and valid:
            into.append(payload)
    ctx.set(stream.ready, 0)
    return clocks


def crossing_simulation(dut, phase):
    sim = Simulator(dut)
    sim.add_clock(WORD_S)
    sim.add_clock(USB_S, phase=phase, domain="usb")
    return sim


@pytest.mark.parametrize("seed", range(6))
def test_crossing_keeps_bytes_and_order(seed):
    """Random bytes, pauses on all four sides, clocks of unrelated period and phase; small queues, often full."""
    source = random.Random(seed)
    up, down = source.randbytes(1500), source.randbytes(1500)
    dut = UsbCrossing(depth=source.choice((4, 16, 64)), flush_clocks=8)
    sim = crossing_simulation(dut, source.random() * USB_S)
    pauses = [source.choice((0.0, 0.2, 0.9)) for _ in range(4)]
    at_host, at_station = [], []
    for domain, stream, content, pause in (
        ("sync", dut.to_send, up, pauses[0]),
        ("usb", dut.from_host, down, pauses[1]),
    ):
        sim.add_testbench(partial(send, domain=domain, stream=stream, content=content, pauses=pause, seed=seed))
    for domain, stream, into, pause in (
        ("usb", dut.to_host, at_host, pauses[2]),
        ("sync", dut.received, at_station, pauses[3]),
    ):
        sim.add_testbench(
            partial(receive, domain=domain, stream=stream, count=1500, pauses=pause, seed=seed, into=into)
        )
    sim.run()
    assert bytes(item.byte for item in at_host) == up
    assert bytes(at_station) == down
    assert at_host[-1].last


def test_pause_marks_the_last_byte():
    """The byte before a pause waits for it and is marked, whether or not it is taken at once; no other is."""
    dut = UsbCrossing(depth=16, flush_clocks=20)
    sim = crossing_simulation(dut, 1e-9)
    marks, waits = [], []

    async def station(ctx):
        for content in (b"one", b"t", b"three"):
            await send(ctx, "sync", dut.to_send, content, 0.0, 1)
            await ctx.tick().repeat(90)

    async def host(ctx):
        for _ in range(9):
            waited = 0
            while not ctx.get(dut.to_host.valid):
                await ctx.tick("usb")
                waited += 1
            item = ctx.get(dut.to_host.payload)
            if item.byte == ord("t"):
                await ctx.tick("usb").repeat(3)
            assert ctx.get(dut.to_host.payload) == item
            ctx.set(dut.to_host.ready, 1)
            await ctx.tick("usb")
            ctx.set(dut.to_host.ready, 0)
            marks.append((chr(item.byte), item.last))
            waits.append(waited)

    sim.add_testbench(station)
    sim.add_testbench(host)
    sim.run()
    assert [index for index, (_, last) in enumerate(marks) if last] == [2, 3, 8]
    assert "".join(letter for letter, _ in marks) == "onetthree"
    assert 20 <= waits[2] <= 24


def test_bytes_wait_while_usb_is_in_reset():
    """What the station sends is kept; the queue fills and the station waits."""
    dut = UsbCrossing(depth=16, flush_clocks=20)
    m = Module()
    m.submodules.dut = dut
    m.domains.sync = ClockDomain(reset_less=True)
    m.domains.usb = usb = ClockDomain()
    sim = crossing_simulation(m, 1e-9)
    content = bytes(range(12))
    got = []

    async def station(ctx):
        ctx.set(usb.rst, 1)
        await send(ctx, "sync", dut.to_send, content, 0.0, 1)
        await ctx.tick().repeat(30)
        assert not ctx.get(dut.to_host.valid)
        ctx.set(usb.rst, 0)
        await receive(ctx, "usb", dut.to_host, len(content), 0.0, 1, got)

    sim.add_testbench(station)
    sim.run()
    assert bytes(item.byte for item in got) == content


@pytest.mark.parametrize("pauses", [(0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5)])
def test_two_bytes(pauses):
    dut = TwoBytes()
    content = random.Random(3).randbytes(500)
    sim = Simulator(DomainRenamer({"usb": "sync"})(dut))
    sim.add_clock(1e-6)
    got = []
    clocks = []

    async def give(ctx):
        await send(ctx, "sync", dut.bytes_in, content, pauses[0], 1)

    async def take(ctx):
        clocks.append(await receive(ctx, "sync", dut.bytes_out, len(content), pauses[1], 2, got))

    sim.add_testbench(give)
    sim.add_testbench(take)
    sim.run()
    assert bytes(got) == content
    if pauses == (0.0, 0.0):
        assert clocks[0] <= len(content) + 2


def test_start_releases_the_transceiver_first():
    dut = UsbStart(Fraction(10_000))
    assert (dut.phy_clocks, dut.usb_clocks) == (500, 550)
    sim = Simulator(DomainRenamer({"osc": "sync"})(dut))
    sim.add_clock(1e-6)

    async def bench(ctx):
        async def times():
            clocks = 0
            seen = []
            for signal in (dut.phy_reset, dut.usb_reset):
                while ctx.get(signal):
                    await ctx.tick()
                    clocks += 1
                seen.append(clocks)
            return seen

        assert ctx.get(dut.phy_reset)
        assert ctx.get(dut.usb_reset)
        await ctx.tick().repeat(700)
        assert ctx.get(dut.phy_reset)
        assert ctx.get(dut.usb_reset)
        ctx.set(dut.clock_good, 1)
        phy, usb = await times()
        assert 500 <= phy <= 505
        assert usb == phy + 50
        ctx.set(dut.clock_good, 0)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.phy_reset)
        assert ctx.get(dut.usb_reset)

    sim.add_testbench(bench)
    sim.run()


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
def test_oscillator_that_makes_no_bus_clock():
    with pytest.raises(ValueError, match=r"^oscillator of 25 MHz: 60 MHz of the ULPI bus must be a multiple of it$"):
        UsbPll(Fraction(25_000_000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ("a",)}, "^1 ULPI data pins: the bus has 8$"),
        ({"product_id": 0}, "^product_id 0x0 is no USB number; give 0x0001 to 0xffff$"),
        ({"serial_number": ""}, "^serial number '': give 1 to 32 letters and digits$"),
        ({"serial_number": "a b"}, "^serial number 'a b': give"),
        ({"vendor_id": 1 << 16}, "^vendor_id 0x10000 is no USB number"),
    ],
)
def test_wrong_pins(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PINS, **change)
