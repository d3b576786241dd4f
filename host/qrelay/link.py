"""Requests and event stream over any pyserial URL: a serial port, ``socket://`` or a pseudo-terminal."""

import contextlib
import errno
import os
import select
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import serial

from qrelay.errors import LinkClosed, LinkError, LinkTimeout, StationRefused
from qrelay.packet_decoder import LinkStatistics, PacketDecoder
from qrelay.protocol.packets import MAX_WORDS, ErrorCode, PacketKind, frame_packet
from qrelay.protocol.records import RecordKind
from qrelay.record_arrays import RecordArray, unpack_records

from .closing import ClosedAtExit

__all__ = ["DEFAULT_BAUD", "Link"]

DEFAULT_BAUD = 3_000_000
_READ_BYTES = 1 << 18
_IN_FLIGHT = 4
"""Requests sent ahead of their answers; a station works them off in order."""
_PENDING_LIMIT_BYTES = 256 << 20
"""Untaken records kept per kind before the oldest are discarded, and counted."""


@dataclass(eq=False)
class _Request:
    kind: PacketKind
    body: bytes
    answer_kind: PacketKind
    answer_bytes: int
    what: str
    on_answer: Callable[[], None] | None = None
    sequences: list[int] = field(default_factory=list)
    answered: threading.Event = field(default_factory=threading.Event)
    answer: bytes = b""
    error: LinkError | None = None


