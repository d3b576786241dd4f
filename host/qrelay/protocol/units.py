"""Time on the slot grid: the constants that every station shares.

Integers count slots and fines. One slot is one period of 304.52 MHz, which is no whole number of picoseconds, so
picoseconds are a view computed at the edge of the program and never a stored coordinate.
"""

from fractions import Fraction

__all__ = [
    "BINS_PER_SLOT",
    "DEFAULT_SLOT_RATE_HZ",
    "FINES_PER_SLOT",
    "SLOTS_PER_BLOCK",
    "SLOTS_PER_WORD",
    "SLOT_BITS",
    "SLOT_WORD_BITS",
    "fines_to_ps",
    "slots_to_seconds",
]

DEFAULT_SLOT_RATE_HZ = Fraction(304_520_000)
"""Slot rate of the published experiment (physics.md section 1, [S0]); a clock plan may carry another."""

SLOTS_PER_WORD = 4
"""Consecutive slots processed in one cycle of the fabric (word) clock."""

SLOTS_PER_BLOCK = 8
"""Slots whose choices come from one AES block; station offsets are multiples of it."""

BINS_PER_SLOT = 2
"""Output pattern bins per slot: the x2 gearbox of the pins sends two bits per slot."""

FINES_PER_SLOT = 256
"""Sub-slot positions, whatever the resolution of the hardware that measured them."""

SLOT_BITS = 48
"""Width of the slot index: 10.7 days at 304.52 MHz."""

SLOT_WORD_BITS = SLOT_BITS - 2
"""Width of the word index (slot index / 4)."""


def slots_to_seconds(slots: int, slot_rate_hz: Fraction = DEFAULT_SLOT_RATE_HZ) -> float:
    """Duration of `slots` slots in seconds."""
    return float(slots / slot_rate_hz)


def fines_to_ps(fines: float, slot_rate_hz: Fraction = DEFAULT_SLOT_RATE_HZ) -> float:
    """Duration of `fines` fines (1/256 slot) in picoseconds."""
    return fines * float(Fraction(10**12) / slot_rate_hz) / FINES_PER_SLOT
