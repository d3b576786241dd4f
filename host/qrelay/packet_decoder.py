"""From bytes of the link to answers and event records; no input or output of its own."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cobs import cobs

from qrelay.protocol.packets import EVENT_BASE, MAX_PACKET_BYTES
from qrelay.protocol.records import RecordKind

__all__ = ["LinkStatistics", "PacketDecoder"]

_RESIDUE = 0x2144DF1C
"""CRC-32 of any packet followed by its own CRC-32: the whole payload is checked without cutting it up."""
_KINDS = len(RecordKind)
_EVENT_END = EVENT_BASE + _KINDS


@dataclass
class LinkStatistics:
    """What came over the link and what did not. Lists are indexed by `RecordKind`."""

    bytes_received: int = 0
    packets: int = 0
    damaged_frames: int = 0
    """Frames with a bad checksum, bad stuffing or an impossible length."""
    unknown_packets: int = 0
    late_answers: int = 0
    """Answers to a request that was already answered or given up."""
    retries: int = 0
    lost_packets: int = 0
    """Event packets missing from the sequence numbers (modulo 256)."""
    records: list[int] = field(default_factory=lambda: [0] * _KINDS)
    lost_records: list[int] = field(default_factory=lambda: [0] * _KINDS)
    """Records missing from the running counts: lost on the wire, exactly."""
    discarded_records: list[int] = field(default_factory=lambda: [0] * _KINDS)
    """Records that arrived but were not taken in time and exceeded the memory limit."""


class PacketDecoder:
    """Cuts a byte stream into packets, checks them and keeps account of event records.

    A cut or damaged frame is counted and skipped; the next zero byte starts afresh. `on_answer` is called with the
    payload (kind, sequence, body, CRC) of each answer once all that came before it in the stream is accounted for.
    """

    def __init__(self, on_answer: Callable[[bytes], None] = lambda payload: None) -> None:
        self._on_answer = on_answer
        self.statistics = LinkStatistics()
        self.bodies: list[list[bytes]] = [[] for _ in range(_KINDS)]
        """Record bytes per kind, as received; whoever takes them clears the list."""
        self._carry = b""
        self._expected: list[int | None] = [None] * _KINDS
        self._sequence: int | None = None

    def expect_from_zero(self) -> None:
        """The station has just been armed: its running counts start at zero and its sequence may jump.

        Records of before that nobody took are forgotten: they belong to no run of this host.
        """
        self._expected[:] = [0] * _KINDS
        self._sequence = None
        for kind in range(_KINDS):
            self.bodies[kind] = []
        self.statistics.records = [0] * _KINDS
        self.statistics.lost_records = [0] * _KINDS
        self.statistics.discarded_records = [0] * _KINDS

    def feed(self, chunk: bytes) -> None:
        """Take received bytes."""
        statistics = self.statistics
        statistics.bytes_received += len(chunk)
        frames = (self._carry + chunk).split(b"\0")
        self._carry = frames.pop()
        if len(self._carry) > MAX_PACKET_BYTES + 1:
            # No frame is that long: keep one byte so that the rest of it, up to the next zero, is dropped as well.
            self._carry = self._carry[: MAX_PACKET_BYTES + 2]
        decode, crc32, from_bytes = cobs.decode, zlib.crc32, int.from_bytes
        expected, bodies = self._expected, self.bodies
        for frame in frames:
            if not frame:
                continue
            try:
                payload = decode(frame)
            except cobs.DecodeError:
                statistics.damaged_frames += 1
                continue
            if len(payload) > MAX_PACKET_BYTES or len(payload) < 6 or crc32(payload) != _RESIDUE:
                statistics.damaged_frames += 1
                continue
            statistics.packets += 1
            kind = payload[0] - EVENT_BASE
            if 0 <= kind < _KINDS:
                body = payload[6:-4]
                if len(body) % 8 or not body:
                    statistics.damaged_frames += 1
                    continue
                running = from_bytes(payload[2:6], "little")
                count = len(body) >> 3
                if running != expected[kind]:
                    self._account(kind, running)
                expected[kind] = (running + count) & 0xFFFFFFFF
                statistics.records[kind] += count
                if payload[1] != self._sequence and self._sequence is not None:
                    statistics.lost_packets += (payload[1] - self._sequence) & 0xFF
                self._sequence = (payload[1] + 1) & 0xFF
                bodies[kind].append(body)
            elif payload[0] & 0x80:
                self._on_answer(payload)
            else:
                statistics.unknown_packets += 1

    def _account(self, kind: int, running: int) -> None:
        expected = self._expected[kind]
        if expected is None:
            return
        gap = (running - expected) & 0xFFFFFFFF
        # A step back is a station that was armed anew by someone else, not four thousand million lost records.
        if gap < 1 << 31:
            self.statistics.lost_records[kind] += gap
