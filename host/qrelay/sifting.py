"""Phase matching (P1, physics.md section 2): from announcements and the users' own choices to sifted bits.

The untrusted nodes announce slot and outcome, nothing else; everything else here is what Alice and Bob drew themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .protocol.choice import PHASES
from .success_rules import OPPOSITE_SIGN, SAME_SIGN

__all__ = [
    "PHASE_OFFSETS",
    "Announcements",
    "Choices",
    "Matched",
    "draw_choices",
    "fringe_counts",
    "phase_offset_of",
    "sift",
]

PHASE_OFFSETS = range(PHASES)
_KEY_BIT = 8
_SLICE = 7

ByteArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Announcements:
    """What an untrusted node publishes. Both arrays have one entry per success; slots rise."""

    slots: NDArray[np.uint64]
    outcomes: ByteArray

    def __len__(self) -> int:
        return len(self.slots)

    @classmethod
    def joined(cls, parts: "Sequence[Announcements]") -> "Announcements":
        """All parts, one after the other."""
        if not parts:
            return cls(np.zeros(0, np.uint64), np.zeros(0, np.uint8))
        return cls(np.concatenate([p.slots for p in parts]), np.concatenate([p.outcomes for p in parts]))

    def between(self, first_slot: int, end_slot: int) -> "Announcements":
        """Those with ``first_slot <= slot < end_slot``."""
        inside = (self.slots >= np.uint64(first_slot)) & (self.slots < np.uint64(end_slot))
        return Announcements(self.slots[inside], self.outcomes[inside])

    def ordered(self) -> "Announcements":
        """The same in order of slots."""
        order = np.argsort(self.slots, kind="stable")
        return Announcements(self.slots[order], self.outcomes[order])


class DrawsChoices(Protocol):
    """Anything that regenerates the choices of given slots, such as `qrelay.choices.ChoiceStream`."""

    def at(self, slots: NDArray[np.uint64]) -> tuple[ByteArray, ByteArray]:
        """Return setting and phase index of each slot."""
        ...


@dataclass(frozen=True)
class Choices:
    """Setting and phase index of both users in the announced slots."""

    setting_a: ByteArray
    phase_a: ByteArray
    setting_b: ByteArray
    phase_b: ByteArray


def draw_choices(announcements: Announcements, alice: DrawsChoices, bob: DrawsChoices) -> Choices:
    """Regenerate what both users chose in the announced slots."""
    return Choices(*alice.at(announcements.slots), *bob.at(announcements.slots))


@dataclass(frozen=True)
class Matched:
    """Phase-matched successes. All arrays have one entry per matched success; bits are 0 or 1."""

    index: NDArray[np.int64]
    """Place in the announcements."""
    bits_a: ByteArray
    bits_b: ByteArray
    """After the flip rule: equal to `bits_a` where there is no error."""

    @property
    def errors(self) -> int:
        """Bits that differ."""
        return int(np.count_nonzero(self.bits_a != self.bits_b))


def sift(
    outcomes: ByteArray,
    phase_a: ByteArray,
    phase_b: ByteArray,
    *,
    phase_offset: int = 0,
    invert: bool = False,
) -> Matched:
    """Keep successes with equal slices and form the bits.

    Alice uses m' = (m_A + phase_offset) mod 16; bit 3 of a phase index is the key bit, bits 2:0 are the slice. Bob
    flips his bit after an opposite-sign pair (1+,2-) or (1-,2+); `invert` exchanges the two kinds of pair.
    """
    turned = (phase_a + np.uint8(phase_offset)) & np.uint8(PHASES - 1)
    known = np.isin(outcomes, (*SAME_SIGN, *OPPOSITE_SIGN))
    index = np.flatnonzero(((turned ^ phase_b) & _SLICE == 0) & known)
    flip = np.isin(outcomes[index], SAME_SIGN if invert else OPPOSITE_SIGN)
    bits_a = (turned[index] & _KEY_BIT) >> 3
    bits_b = ((phase_b[index] & _KEY_BIT) >> 3) ^ flip
    return Matched(index, bits_a.astype(np.uint8), bits_b.astype(np.uint8))


def fringe_counts(outcomes: ByteArray, phase_a: ByteArray, phase_b: ByteArray) -> NDArray[np.int64]:
    """Successes [same sign 0 or opposite 1, phase difference Alice minus Bob in 1/16 turn]; other outcomes are left."""
    difference = (phase_a.astype(np.int64) - phase_b) % PHASES
    return np.stack(
        [np.bincount(difference[np.isin(outcomes, codes)], minlength=PHASES) for codes in (SAME_SIGN, OPPOSITE_SIGN)]
    )


def phase_offset_of(fringe: NDArray[np.int64]) -> tuple[int, float]:
    """Phase offset j_off that a fringe of `fringe_counts` shows, and the fringe's contrast.

    The success with phase difference delta is of the same sign with probability (1 + V cos(delta + offset)) / 2: the
    sum of +-exp(i delta) points to minus the offset. Give successes that never enter a key.
    """
    step = 2 * np.pi / PHASES
    vector = complex((fringe[0] - fringe[1]) @ np.exp(1j * step * np.arange(PHASES)))
    if vector == 0:
        return 0, 0.0
    return round(-float(np.angle(vector)) / step) % PHASES, 2 * abs(vector) / int(fringe.sum())
