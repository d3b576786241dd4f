"""Golden model of the modulator: bins of each line from the choices, and what the pins make of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay.protocol.registers import LINE_MODES, LINES
from qrelay.protocol.units import BINS_PER_SLOT, SLOTS_PER_WORD

__all__ = ["LineSettings", "line_bins", "line_words", "pattern_bins", "pin_bins"]


@dataclass(frozen=True)
class LineSettings:
    """Registers of one line."""

    delay: int = 0
    invert: int = 0
    idle: int = 0
    mode: int = LINE_MODES.index("normal")


def line_bins(table: NDArray[np.uint16], segment: ArrayLike, setting: ArrayLike, phase: ArrayLike) -> NDArray[np.uint8]:
    """Bins ``[slot, line, bin]`` of the lines window `table` (512 entries) for the choice of each slot."""
    index = np.asarray(segment, np.int64) | np.asarray(setting, np.int64) << 2 | np.asarray(phase, np.int64) << 5
    bits = table[index][:, None] >> np.arange(BINS_PER_SLOT * LINES) & 1
    return np.asarray(bits, np.uint8).reshape(-1, LINES, BINS_PER_SLOT)


def pattern_bins(mode: str, phase_words: NDArray[np.int64], pattern_slots: int) -> NDArray[np.uint8]:
    """Bins ``[slot, bin]`` of a test pattern in words that are `phase_words` words into its period."""
    period = max(pattern_slots // SLOTS_PER_WORD, 1) * SLOTS_PER_WORD
    slot = (phase_words[:, None] * SLOTS_PER_WORD + np.arange(SLOTS_PER_WORD)).ravel()
    if mode == "square":
        return np.repeat((slot < period // 2).astype(np.uint8)[:, None], BINS_PER_SLOT, axis=1)
    return np.stack([slot == 0, np.zeros(len(slot), bool)], axis=1).astype(np.uint8)


def pin_bins(
    settings: LineSettings,
    run_bins: NDArray[np.uint8],
    running: ArrayLike,
    ready: ArrayLike,
    enable: int,
    phase_words: NDArray[np.int64],
    pattern_slots: int,
) -> NDArray[np.uint8]:
    """Levels ``[slot, bin]`` of one pin.

    Parameters
    ----------
    settings : LineSettings
        Registers of the line.
    run_bins : (4 * words, 2)
        Undelayed bins of the line; read in words of a run only.
    running : (words,)
        Words that belong to a run; a 0 between two runs separates them.
    ready : (words,)
        Clock locked.
    enable : int
        Register `modulator.enable`.
    phase_words : (words,)
        Phase of the test patterns in words.
    pattern_slots : int
        Period of the test patterns.
    """
    in_run = np.repeat(np.asarray(running, bool), SLOTS_PER_WORD)
    is_ready = np.repeat(np.asarray(ready, bool), SLOTS_PER_WORD)
    levels = np.full((len(in_run), BINS_PER_SLOT), settings.idle, np.uint8)
    mode = LINE_MODES[settings.mode] if settings.mode < len(LINE_MODES) else "none"
    if mode == "normal" and enable:
        slot = np.arange(len(in_run))
        begins = in_run & ~np.concatenate(([False], in_run[:-1]))
        since_start = slot - np.maximum.accumulate(np.where(begins, slot, 0))
        alive = in_run & (since_start >= settings.delay)
        levels[alive] = run_bins[slot[alive] - settings.delay] ^ settings.invert
    elif mode in ("low", "high"):
        levels[:] = mode == "high"
    elif mode in ("square", "pulse"):
        levels = pattern_bins(mode, phase_words, pattern_slots)
    levels[~is_ready] = settings.idle
    return levels


def line_words(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack levels ``[slot, bin]`` into one byte per word, earliest bin in bit 0."""
    return np.packbits(levels.reshape(-1, SLOTS_PER_WORD * BINS_PER_SLOT), axis=1, bitorder="little").ravel()