class Link(ClosedAtExit):
    """One station's link: numbered requests with retries, and record arrays by kind from a reader thread.

    A request that gets no answer in `timeout_s` is sent again, up to `attempts` times, each time under a new sequence
    number; a late answer to any of them counts. Nothing is retried after an ERROR answer.
    """

    def __init__(self, port: Any, url: str, *, timeout_s: float = 1.0, attempts: int = 4) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self.attempts = attempts
        self._port = port
        self._decoder = PacketDecoder(self._answer)
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._pending: dict[int, _Request] = {}
        self._sequence = 0
        self._closing = False
        self._failure: str | None = None
        self._descriptor = self._find_descriptor()
        self._reader = threading.Thread(target=self._read_loop, name=f"link {url}", daemon=True)
        self._reader.start()
        # A lone delimiter ends whatever half frame an earlier client may have left in the station.
        self._send(b"\0")

    @classmethod
    def open(cls, url: str, *, baud: int = DEFAULT_BAUD, timeout_s: float = 1.0, attempts: int = 4) -> "Link":
        """Open `url`. Raises LinkError naming it if that is not possible."""
        try:
            exclusive = None if "://" in url else True
            port = serial.serial_for_url(url, baudrate=baud, timeout=0.1, write_timeout=10, exclusive=exclusive)
        except (OSError, ValueError) as error:
            remedy = "`qrelay devices` lists ports; no other program may hold one"
            if getattr(error, "errno", None) == errno.EACCES:
                remedy = "may your user use serial ports? (Debian: sudo usermod -aG dialout $USER, then log in again)"
            raise LinkError(f"cannot open {url}: {error}; {remedy}") from error
        # FTDI bridges hold bytes back for 16 ms unless told otherwise; other ports do not know the request.
        with contextlib.suppress(Exception):
            port.set_low_latency_mode(True)
        return cls(port, url, timeout_s=timeout_s, attempts=attempts)

    def close(self) -> None:
        """Stop the reader and close the port. Records already received can still be taken."""
        self._closing = True
        self._fail("closed")
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=2)
        with contextlib.suppress(Exception):
            self._port.close()

    @property
    def statistics(self) -> LinkStatistics:
        """Running account of the link."""
        return self._decoder.statistics

    @property
    def failure(self) -> str | None:
        """Why the link is down; None while it is up."""
        return self._failure

    def read(self, address: int, count: int = 1) -> list[int]:
        """`count` words from `address` on, in packets of up to 58 words."""
        requests = []
        for offset in range(0, count, MAX_WORDS):
            part = min(MAX_WORDS, count - offset)
            body = struct.pack("<HB", address + offset, part)
            what = f"read of {part} words at {address + offset:#06x}"
            requests.append(_Request(PacketKind.READ, body, PacketKind.READ_DATA, 4 * part, what))
        self._exchange(requests, self.attempts)
        words: list[int] = []
        for request in requests:
            words += struct.unpack(f"<{len(request.answer) // 4}I", request.answer)
        return words

    def write(self, address: int, words: Sequence[int], *, once: bool = False) -> None:
        """Write `words` to consecutive addresses; `once` sends no retry (for actions that must not happen twice)."""
        self._exchange(self._write_requests([(address, words)]), 1 if once else self.attempts)

    def write_all(self, items: Iterable[tuple[int, Sequence[int]]]) -> None:
        """Many writes of (address, words), pipelined."""
        self._exchange(self._write_requests(items), self.attempts)

    def write_and_restart_counts(self, address: int, words: Sequence[int]) -> None:
        """A write after whose answer, in stream order, the running counts of event packets start at zero (arm)."""
        requests = self._write_requests([(address, words)])
        requests[-1].on_answer = self._decoder.expect_from_zero
        self._exchange(requests, self.attempts)

    def take(self, kind: RecordKind) -> RecordArray:
        """All records of `kind` received since the last call."""
        with self._lock:
            bodies = self._decoder.bodies[kind]
            self._decoder.bodies[kind] = []
        return unpack_records(kind, np.frombuffer(b"".join(bodies), dtype="<u8"))

    def wait_for_records(self, timeout_s: float) -> bool:
        """Wait until some record is there to be taken, the link fails or the time is over; True if there is one."""
        with self._arrived:
            return self._arrived.wait_for(
                lambda: any(self._decoder.bodies) or self._failure is not None, timeout_s
            ) and any(self._decoder.bodies)

    # -- requests ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _write_requests(items: Iterable[tuple[int, Sequence[int]]]) -> list[_Request]:
        requests = []
        for address, words in items:
            for offset in range(0, len(words), MAX_WORDS):
                part = words[offset : offset + MAX_WORDS]
                body = struct.pack(f"<H{len(part)}I", address + offset, *part)
                what = f"write of {len(part)} words at {address + offset:#06x}"
                requests.append(_Request(PacketKind.WRITE, body, PacketKind.WRITE_DONE, 1, what))
        return requests

    def _exchange(self, requests: Sequence[_Request], attempts: int) -> None:
        in_flight: deque[_Request] = deque()
        try:
            for request in requests:
                if len(in_flight) == _IN_FLIGHT:
                    self._await(in_flight.popleft(), attempts)
                self._submit(request)
                in_flight.append(request)
            while in_flight:
                self._await(in_flight.popleft(), attempts)
        finally:
            self._retire(requests)

    def _submit(self, request: _Request) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._closed()
            for _ in range(256):
                self._sequence = (self._sequence + 1) & 0xFF
                if self._sequence not in self._pending:
                    break
            else:
                raise LinkError(f"256 requests to {self.url} wait for an answer; the station does not keep up")
            request.sequences.append(self._sequence)
            self._pending[self._sequence] = request
            packet = frame_packet(request.kind, self._sequence, request.body)
        self._send(packet)

    def _await(self, request: _Request, attempts: int) -> None:
        for attempt in range(attempts):
            if request.answered.wait(self.timeout_s):
                break
            if attempt + 1 < attempts:
                self.statistics.retries += 1
                self._submit(request)
        else:
            counts = self.statistics
            raise LinkTimeout(
                f"{self.url}: no answer to the {request.what} in {attempts} x {self.timeout_s:g} s "
                f"({counts.packets} sound packets and {counts.damaged_frames} damaged frames received so far); "
                "check power, cable, port and baud rate"
            )
        if request.error is not None:
            raise request.error

    def _retire(self, requests: Sequence[_Request]) -> None:
        with self._lock:
            for request in requests:
                for sequence in request.sequences:
                    if self._pending.get(sequence) is request:
                        del self._pending[sequence]

    def _send(self, packet: bytes) -> None:
        try:
            with self._write_lock:
                self._port.write(packet)
        except Exception as error:  # pyserial and its back ends raise many kinds
            self._fail(f"cannot write: {error}")
            raise self._closed() from error

    # -- reader thread -----------------------------------------------------------------------------------------------

    def _find_descriptor(self) -> int | None:
        """File descriptor to select on; None where the port has none (Windows, loop://)."""
        if os.name != "posix":
            return None
        try:
            return int(self._port.fileno())
        except (AttributeError, OSError, ValueError):
            return None

    def _receive(self) -> bytes:
        if self._descriptor is None:
            first: bytes = self._port.read(1)
            return first + self._port.read(self._port.in_waiting) if first else b""
        ready, _, _ = select.select([self._descriptor], [], [], 0.1)
        if not ready:
            return b""
        chunk = os.read(self._descriptor, _READ_BYTES)
        if not chunk:
            raise OSError("the other side closed the connection")
        return chunk

    def _read_loop(self) -> None:
        while not self._closing:
            try:
                chunk = self._receive()
            except Exception as error:  # pyserial and its back ends raise many kinds
                self._fail(str(error) or type(error).__name__)
                return
            if chunk:
                with self._arrived:
                    self._decoder.feed(chunk)
                    self._limit()
                    self._arrived.notify_all()

    def _answer(self, payload: bytes) -> None:
        kind, sequence, body = payload[0], payload[1], payload[2:-4]
        request = self._pending.get(sequence)
        fits = request is not None and kind == request.answer_kind and len(body) == request.answer_bytes
        refused = kind == PacketKind.ERROR and len(body) == 1
        if request is None or request.answered.is_set() or not (fits or refused):
            self.statistics.late_answers += 1
            return
        if refused:
            name = ErrorCode(body[0]).name if body[0] in set(ErrorCode) else f"code {body[0]}"
            request.error = StationRefused(f"{self.url} refused the {request.what}: {name}")
        elif request.on_answer is not None:
            request.on_answer()
        request.answer = body
        request.answered.set()

    def _limit(self) -> None:
        for kind, bodies in enumerate(self._decoder.bodies):
            # A body has at most 232 bytes, so the sum is only taken where the limit may be reached.
            if len(bodies) * 232 > _PENDING_LIMIT_BYTES and sum(map(len, bodies)) > _PENDING_LIMIT_BYTES:
                half = len(bodies) // 2
                self.statistics.discarded_records[kind] += sum(map(len, bodies[:half])) // 8
                del bodies[:half]

    def _fail(self, reason: str) -> None:
        with self._arrived:
            if self._failure is None:
                self._failure = reason
            for request in self._pending.values():
                if not request.answered.is_set():
                    request.error = self._closed()
                    request.answered.set()
            self._arrived.notify_all()

    def _closed(self) -> LinkClosed:
        return LinkClosed(
            f"link to {self.url} is down: {self._failure}; check the cable and that the station still runs"
        )
