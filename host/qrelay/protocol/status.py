"""Bits of `system.alarms` and `system.state`, in words."""

from collections.abc import Iterable
from enum import IntFlag

__all__ = ["Alarm", "State", "bit_list"]


class _Bits(IntFlag):
    """Bits of a register."""

    def names(self) -> list[str]:
        """Lower-case names of the bits that are set."""
        return [(flag.name or "").lower().replace("_", " ") for flag in self]


class Alarm(_Bits):
    """Latched by the station until cleared."""

    REFERENCE_LOST = 1 << 0
    CLOCK_LOCK_LOST = 1 << 1
    CLOCK_PHASE_SLIPPED = 1 << 2
    START_REFUSED = 1 << 3
    SYNC_SLIP = 1 << 4
    RECORDS_DROPPED = 1 << 5
    DAMAGED_PACKET = 1 << 6
    ENTROPY_TEST_FAILED = 1 << 7
    ARM_REFUSED = 1 << 8
    CHOICES_BEFORE_KEYSTREAM = 1 << 9
    KEY_NOT_MADE = 1 << 10
    SERIAL_BYTE_LOST = 1 << 11


class State(_Bits):
    """Present state of a station."""

    ARMED = 1 << 0
    RUNNING = 1 << 1
    KEYSTREAM_READY = 1 << 2
    NONCE_FRESH = 1 << 3
    CLOCK_LOCKED = 1 << 4
    EXTERNAL_REFERENCE = 1 << 5
    FINISHED = 1 << 6
    AUDIT_COMPLETE = 1 << 7


def bit_list(flags: Iterable[_Bits]) -> str:
    """Numbers and names of all bits, for the register map."""
    return "bit " + ", ".join(f"{number} {flag.names()[0]}" for number, flag in enumerate(flags))
