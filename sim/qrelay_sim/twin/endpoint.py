"""Where a client meets a simulated board: a TCP port or a pseudo-terminal, each a plain byte pipe.

A client may disconnect and come back. Bytes that nobody reads for `STALLED_S` are discarded, as a serial line would.
"""

import contextlib
import os
import socket
import time
import tty
from abc import ABC, abstractmethod

__all__ = ["STALLED_S", "Endpoint", "PtyEndpoint", "TcpEndpoint"]

STALLED_S = 5.0
_READ_BYTES = 65536
HIGH_WATER_BYTES = 1 << 20
"""Unsent bytes at which the twin's time waits for the client."""


class Endpoint(ABC):
    """Byte pipe to one client, never blocking."""

    url: str
    """What a client opens with pyserial."""

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._progress_at = time.monotonic()
        self.discarded = 0
        """Bytes that were thrown away because no client read them."""

    @abstractmethod
    def fileno(self) -> int:
        """File descriptor that becomes readable when a client says something or arrives."""

    @abstractmethod
    def _receive(self) -> bytes: ...

    @abstractmethod
    def _send(self, data: memoryview) -> int: ...

    @abstractmethod
    def close(self) -> None:
        """Release the port."""

    def poll(self) -> bytes:
        """Bytes that wait for the station; `taken` removes them. Also sends what can be sent."""
        self._incoming += self._receive()
        self._flush()
        return bytes(self._incoming[:_READ_BYTES])

    def taken(self, count: int) -> None:
        """The station took the first `count` waiting bytes."""
        del self._incoming[:count]

    def offer(self, data: bytes) -> None:
        """Queue bytes for the client."""
        if not self._outgoing:
            self._progress_at = time.monotonic()
        self._outgoing += data
        self._flush()

    @property
    def stalled(self) -> bool:
        """The client reads too slowly: the twin's time should wait."""
        return len(self._outgoing) >= HIGH_WATER_BYTES

    @property
    def pending(self) -> bool:
        """Bytes wait in either direction."""
        return bool(self._incoming or self._outgoing)

    def _flush(self) -> None:
        while self._outgoing:
            with memoryview(self._outgoing) as view:
                sent = self._send(view[:_READ_BYTES])
            if sent == 0:
                break
            del self._outgoing[:sent]
            self._progress_at = time.monotonic()
        if self._outgoing and time.monotonic() - self._progress_at > STALLED_S:
            self._discard()

    def _discard(self) -> None:
        self.discarded += len(self._outgoing)
        self._outgoing.clear()


class TcpEndpoint(Endpoint):
    """Listens on 127.0.0.1; the newest client wins, as with a cable that is plugged over."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.setblocking(False)
        self._client: socket.socket | None = None
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def fileno(self) -> int:
        """Descriptor of the client, or of the listener while there is none."""
        return (self._client or self._listener).fileno()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _READ_BYTES)  # the waiting is to be seen here
            self._drop()
            self._client = client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
            self._incoming.clear()
            self._discard()

    def _receive(self) -> bytes:
        self._accept()
        if self._client is None:
            return b""
        try:
            data = self._client.recv(_READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._drop()
        return data

    def _send(self, data: memoryview) -> int:
        if self._client is None:
            self.discarded += len(data)
            return len(data)
        try:
            return self._client.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.discarded += len(data)
            return len(data)

    def close(self) -> None:
        """Hang up and stop listening."""
        self._drop()
        self._listener.close()


class PtyEndpoint(Endpoint):
    """A pseudo-terminal in raw mode. The slave end stays open here, so that clients may come and go."""

    def __init__(self) -> None:
        super().__init__()
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._slave)

    def fileno(self) -> int:
        """Descriptor of the master end."""
        return self._master

    def _receive(self) -> bytes:
        try:
            return os.read(self._master, _READ_BYTES)
        except BlockingIOError:
            return b""

    def _send(self, data: memoryview) -> int:
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Close both ends."""
        os.close(self._master)
        os.close(self._slave)
