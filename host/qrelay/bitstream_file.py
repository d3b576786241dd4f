"""What a bitstream file tells of itself: its hash, and the build id that a station built from it answers with."""

import hashlib
from pathlib import Path

from .errors import ConfigError
from .protocol.identity import Capability, Identity

__all__ = ["BUILD_ID_COMMENT", "bitstream_build_id", "bitstream_sha256", "check_bitstream"]

BUILD_ID_COMMENT = "qrelay build id: "
"""Comment in the head of a bitstream, followed by 16 hexadecimal digits."""
_HEAD_BYTES = 4096


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"bitstream {path}: {error.strerror}; give the file that was flashed") from error


def bitstream_sha256(path: Path) -> str:
    """SHA-256 of a bitstream file. Raises ConfigError if it cannot be read."""
    return hashlib.sha256(_content(path)).hexdigest()


def bitstream_build_id(path: Path) -> int | None:
    """Build id in the head of a bitstream file, None where it has none. Raises ConfigError if it cannot be read."""
    _, found, rest = _content(path)[:_HEAD_BYTES].partition(BUILD_ID_COMMENT.encode())
    try:
        return int(rest[:16], 16) if found and len(rest) >= 16 else None
    except ValueError:
        return None


def check_bitstream(path: Path, identity: Identity) -> str:
    """SHA-256 of the bitstream that the station holds.

    A simulated station has no bitstream, and takes any file as its name: give the file that describes it.

    Raises ConfigError for a file that is not the station's, or cannot be read.
    """
    if Capability.SIMULATED not in identity.capabilities:
        found = bitstream_build_id(path)
        if found is None:
            raise ConfigError(
                f"bitstream {path} has no build id in its head; give a file of `qrelay build`, built anew if it is old"
            )
        if found != identity.build_id:
            raise ConfigError(
                f"bitstream {path} has build id {found:016x}, but the station {identity.board} holds "
                f"{identity.build_id:016x}; give the file that was flashed, or flash this one"
            )
    return bitstream_sha256(path)
