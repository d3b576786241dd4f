"""The simulated bench between the boards: fibres as whole slots, start cable, light codes of the line states."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL_SHIFT", "PHASE_MASK", "PULSE", "REFERENCE", "DelayLine", "FibrePaths", "sender_light", "source_light"]

# Lines of a sender (system.md section 3): 0 carve, 1-2 level code, 3-6 phase index, 7 frame marker.
# Lines of the source: 0 pump clock, 1 reference switch, 2 shutter (high blocks).
_CARVE, _LEVEL, _PHASE = 0, (1, 2), (3, 4, 5, 6)
_PUMP, _REFERENCE_SWITCH, _SHUTTER = 0, 1, 2

PHASE_MASK = 0x0F
LEVEL_SHIFT = 4
PULSE = 0x40
REFERENCE = 0x20
"""A sender's light code: bits 3:0 phase index, 5:4 level code, 6 a pulse is there. The source's: bit 6 a photon, bit 5
reference light."""


def _first_bin(line: int) -> NDArray[np.bool_]:
    """Whether the first bin of `line` is high, for all 65536 line states of a slot."""
    return (np.arange(65536) >> (2 * line) & 1).astype(bool)


def sender_light() -> NDArray[np.uint8]:
    """Light code by the line bins of a slot: a pulse leaves where the carve line is high in the first bin.

    Level and phase modulators act with the state they have while the pulse passes, which is that bin.
    """
    level = sum(_first_bin(line).astype(np.uint8) << k for k, line in enumerate(_LEVEL))
    phase = sum(_first_bin(line).astype(np.uint8) << k for k, line in enumerate(_PHASE))
    code = np.asarray(PULSE | level << LEVEL_SHIFT | phase, np.uint8)
    return np.where(_first_bin(_CARVE), code, 0).astype(np.uint8)


def source_light() -> NDArray[np.uint8]:
    """Light code of the source: it is pumped in the first bin and its shutter is open, or the reference is let in.

    The shutter is in the dot's path alone. Of both at once the detectors would see the reference.
    """
    photon = np.where(_first_bin(_PUMP) & ~_first_bin(_SHUTTER), PULSE, 0)
    return np.where(_first_bin(_REFERENCE_SWITCH), REFERENCE, photon).astype(np.uint8)


class DelayLine:
    """A fibre: what enters leaves `delay_slots` later; dark before that."""

    def __init__(self, delay_slots: int) -> None:
        self._inside = np.zeros(delay_slots, np.uint8)

    def pass_through(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Codes that leave while `codes` enter, same length."""
        line = np.concatenate((self._inside, codes))
        self._inside = line[len(codes) :].copy()
        return line[: len(codes)]


MIN_DELAY_SLOTS = 8
"""Shortest path, 5 m of fibre: timing jitter may bring an edge forward, but not before the light has left."""


@dataclass(frozen=True)
class FibrePaths:
    """Delays of the four paths in whole slots, and how the bench lines up what meets at a node.

    The two modes of one source photon reach M1 and M2 after different times, so the optics work on the slot in which
    the source emitted: `lag` is how far it must stay behind the present to know everything that meets that photon.
    """

    alice_m1: int
    bob_m2: int
    source_m1: int
    source_m2: int

    def __post_init__(self) -> None:
        for name in ("alice_m1", "bob_m2", "source_m1", "source_m2"):
            if getattr(self, name) < MIN_DELAY_SLOTS:
                raise ValueError(f"path delay {name} = {getattr(self, name)} slots; give {MIN_DELAY_SLOTS} or more")
        if min(self.m1_delay, self.m2_delay) < MIN_DELAY_SLOTS // 2:
            raise ValueError(
                f"source arms of {self.source_m1} and {self.source_m2} slots differ too much from the users' arms of "
                f"{self.alice_m1} and {self.bob_m2} slots for the twin; lengthen the users' arms or the shorter one"
            )

    @property
    def lag(self) -> int:
        """Slots between the source's present and the emission slot that the optics work on."""
        return max(0, self.source_m1 - self.alice_m1, self.source_m2 - self.bob_m2)

    @property
    def alice_lag(self) -> int:
        """Delay of Alice's light codes to the optics' emission slot."""
        return self.lag - (self.source_m1 - self.alice_m1)

    @property
    def bob_lag(self) -> int:
        """Delay of Bob's light codes to the optics' emission slot."""
        return self.lag - (self.source_m2 - self.bob_m2)

    @property
    def m1_delay(self) -> int:
        """Slots from the optics' present to the arrival at M1."""
        return self.source_m1 - self.lag

    @property
    def m2_delay(self) -> int:
        """Slots from the optics' present to the arrival at M2."""
        return self.source_m2 - self.lag
