"""Link and register bank: every answer and counter as the model says, whatever arrives."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from benches import pack
from qrelay.protocol.packets import PacketKind, frame_packet
from qrelay.protocol.registers import GROUPS, register
from qrelay.protocol.windows import WINDOWS, window
from qrelay_gateware.layouts import status_layout
from qrelay_sim.golden.link import LinkModel

IDENTITY = [0x9E3779B9 * (n + 1) & 0xFFFFFFFF for n in range(64)]


class Bench:
    """Drives bytes and packets into the device and collects what it sends, each with pauses at will."""

    def __init__(self, dut, seed: int):
        self.dut = dut
        self.random = random.Random(seed)
        self.sent = bytearray()
        self.pause_tx = 0.0
        self.table_writes = []
        self.strobes = []
        status = {
            f"{group.name}.{r.name}": self.random.getrandbits(r.width)
            for group in GROUPS
            for r in group.registers
            if r.access == "ro" and group.name != "link" and not group.stored
        }
        for group in GROUPS:
            values = {
                r.name: status.get(f"{group.name}.{r.name}", 0) for r in group.registers if r.access in ("ro", "w1c")
            }
            if values and group.name != "link" and not group.stored:
                getattr(dut, f"status_{group.name}").value = pack(status_layout(group.name), values)
        self.model = LinkModel(IDENTITY, status)

    async def start(self):
        dut = self.dut
        dut.rx__valid.value = 0
        dut.tx__ready.value = 0
        dut.packets__valid.value = 0
        dut.read_audit__value.value = 0
        dut.read_counters__value.value = 0
        Clock(dut.clk, 10, unit="ns").start()
        dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.rst.value = 0

    async def receive(self):
        """Collect bytes for ever."""
        dut = self.dut
        while True:
            await FallingEdge(dut.clk)
            ready = self.random.random() >= self.pause_tx
            dut.tx__ready.value = ready
            if ready and dut.tx__valid.value:
                self.sent.append(int(dut.tx__payload.value))

    async def watch_tables(self):
        """Collect table writes and strobes for ever."""
        dut = self.dut
        tables = [(w, getattr(dut, f"table_{w.name}__enable")) for w in WINDOWS if w.access != "ro"]
        while True:
            await FallingEdge(dut.clk)
            for w, enable in tables:
                if enable.value:
                    address = int(getattr(dut, f"table_{w.name}__address").value)
                    self.table_writes.append((w.base + address, int(getattr(dut, f"table_{w.name}__value").value)))
            if int(dut.config_system.value) & 0b11111:
                self.strobes.append(int(dut.config_system.value) & 0b11111)

    async def send(self, data, pause: float = 0.0):
        dut = self.dut
        for byte in data:
            while pause and self.random.random() < pause:
                dut.rx__valid.value = 0
                await FallingEdge(dut.clk)
            dut.rx__valid.value = 1
            dut.rx__payload.value = byte
            while not dut.rx__ready.value:
                await FallingEdge(dut.clk)
            await FallingEdge(dut.clk)
        dut.rx__valid.value = 0

    async def idle(self, clocks: int = 4000):
        for _ in range(clocks):
            await FallingEdge(self.dut.clk)

    def read(self, address: int, count: int) -> bytes:
        return frame_packet(
            PacketKind.READ, self.random.randrange(256), address.to_bytes(2, "little") + bytes((count,))
        )

    def write(self, address: int, words) -> bytes:
        body = address.to_bytes(2, "little") + b"".join(word.to_bytes(4, "little") for word in words)
        return frame_packet(PacketKind.WRITE, self.random.randrange(256), body)

    def any_request(self) -> bytes:
        """A request with plausible addresses: mostly sound, sometimes asking for what is not there."""
        spans = [(group.base, group.words) for group in GROUPS if group.name != "link"]
        spans += [(w.base, w.depth) for w in WINDOWS if w.name != "audit"]
        base, size = self.random.choice(spans)
        address = max(0, base + self.random.randrange(-1, size))
        count = self.random.choice((1, 1, 2, self.random.randint(1, 58), 58, 59))
        if self.random.random() < 0.8:
            count = max(1, min(count, base + size - address))
        if self.random.random() < 0.5:
            return self.read(address, count)
        return self.write(address, [self.random.getrandbits(32) for _ in range(min(count, 59))])

    async def finish(self):
        """Compare everything sent with the model, then ask for the counters."""
        for _ in range(100):
            before = len(self.sent)
            await self.idle(1000)
            if len(self.sent) == before:
                break
        sent, expected = bytes(self.sent), bytes(self.expected)
        # Not the two texts: they are long.
        place = next((n for n, pair in enumerate(zip(sent, expected, strict=False)) if pair[0] != pair[1]), None)
        assert place is None, f"answers differ from byte {place}"
        assert len(sent) == len(expected), f"{len(sent)} bytes sent, {len(expected)} expected"
        address, _ = register("link.received")
        await self.exchange(b"\0" + self.read(address, 5))
        await self.idle(2000)
        assert bytes(self.sent) == bytes(self.expected), f"counters differ: {self.model.counters}"

    expected: bytearray

    async def exchange(self, data: bytes, pause: float = 0.0):
        self.expected += self.model.feed(data)
        await self.send(data, pause)


async def begin(dut, seed: int, *, watch_tables: bool = False) -> Bench:
    bench = Bench(dut, seed)
    bench.expected = bytearray()
    await bench.start()
    cocotb.start_soon(bench.receive())
    if watch_tables:
        cocotb.start_soon(bench.watch_tables())
    # Memories keep their contents over a reset, so over a test: tables, and what settings read back.
    for group in GROUPS:
        for address, r in group.addressed():
            if r.access == "rw":
                words = [r.reset >> 32 * n & 0xFFFFFFFF for n in range(-(-r.width // 32))]
                await bench.exchange(bench.write(address, words))
    for w in WINDOWS:
        if w.access == "rw":
            for first in range(0, w.depth, 32):
                await bench.exchange(bench.write(w.base + first, [0] * min(32, w.depth)))
    return bench


@cocotb.test()
async def requests(dut):
    """Random requests with pauses on both sides: answers, errors, registers and tables as in the model."""
    bench = await begin(dut, 1, watch_tables=True)
    bench.pause_tx = 0.3
    await bench.exchange(b"\0\0" + bench.read(0, 58))
    for _ in range(150):
        await bench.exchange(bench.any_request(), pause=0.2)
    for kind in (0, 3, 0x40, 0x81, 0xFF):
        await bench.exchange(frame_packet(kind, 7, b"\1\1\1"))
    for body in (b"", b"\0", b"\0\1", b"\0\1\0", b"\0\1\x3b", b"\0\1\1\0"):
        await bench.exchange(frame_packet(PacketKind.READ, 8, body))
        await bench.exchange(frame_packet(PacketKind.WRITE, 9, body))
    # Addresses behind the address space must not wrap to its start.
    for address in (0x4107, 0x8107, 0xFFFF, 0x3FFF):
        await bench.exchange(bench.read(address, 2) + bench.write(address, [1]))
    for commands in range(32):
        await bench.exchange(bench.write(0x100, [commands >> n & 1 for n in range(5)]))
    await bench.finish()
    tables = {w.base + n: w for w in WINDOWS for n in range(w.depth)}
    expected = [
        (address, value & ((1 << tables[address].width) - 1))
        for address, value in bench.model.writes
        if address in tables
    ]
    assert len(expected) > 100
    assert bench.table_writes == expected
    strobes = [1 << address - 0x100 for address, value in bench.model.writes if 0x100 <= address <= 0x104 and value & 1]
    assert len(strobes) > 3
    assert bench.strobes == strobes


@cocotb.test()
async def refused_writes_leave_no_trace(dut):
    """A WRITE that runs into a read-only register does nothing at all."""
    bench = await begin(dut, 2)
    scratch, _ = register("system.scratch")
    success = window("success")
    await bench.exchange(bench.write(scratch, [0x12345678]))
    await bench.exchange(bench.write(scratch, [0xDEADBEEF, 1]))
    await bench.exchange(bench.write(success.base + success.depth - 1, [3, 4]))
    await bench.exchange(bench.write(0, [1]) + bench.read(scratch, 1))
    assert bench.model.counters["refused"] == 3
    await bench.finish()


@cocotb.test()
async def flipped_bits(dut):
    """Sound requests among damaged, cut and overlong ones: only the sound ones act."""
    bench = await begin(dut, 3)
    bench.pause_tx = 0.1
    for _ in range(300):
        frame = bytearray(bench.any_request())
        what = bench.random.randrange(5)
        if what == 0:
            for _ in range(bench.random.randint(1, 3)):
                frame[bench.random.randrange(len(frame))] ^= 1 << bench.random.randrange(8)
        elif what == 1:
            del frame[bench.random.randrange(len(frame)) :]
        elif what == 2:
            frame[bench.random.randrange(len(frame)) :] = bench.random.randbytes(300).replace(b"\0", b"\1") + b"\0"
        await bench.exchange(bytes(frame))
    counters = bench.model.counters
    assert min(counters["damaged"], counters["overlong"], counters["received"]) > 30
    await bench.finish()


@cocotb.test()
async def lengths_at_the_limit(dut):
    """Frames of 253 to 256 bytes, without zeros and full of them."""
    bench = await begin(dut, 4)
    for length in (253, 254):
        for fill in (b"\0", b"\x55"):
            await bench.exchange(frame_packet(3, 1, fill * (length - 6)))
    for length in (255, 256, 257, 700):
        await bench.exchange(b"\1" * (length + 1) + b"\0")
    for length in (254, 255):
        await bench.exchange(b"\xff" + b"\x55" * 254 + b"\2U" * (length - 254) + b"\0")
    assert bench.model.counters["overlong"] == 5
    await bench.finish()


@cocotb.test()
async def million_random_bytes(dut):
    """1 million random bytes at one per clock, then a request: answered, everything counted as in the model."""
    bench = await begin(dut, 5)
    await bench.idle()
    data = bench.random.randbytes(1_000_000)
    bench.expected += bench.model.feed(data)
    # The tightest loop there is: `ready` is low for a few clocks behind each zero only.
    falling = FallingEdge(dut.clk)
    byte_in = dut.rx__payload
    ready = dut.rx__ready
    dut.rx__valid.value = 1
    for byte in data:
        byte_in.value = byte
        await falling
        if not byte:
            while not ready.value:
                dut.rx__valid.value = 0
                await falling
            dut.rx__valid.value = 1
    dut.rx__valid.value = 0
    assert bench.model.counters["damaged"] > 2000
    assert bench.model.counters["overlong"] > 1000
    await bench.finish()


@cocotb.test()
async def event_packets_between_answers(dut):
    """Event packets pass whole and in order, answers too, whichever comes first."""
    bench = await begin(dut, 6)
    bench.pause_tx = 0.3
    packets = [bytes((0x40, n)) + bench.random.randbytes(4 + 8 * bench.random.randint(1, 29)) for n in range(40)]

    async def offer():
        for packet in packets:
            for n, byte in enumerate(packet):
                dut.packets__valid.value = 1
                dut.packets__payload.value = byte | (n == len(packet) - 1) << 8
                while not dut.packets__ready.value:
                    await FallingEdge(dut.clk)
                await FallingEdge(dut.clk)
                dut.packets__valid.value = 0
                while bench.random.random() < 0.1:
                    await FallingEdge(dut.clk)

    task = cocotb.start_soon(offer())
    for _ in range(60):
        await bench.exchange(bench.any_request(), pause=0.1)
    await task
    bench.model.counters["sent"] += len(packets)
    await bench.idle(30000)
    frames = bytes(bench.sent).split(b"\0")
    events = [frame for frame in frames if frame and frame[1:2] == b"\x40"]
    # Every packet here starts with a byte that is not zero, so byte 1 of the frame is its kind.
    assert [frame + b"\0" for frame in events] == [frame_packet(p[0], p[1], p[2:]) for p in packets]
    bench.sent = bytearray(b"".join(frame + b"\0" for frame in frames[:-1] if frame[1:2] != b"\x40"))
    await bench.finish()
