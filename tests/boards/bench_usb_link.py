"""Cocotb bench: the USB link of a board as a host and a transceiver see it, and the streams at the word clock."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer
from ulpi_model import Host, Transceiver

WORD_PS = 13_136
USB_PS = 16_666
MICROFRAME_CLOCKS = 7500
DATA = 1
STALLS = 0.3


class Station:
    """The streams at the word clock: sends what is put in, gathers what arrives, both with pauses."""

    def __init__(self, dut, seed):
        self.dut = dut
        self.waiting = bytearray()
        self.arrived = bytearray()
        self.pauses = STALLS
        self._random = random.Random(seed)
        dut.to_send__valid.value = 0
        dut.received__ready.value = 0

    async def run(self):
        dut = self.dut
        offered = False
        while True:
            await FallingEdge(dut.clk)
            offered = offered or (bool(self.waiting) and self._random.random() >= self.pauses)
            takes = self._random.random() >= self.pauses
            dut.to_send__valid.value = int(offered)
            dut.to_send__payload.value = self.waiting[0] if offered else 0
            dut.received__ready.value = int(takes)
            await RisingEdge(dut.clk)
            if takes and int(dut.received__valid.value):
                self.arrived.append(int(dut.received__payload.value))
            if offered and int(dut.to_send__ready.value):
                del self.waiting[0]
                offered = False


async def started(dut, seed, pauses=0.0):
    """Clocks run, resets are over, the bus has been reset: a station and a host at high speed."""
    station = Station(dut, seed)
    bus = Transceiver(dut, pauses, seed)
    dut.rst.value = 0
    dut.usb_rst.value = 1
    cocotb.start_soon(Clock(dut.clk, WORD_PS, unit="ps").start())
    await Timer(seed * 1234 % USB_PS, unit="ps")
    cocotb.start_soon(Clock(dut.usb_clk, USB_PS, unit="ps").start())
    for _ in range(5):
        await FallingEdge(dut.usb_clk)
    dut.usb_rst.value = 0
    await FallingEdge(dut.usb_clk)
    await bus.tell()
    await bus.watch(100)
    cocotb.start_soon(station.run())
    host = Host(bus)
    assert await host.reset(), "the device does not reach high speed"
    return station, host


async def enumerated(dut, seed, pauses=0.0):
    station, host = await started(dut, seed, pauses)
    await configure(host)
    return station, host


async def configure(host):
    assert await host.control(0x00, 5, value=9) == b""
    host.address = 9
    assert await host.control(0x00, 9, value=1) == b""


@cocotb.test()
async def descriptors_and_line_requests(dut):
    _, host = await started(dut, 1)
    device = await host.control(0x80, 6, value=0x0100, length=64)
    assert len(device) == 18
    assert device[8:12] == bytes.fromhex("09120100")
    await configure(host)
    configuration = await host.control(0x80, 6, value=0x0200, length=9)
    total = int.from_bytes(configuration[2:4], "little")
    configuration = await host.control(0x80, 6, value=0x0200, length=255)
    assert len(configuration) == total
    endpoints = {}
    place = 0
    while place < total:
        length, kind = configuration[place : place + 2]
        if kind == 5:
            part = configuration[place : place + length]
            endpoints[part[2]] = (part[3], int.from_bytes(part[4:6], "little"))
        place += length
    assert endpoints == {0x81: (2, 512), 0x01: (2, 512), 0x82: (3, 8)}
    texts = [await host.control(0x80, 6, value=0x0300 | i, index=0x0409, length=255) for i in (1, 2, 3)]
    assert [text[2:].decode("utf-16-le") for text in texts] == ["qrelay", "qrelay bench-usb", "1234"]
    # What a serial driver asks for; a refusal of the control lines is an error at the opening of the port.
    assert await host.control(0x21, 0x20, content=bytes.fromhex("00c20100000008")) == b""
    assert await host.control(0xA1, 0x21, length=7) == bytes.fromhex("00c20100000008")
    assert await host.control(0x21, 0x22, value=3) == b""
    assert await host.control(0xC0, 0x33, length=4) == "stall"
    assert await host.control(0x80, 8, length=1) == b"\x01"
    assert await host.read(2) is None


async def drain(host, count, polls, damage=None):
    """What the device sends until `count` bytes are there: packets."""
    packets = []
    for _ in range(polls):
        answer = await host.read(DATA, lose_ack=damage is not None and damage.random() < 0.2)
        if isinstance(answer, bytes):
            packets.append(answer)
        if sum(map(len, packets)) >= count:
            break
    return packets


@cocotb.test()
async def bytes_both_ways(dut):
    """With damaged packets, lost acknowledgements and pauses everywhere all bytes arrive, in order."""
    source = random.Random(2)
    station, host = await enumerated(dut, 2, pauses=0.2)
    down, up = source.randbytes(3000), source.randbytes(5000)
    station.waiting += up
    packets, sent = [], 0
    for turn in range(400):
        if sent < len(down):
            part = down[sent : sent + source.choice((1, 63, 200, 512))]
            if not source.randrange(4):
                await host.write(DATA, part, damage=True)
            if not source.randrange(4):
                await host.write(DATA, part, lose_ack=True)
            if await host.ping(DATA) and await host.write(DATA, part):
                sent += len(part)
        packets += await drain(host, 512, 2, damage=source)
        await host.start_of_frame(turn)
        if sent == len(down) and sum(map(len, packets)) >= len(up):
            break
    assert b"".join(packets) == up
    for _ in range(200):
        await host.bus.watch(20)
    assert station.arrived == down


@cocotb.test()
async def end_of_a_packet(dut):
    """A pause ends a packet; where it is full an empty one follows, so that the host hands it on."""
    station, host = await enumerated(dut, 3)
    station.pauses = 0.0
    for count, sizes in ((1, [1]), (511, [511]), (512, [512, 0]), (513, [512, 1]), (1024, [512, 512, 0])):
        content = bytes(i * 7 % 256 for i in range(count))
        station.waiting += content
        packets = []
        for _ in range(300):
            answer = await host.read(DATA)
            if answer is not None:
                packets.append(answer)
            if len(packets) == len(sizes):
                break
            await host.bus.watch(20)
        assert [len(packet) for packet in packets] == sizes, count
        assert b"".join(packets) == content


@cocotb.test()
async def host_that_does_not_read(dut):
    """Packet buffers and queue fill, the station waits, and nothing is lost."""
    source = random.Random(4)
    station, host = await enumerated(dut, 4)
    content = source.randbytes(6000)
    station.waiting += content
    station.pauses = 0.0
    await host.bus.watch(9000)
    held = len(content) - len(station.waiting)
    assert 1024 + 1024 <= held <= 1024 + 1024 + 8
    assert b"".join(await drain(host, len(content), 400)) == content


@cocotb.test()
async def station_that_does_not_read(dut):
    """A packet for which there is no room is refused, and accepted later."""
    source = random.Random(5)
    station, host = await enumerated(dut, 5)
    station.pauses = 1.0
    content = source.randbytes(8 * 512)
    sent = 0
    refused = 0
    for _ in range(60):
        if sent == len(content):
            break
        if await host.write(DATA, content[sent : sent + 512]):
            sent += 512
        else:
            refused += 1
            if refused == 5:
                assert not await host.ping(DATA)
                station.pauses = 0.0
                await host.bus.watch(3000)
    assert refused >= 5
    assert sent == len(content)
    await host.bus.watch(3000)
    assert station.arrived == content


@cocotb.test()
async def full_rate(dut):
    """As many packets as fit a microframe, each ready when the host asks: 13, which is 53.2 MB/s."""
    station, host = await enumerated(dut, 7)
    station.pauses = 0.0
    content = bytes(i * 11 % 251 for i in range(16 * 512))
    station.waiting += content
    await host.bus.watch(2000)
    began = host.bus.clocks
    packets = [await host.read(DATA) for _ in range(13)]
    assert b"".join(packets) == content[: 13 * 512]
    assert host.bus.clocks - began <= MICROFRAME_CLOCKS


@cocotb.test()
async def reset_of_the_bus_cuts_the_stream(dut):
    """Packets in the device are gone, what the queue holds comes, toggles start over, and frames begin anew."""
    station, host = await enumerated(dut, 6)
    station.pauses = 0.0
    frames = [bytes([number]) * 99 + b"\0" for number in range(1, 40)]
    station.waiting += b"".join(frames)
    await host.bus.watch(9000)
    # An odd number of packets, so that the toggles of device and host differ unless both start over.
    first = await drain(host, 1, 5)
    assert len(first) == 1
    await host.write(DATA, b"cut")
    assert await host.reset()
    assert await host.read(DATA) is None
    await configure(host)
    rest = b"".join(await drain(host, 9999, 400))
    whole = rest.split(b"\0")[1:-1]
    assert b"".join(frames).endswith(rest)
    assert 1800 < len(rest) < len(frames) * 100 - 512
    assert [frame + b"\0" for frame in whole] == frames[-len(whole) :]
    assert await host.write(DATA, b"\0after")
    await host.bus.watch(200)
    assert bytes(station.arrived).endswith(b"\0after")
