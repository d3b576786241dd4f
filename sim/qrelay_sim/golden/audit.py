"""Golden model of the audit memory, and its reading back into choices and line bins."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay.protocol.registers import LINES
from qrelay.protocol.units import BINS_PER_SLOT

__all__ = ["audit_choices", "audit_lines", "audit_words"]


def audit_words(setting: ArrayLike, phase: ArrayLike, drawn: ArrayLike, bins: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Audit window of consecutive slots: choices per slot, and their bins ``[slot, line, bin]`` as they leave.

    Four 32-bit words per four slots, in the order of their addresses.
    """
    choice = np.asarray(setting, np.uint32) | np.asarray(phase, np.uint32) << 3 | np.asarray(drawn, np.uint32) << 7
    lines = np.packbits(bins.reshape(len(bins), BINS_PER_SLOT * LINES), axis=1, bitorder="little").view("<u2").ravel()
    halves = np.stack([choice.reshape(-1, 2, 2), lines.astype(np.uint32).reshape(-1, 2, 2)], axis=1)
    return np.asarray(halves[..., 0] | halves[..., 1] << 16, np.uint32).ravel()


def _per_slot(words: NDArray[np.uint32], part: int) -> NDArray[np.uint16]:
    pairs = np.asarray(words, np.uint32).reshape(-1, 2, 2)[:, part]
    return np.stack([pairs & 0xFFFF, pairs >> 16], axis=-1).ravel().astype(np.uint16)


def audit_choices(words: NDArray[np.uint32]) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint16]]:
    """Return setting, phase and drawn of each slot of an audit window."""
    choice = _per_slot(words, 0)
    setting = np.asarray(choice & 7, np.uint16)
    phase = np.asarray(choice >> 3 & 15, np.uint16)
    drawn = np.asarray(choice >> 7 & 1, np.uint16)
    return setting, phase, drawn


def audit_lines(words: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Return the bins ``[slot, line, bin]`` of each slot of an audit window."""
    entry = _per_slot(words, 1)
    bits = entry[:, None] >> np.arange(BINS_PER_SLOT * LINES) & 1
    return bits.astype(np.uint8).reshape(-1, LINES, BINS_PER_SLOT)
