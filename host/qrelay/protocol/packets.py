"""Packets on the link.

On the wire: ``COBS(kind, sequence, body, CRC-32 little-endian)`` followed by one zero byte. A packet has at most 254
bytes before COBS, so COBS adds exactly one byte. CRC-32 is that of IEEE 802.3 (``zlib.crc32``) over kind, sequence and
body. All integers are little-endian.

=============== =========================================== ==================================================
kind            body                                        answer
=============== =========================================== ==================================================
READ 0x01       address u16, count u8 (1..58)               READ_DATA with `count` words of 32 bits
WRITE 0x02      address u16, words (1..58) of 32 bits       WRITE_DONE, body: count u8
READ_DATA 0x81  words of 32 bits
WRITE_DONE 0x82 count u8
ERROR 0x8F      code u8 (`ErrorCode`)
EVENT 0x40 + k  running count u32, records (1..29) of 64 bit  none
=============== =========================================== ==================================================

An answer repeats the sequence number of its request. Event packets count their own sequence number modulo 256, all
kinds together; their running count is the number of records of kind k sent before this packet, modulo 2^32, so that a
host knows exactly how many records a lost packet held.

A request that is corrupted, cut or overlong cannot be trusted to name its sequence number: it is dropped and counted.
A sound packet that asks for something impossible is answered with ERROR and leaves no trace.
"""

import zlib
from enum import IntEnum

__all__ = [
    "EVENT_BASE",
    "MAX_PACKET_BYTES",
    "MAX_RECORDS",
    "MAX_WORDS",
    "ErrorCode",
    "PacketKind",
    "cobs_decode",
    "cobs_encode",
    "frame_packet",
    "parse_packet",
]

MAX_PACKET_BYTES = 254
MAX_WORDS = 58
MAX_RECORDS = 29
EVENT_BASE = 0x40


class PacketKind(IntEnum):
    """First byte of a packet."""

    READ = 0x01
    WRITE = 0x02
    READ_DATA = 0x81
    WRITE_DONE = 0x82
    ERROR = 0x8F


class ErrorCode(IntEnum):
    """Body of an ERROR packet."""

    UNKNOWN_KIND = 1
    BAD_LENGTH = 2
    BAD_ADDRESS = 3


def cobs_encode(data: bytes) -> bytes:
    """Consistent-overhead byte stuffing (Cheshire and Baker 1999) of at most 254 bytes, without the final zero."""
    if len(data) > MAX_PACKET_BYTES:
        raise ValueError(f"packet of {len(data)} bytes exceeds {MAX_PACKET_BYTES}; split it")
    out = bytearray()
    for run in data.split(b"\0"):
        out += bytes((len(run) + 1,)) + run
    return bytes(out)


def cobs_decode(frame: bytes) -> bytes | None:
    """Undo `cobs_encode`; None if `frame` (without its zero byte) is no valid encoding."""
    out = bytearray()
    position = 0
    while position < len(frame):
        code = frame[position]
        run = frame[position + 1 : position + code]
        if code == 0 or len(run) != code - 1 or 0 in run:
            return None
        out += run
        position += code
        if position < len(frame) and code < 0xFF:
            out.append(0)
    return bytes(out)


def frame_packet(kind: int, sequence: int, body: bytes = b"") -> bytes:
    """Wire form of one packet, with its delimiter."""
    payload = bytes((kind, sequence & 0xFF)) + body
    return cobs_encode(payload + zlib.crc32(payload).to_bytes(4, "little")) + b"\0"


def parse_packet(frame: bytes) -> tuple[int, int, bytes] | None:
    """Split one wire frame (without its delimiter) into kind, sequence and body; None if it is damaged."""
    payload = cobs_decode(frame)
    if payload is None or not 6 <= len(payload) <= MAX_PACKET_BYTES:
        return None
    if zlib.crc32(payload[:-4]) != int.from_bytes(payload[-4:], "little"):
        return None
    return payload[0], payload[1], payload[2:-4]
