"""Stimulus for the key bits from outside: words of a run with bits that sometimes fail, then questions."""

import numpy as np
from choice_cases import TICK_LAYOUT

from qrelay_gateware.block_ring import BlockRing
from qrelay_gateware.sdram import SdramChip
from qrelay_gateware.sdram_ring import SdramRing
from qrelay_sim.golden.external_bits import external_bits, kept_bits
from qrelay_sim.golden.sequencer import QUANTUM, TICKS

__all__ = ["Case", "cases", "small_ring"]

RING_WORDS = 64
SMALL_CHIP = SdramChip(row_bits=1, column_bits=3, power_up_us=2)
OUTPUTS = ("key_bits", "blocked", "failed")


def small_ring(chip=False):
    """Rings that wrap within a case: in block RAMs 64 words, in a chip 256."""
    return SdramRing(SMALL_CHIP) if chip else BlockRing(RING_WORDS)


class Case:
    """A run of `words` words that begins at `first_word`; bits are missing in the words of `missing`.

    The ring has `ring_words`, of which `kept_words` are answered for.
    """

    def __init__(self, seed, words, first_word, missing=(), gaps=True, *, ring_words, kept_words):
        self.kept_words = kept_words
        random = np.random.default_rng(seed)
        self.ticks = np.zeros(words + 8, TICKS)
        run = slice(4, words + 4)
        self.ticks["running"][run] = 1
        self.ticks["slot_word"][run] = first_word + np.arange(words)
        self.ticks["segment"] = QUANTUM
        if gaps:
            self.ticks["segment"][random.random(words + 8) < 0.2] = 0
        self.bits = random.integers(0, 16, words + 8)
        self.valid = np.ones(words + 8, np.int64)
        for word in missing:
            self.valid[4 + word] = 0
            self.ticks["segment"][4 + word] = QUANTUM
        last = first_word + (missing[0] if missing else words) - 1
        near = [4 * (last - age) + lane for age in (0, 1, kept_words - 1, kept_words) for lane in range(4)]
        near += [4 * (last + 1), 4 * first_word, 4 * first_word - 1, 4 * (last + ring_words), 4 * (last - ring_words)]
        around = random.integers(max(0, 4 * last - 2000), 4 * last + 8, 20).tolist()
        self.slots = np.array([slot for slot in near if slot >= 0] + around, np.int64)
        self.trace = external_bits(self.ticks, self.bits, self.valid)
        assert (self.trace.failed_word is not None) == bool(missing)
        self.base = int(self.slots.min())

    @property
    def columns(self):
        """Inputs by word: bits come a word before their tick."""
        packed = [
            TICK_LAYOUT.const({name: int(tick[name]) for name in TICKS.names}).as_value().value for tick in self.ticks
        ]
        return {
            "tick": packed,
            "bits": np.roll(self.bits, -1).tolist(),
            "valid": np.roll(self.valid, -1).tolist(),
        }

    @property
    def answers(self):
        return kept_bits(self.ticks, self.trace, self.slots, self.kept_words).tolist()

    def check(self, seen):
        """Outputs by word; the first word has no bits yet."""
        np.testing.assert_array_equal(seen["key_bits"][1:], self.trace.key_bits[1:])
        np.testing.assert_array_equal(seen["blocked"][1:], self.trace.blocked[1:])
        failed = [] if self.trace.failed_word is None else [self.trace.failed_word + 1]
        assert np.flatnonzero(seen["failed"]).tolist() == failed


def cases(chip=False):
    """A short run, runs that wrap the ring, one with missing bits, and the ends of the slot range.

    For the rings of `small_ring`.
    """
    ring_words = 4 << SMALL_CHIP.address_bits if chip else RING_WORDS
    kept_words = ring_words - (SdramRing if chip else BlockRing).unsettled_words
    sizes = {"ring_words": ring_words, "kept_words": kept_words}
    return [
        Case(1, 20, 1000, **sizes),
        Case(2, 300, 12345, **sizes),
        Case(3, 300, 12345, missing=(150,), **sizes),
        Case(4, 100, 5000, missing=(0,), **sizes),
        Case(5, 200, 2, **sizes),
        Case(6, kept_words, (1 << 46) - kept_words - 40, gaps=False, **sizes),
    ]
