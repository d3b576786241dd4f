"""What a station answers: the link and the register bank without their timing."""

from collections.abc import Mapping

from qrelay.protocol.packets import (
    MAX_PACKET_BYTES,
    MAX_WORDS,
    ErrorCode,
    PacketKind,
    cobs_decode,
    frame_packet,
    parse_packet,
)
from qrelay.protocol.registers import GROUPS, Register
from qrelay.protocol.windows import WINDOWS, Window

__all__ = ["LinkModel"]

_MIN_PACKET_BYTES = 6


def _decoded_length(frame: bytes) -> int:
    """Bytes that the frame decodes to as far as it goes, whether its stuffing is right or not."""
    length = 0
    position = 0
    previous_code = 0xFF
    while position < len(frame):
        code = frame[position]
        length += (previous_code != 0xFF) + len(frame[position + 1 : position + code])
        previous_code = code
        position += code
    return length


class LinkModel:
    """A station's link and registers: feed it bytes from the host, get the bytes for the host.

    Parameters
    ----------
    identity_words : list of int
        Contents of the identity window.
    status : mapping
        Values of `ro` registers by ``"group.register"``, and of words of `ro` windows by ``("window", index)``; 0 where
        missing.

    Attributes
    ----------
    writes : list of (address, value)
        Every word written, in order.
    counters : dict
        Packet counters of the group ``link``, by name.
    """

    def __init__(self, identity_words: list[int], status: Mapping[str | tuple[str, int], int] | None = None) -> None:
        self.status = dict(status or {})
        self.writes: list[tuple[int, int]] = []
        self.counters = dict.fromkeys(("received", "damaged", "overlong", "refused", "sent"), 0)
        self._pending = bytearray()
        self._registers: dict[int, tuple[str, Register, int]] = {}
        self._windows: dict[int, tuple[Window, int]] = {}
        self._values: dict[str, int] = {}
        self._tables: dict[tuple[str, int], int] = {("identity", n): word for n, word in enumerate(identity_words)}
        for group in GROUPS:
            for base, register in group.addressed():
                name = f"{group.name}.{register.name}"
                self._values[name] = register.reset
                for word in range(-(-register.width // 32)):
                    self._registers[base + word] = (name, register, word)
        for window in WINDOWS:
            for index in range(window.depth):
                self._windows[window.base + index] = (window, index)

    def feed(self, data: bytes) -> bytes:
        """Bytes from the host; returns the answers."""
        self._pending += data
        *frames, rest = bytes(self._pending).split(b"\0")
        self._pending = bytearray(rest)
        return b"".join(self._answer(frame) for frame in frames if frame)

    def _answer(self, frame: bytes) -> bytes:
        if _decoded_length(frame) > MAX_PACKET_BYTES:
            self.counters["overlong"] += 1
            return b""
        payload = cobs_decode(frame)
        packet = parse_packet(frame)
        if payload is None or packet is None:
            self.counters["damaged"] += 1
            return b""
        self.counters["received"] += 1
        kind, sequence, body = packet
        answer = self._execute(kind, body)
        if isinstance(answer, ErrorCode):
            self.counters["refused"] += 1
            out = frame_packet(PacketKind.ERROR, sequence, bytes((answer,)))
        else:
            out = frame_packet(answer[0], sequence, answer[1])
        self.counters["sent"] += 1
        return out

    def _execute(self, kind: int, body: bytes) -> tuple[int, bytes] | ErrorCode:
        if kind not in (PacketKind.READ, PacketKind.WRITE):
            return ErrorCode.UNKNOWN_KIND
        address = int.from_bytes(body[:2], "little")
        if kind == PacketKind.READ:
            if len(body) != 3 or not 1 <= body[2] <= MAX_WORDS:
                return ErrorCode.BAD_LENGTH
            places = range(address, address + body[2])
            if not all(place in self._registers or place in self._windows for place in places):
                return ErrorCode.BAD_ADDRESS
            return PacketKind.READ_DATA, b"".join(self.read(place).to_bytes(4, "little") for place in places)
        count, odd = divmod(len(body) - 2, 4)
        if odd or not 1 <= count <= MAX_WORDS:
            return ErrorCode.BAD_LENGTH
        if not all(self._writable(address + n) for n in range(count)):
            return ErrorCode.BAD_ADDRESS
        for n in range(count):
            self._write(address + n, int.from_bytes(body[2 + 4 * n : 6 + 4 * n], "little"))
        return PacketKind.WRITE_DONE, bytes((count,))

    def _writable(self, address: int) -> bool:
        if address in self._registers:
            return self._registers[address][1].access != "ro"
        return address in self._windows and self._windows[address][0].access != "ro"

    def read(self, address: int) -> int:
        """Word at a mapped address."""
        if address in self._windows:
            window, index = self._windows[address]
            if window.access == "wo":
                return 0
            return self._tables.get((window.name, index), self.status.get((window.name, index), 0))
        name, register, word = self._registers[address]
        if register.access in ("wo", "strobe"):
            return 0
        group, _, short = name.partition(".")
        if group == "link":
            # Bytes lost before the link are none of its packets.
            value = self.counters.get(short, self.status.get(name, 0))
        elif register.access == "ro":
            value = self.status.get(name, 0)
        else:
            value = self._values[name]
        return value >> (32 * word) & 0xFFFFFFFF

    def _write(self, address: int, value: int) -> None:
        self.writes.append((address, value))
        if address in self._windows:
            window, index = self._windows[address]
            self._tables[window.name, index] = value & ((1 << window.width) - 1)
            return
        name, register, word = self._registers[address]
        if register.access == "w1c":
            self._values[name] &= ~(value << (32 * word))
        elif register.access != "strobe":
            mask = 0xFFFFFFFF << (32 * word)
            self._values[name] = ((self._values[name] & ~mask) | value << (32 * word)) & ((1 << register.width) - 1)
