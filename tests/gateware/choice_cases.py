"""Random words for the choice mapper, and what the golden model makes of them, as port values."""

import numpy as np
from amaranth.lib import data

from qrelay_gateware.layouts import Choices, Tick
from qrelay_sim.golden.choices import CHOICES, choices
from qrelay_sim.golden.sequencer import TICKS

TICK_LAYOUT = data.Layout.cast(Tick)
CHOICES_LAYOUT = data.Layout.cast(Choices)


def random_words(seed, words):
    """(ticks, draws, thresholds, enable); half of the words are quantum segments, in short stretches."""
    random = np.random.default_rng(seed)
    ticks = np.zeros(words, TICKS)
    ticks["running"] = random.random(words) < 0.9
    ticks["slot_word"] = random.integers(0, 1 << 46, words)
    ticks["segment"] = np.where(random.random(words) < 0.4, 2, random.integers(0, 4, words))
    ticks["setting"] = random.integers(0, 8, words)
    ticks["phase"] = random.integers(0, 16, words)
    ticks["frame"] = random.integers(0, 1 << 32, words)
    ticks["frame_last"] = random.integers(0, 2, words)
    draws = random.integers(0, 1 << 16, (words, 4))
    thresholds = random.integers(0, 4097, 7)
    if seed % 2:
        thresholds.sort()
    return ticks, draws, tuple(int(t) for t in thresholds), int(seed % 5 != 4)


def expected_words(ticks, draws, thresholds, enable):
    """The choices port of each word, without the latency."""
    return [
        CHOICES_LAYOUT.const([{name: int(choice[name]) for name in CHOICES.names} for choice in word]).as_value().value
        for word in choices(ticks, draws, thresholds, bool(enable))
    ]
