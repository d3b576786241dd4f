"""A station behind its ports: bytes in and out, pins, and nothing else."""

import dataclasses
import random
from collections import deque
from collections.abc import Callable

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from qrelay.protocol.identity import Capability
from qrelay.protocol.packets import EVENT_BASE, MAX_WORDS, PacketKind, frame_packet, parse_packet
from qrelay.protocol.records import RecordKind
from qrelay.protocol.registers import register
from qrelay.protocol.windows import window
from qrelay_gateware.external_bits import RING_WORDS
from qrelay_sim.golden.events import EventAccount
from qrelay_sim.twin.identity import TWIN_FACTS

__all__ = ["FACTS", "StationBench"]

FACTS = dataclasses.replace(
    TWIN_FACTS,
    chains=0b1111,
    capabilities=TWIN_FACTS.capabilities | Capability.FINE_DELAY,
    # External bits in block RAMs, as on most boards; the twin has the SDRAM.
    external_chip=None,
    external_ring_words=RING_WORDS,
)
"""A station with all that any station has."""


class StationBench:
    """Steps the device word by word; carries the link with pauses, the planned pins, and what is to be recorded.

    `hits` and `start_pulses` are plans by word; `lines`, `probe` and `start_out` what was seen by word, the first two
    only while `recording`.
    """

    def __init__(self, dut, seed: int, pause: float = 0.0):
        self.dut = dut
        self.random = random.Random(seed)
        self.pause = pause
        """Probability of a pause, in each word and on each side of the link."""
        self.word = 0
        self.hits: dict[int, int] = {}
        self.start_pulses: dict[int, int] = {}
        self.recording = False
        self.lines: dict[int, int] = {}
        self.probe: dict[int, int] = {}
        self.start_out: dict[int, int] = {}
        self.account = EventAccount()
        self.noise: Callable[[int], int] | None = None
        """Level of the noise source by word; low without."""
        self.watched: dict[str, dict[int, int]] = {}
        """Values other than 0 of further outputs, by name of the port and word; for those that a test enters."""
        self._rx: deque[int] = deque()
        self._frame = bytearray()
        self._answers: deque[tuple[int, int, bytes]] = deque()
        self._sequence = 0
        self._hits_present = 0
        self._start_present = 0
        self._rx_port = (dut.rx__valid, dut.rx__payload, dut.rx__ready)
        self._tx_port = (dut.tx__valid, dut.tx__payload, dut.tx__ready)

    async def begin(self):
        """Start the clock and reset the station; the clocks of the board are locked."""
        dut = self.dut
        for port in (
            dut.rx__valid,
            dut.tx__ready,
            dut.hits,
            dut.start_bins,
            dut.noise,
            dut.external_bits,
            dut.external_valid,
        ):
            port.value = 0
        for port in (dut.reference_lost, dut.lock_lost, dut.phase_slipped, dut.framing_error, dut.overrun):
            port.value = 0
        dut.clock_locked.value = 1
        dut.external_reference.value = 1
        Clock(dut.clk, 10, unit="ns").start()
        dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        await self.words(4)

    async def words(self, count: int = 1):
        """Let `count` words pass."""
        falling = FallingEdge(self.dut.clk)
        for _ in range(count):
            await falling
            self.word += 1
            self._pins()
            self._host_to_station()
            self._station_to_host()

    async def until(self, word: int):
        """Let words pass up to `word`."""
        await self.words(word - self.word)

    def _pins(self):
        if self.noise is not None:
            self.dut.noise.value = self.noise(self.word)
        hits = self.hits.pop(self.word, 0)
        if hits != self._hits_present:
            self.dut.hits.value = self._hits_present = hits
        bins = self.start_pulses.pop(self.word, 0)
        if bins != self._start_present:
            self.dut.start_bins.value = self._start_present = bins
        if pulse := int(self.dut.start_out.value):
            self.start_out[self.word] = pulse
        for name, seen in self.watched.items():
            if value := int(getattr(self.dut, name).value):
                seen[self.word] = value
        if self.recording:
            self.lines[self.word] = int(self.dut.lines.value)
            self.probe[self.word] = int(self.dut.probe.value)

    def _paused(self) -> bool:
        return self.pause > 0 and self.random.random() < self.pause

    def _host_to_station(self):
        valid, payload, ready = self._rx_port
        offer = bool(self._rx) and not self._paused()
        valid.value = offer
        if offer:
            payload.value = self._rx[0]
            # The station accepts or not by its registers alone, so this is what the coming edge will see.
            if ready.value:
                self._rx.popleft()

    def _station_to_host(self):
        valid, payload, ready = self._tx_port
        take = not self._paused()
        ready.value = take
        if take and valid.value:
            self._byte(int(payload.value))

    def _byte(self, byte: int):
        if byte:
            self._frame.append(byte)
            return
        frame, self._frame = bytes(self._frame), bytearray()
        if not frame:
            return
        packet = parse_packet(frame)
        assert packet is not None, f"the station sent a damaged packet: {frame.hex()}"
        kind, sequence, body = packet
        if EVENT_BASE <= kind < EVENT_BASE + len(RecordKind):
            self.account.packet(bytes((kind, sequence)) + body)
        else:
            self._answers.append(packet)

    def _send(self, kind: PacketKind, body: bytes):
        self._sequence = (self._sequence + 1) & 0xFF
        self._rx += frame_packet(kind, self._sequence, body)

    async def request(self, kind: PacketKind, body: bytes, limit_words: int = 20_000) -> tuple[int, bytes]:
        """Send a request and wait for its answer: kind and body."""
        self._send(kind, body)
        for _ in range(limit_words):
            await self.words()
            while self._answers:
                answer, sequence, content = self._answers.popleft()
                if sequence == self._sequence:
                    return answer, content
                assert (sequence, answer) == (self._sequence - 1 & 0xFF, PacketKind.WRITE_DONE)
        raise AssertionError(f"no answer to {kind!r} within {limit_words} words")

    async def read_words(self, address: int, count: int) -> list[int]:
        """Words at consecutive addresses."""
        words: list[int] = []
        while len(words) < count:
            part = min(MAX_WORDS, count - len(words))
            kind, body = await self.request(
                PacketKind.READ, (address + len(words)).to_bytes(2, "little") + bytes((part,))
            )
            assert (kind, len(body)) == (PacketKind.READ_DATA, 4 * part)
            words += [int.from_bytes(body[4 * n : 4 * n + 4], "little") for n in range(part)]
        return words

    async def write_words(self, address: int, values: list[int]):
        """Write words at consecutive addresses."""
        for first in range(0, len(values), MAX_WORDS):
            part = values[first : first + MAX_WORDS]
            body = (address + first).to_bytes(2, "little") + b"".join(int(v).to_bytes(4, "little") for v in part)
            assert await self.request(PacketKind.WRITE, body) == (PacketKind.WRITE_DONE, bytes((len(part),)))

    async def read(self, name: str) -> int:
        """Value of register ``"group.register"``."""
        address, spec = register(name)
        words = await self.read_words(address, -(-spec.width // 32))
        return sum(word << 32 * n for n, word in enumerate(words))

    async def read_many(self, names: list[str]) -> dict[str, int]:
        """Values of registers that stand side by side, in one go."""
        first, _ = register(names[0])
        last, spec = register(names[-1])
        words = await self.read_words(first, last - first + -(-spec.width // 32))
        values = {}
        for name in names:
            address, spec = register(name)
            part = words[address - first :][: -(-spec.width // 32)]
            values[name] = sum(word << 32 * n for n, word in enumerate(part))
        return values

    async def write(self, **settings: int):
        """Set registers, named ``group__register``; neighbours share a packet."""
        by_address = {}
        for name, value in settings.items():
            address, spec = register(name.replace("__", ".", 1))
            assert 0 <= value < 1 << spec.width, f"{name} {value} does not fit {spec.width} bits"
            for n in range(-(-spec.width // 32)):
                by_address[address + n] = int(value) >> 32 * n & 0xFFFFFFFF
        pending: list[int] = []
        for address in sorted(by_address):
            if pending and address != pending[-1] + 1:
                await self.write_words(pending[0], [by_address[a] for a in pending])
                pending = []
            pending.append(address)
        await self.write_words(pending[0], [by_address[a] for a in pending])

    async def write_table(self, name: str, entries):
        """Write a window from its first entry on."""
        await self.write_words(window(name).base, [int(entry) for entry in entries])

    async def arm(self):
        """Arm; the account of events begins anew."""
        await self.write(system__arm=1)
        self.account = EventAccount()

    async def start(self) -> int:
        """Start by command; returns the word of the start event, which is that before the pulse on the start output.

        The run may begin before the command is answered; the answer is looked at with the next request.
        """
        self.start_out.clear()
        address, _ = register("system.start")
        self._send(PacketKind.WRITE, address.to_bytes(2, "little") + (1).to_bytes(4, "little"))
        for _ in range(20_000):
            await self.words()
            if self.start_out:
                break
        await self.words(2)
        assert list(self.start_out.values()) == [0xFF]
        return min(self.start_out) - 1
