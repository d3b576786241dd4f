"""The carry-chain time-to-digital converter: what its encoder, its models and its calibration agree on."""

from .units import FINES_PER_SLOT

__all__ = ["CODE_BITS", "GROUP_TAPS", "HISTOGRAM_BITS", "SLOTS_PER_CAPTURE", "SPAN_FINES", "TAPS", "codes_of"]

SLOTS_PER_CAPTURE = 2
"""The chain is captured once per two slots (152.26 MHz at 304.52 MHz)."""

SPAN_FINES = SLOTS_PER_CAPTURE * FINES_PER_SLOT
"""Fines between two captures: bit 8 of a calibrated time tells the later slot of the two."""

TAPS = 288
"""Taps of a chain that spans two slots with margin in the timing model of all ECP5 grades."""

GROUP_TAPS = 8
"""Taps whose majority makes one level, by which bubbles are told from edges."""

CODE_BITS = 9
HISTOGRAM_BITS = 32
"""Width of a bin of the code-density histogram."""


def codes_of(taps: int) -> int:
    """Number of codes of a chain: an edge counts from the fourth tap on, and the last group has no older one."""
    return taps - GROUP_TAPS
