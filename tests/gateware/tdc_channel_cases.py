"""A detector on a chain that has been calibrated: captures, table, settings, and the hits by the models."""

import numpy as np

from qrelay.protocol.units import FINES_PER_SLOT
from qrelay.tdc_calibration import calibrate
from qrelay_sim.golden.tdc import channel_words, encode, histogram
from qrelay_sim.tap_chain import CAPTURE_PS, TapChain

SLOT_PS = CAPTURE_PS / 2


class ChannelCase:
    """Pulses of at least 6 ns with gaps of at least 6 ns on a chain with unequal taps, jitter and bubbles."""

    def __init__(self, seed, words, grade="6"):
        random = np.random.default_rng(seed)
        self.chain = chain = TapChain.random(random, grade=grade)
        # Code density: 120,000 hits anywhere between two captures.
        ages = random.uniform(0, CAPTURE_PS, 120_000)
        counts = np.zeros(512, np.int64)
        for part in np.split(ages, 24):
            hits = encode(chain.isolated(part, random), last_level=False)
            counts += histogram(hits.valid, hits.code)
        self.calibration = calibration = calibrate(counts)
        self.table = calibration.table
        self.config = {"invert": 0, "high_from": calibration.high_from, "low_from": calibration.low_from}
        lengths = random.uniform(6000, 30_000, words)
        toggles = np.cumsum(lengths)
        self.toggles = toggles[toggles < (2 * words - 3) * CAPTURE_PS]
        self.taps = chain.capture(self.toggles, 2 * words, random)
        settings = {name: value for name, value in self.config.items() if name != "invert"}
        self.hits = encode(self.taps, last_level=True, **settings)
        self.words = channel_words(self.hits, self.table)

    @property
    def edges_fines(self):
        """True times of the rising edges at the chain, in fines."""
        return self.toggles[::2] / SLOT_PS * FINES_PER_SLOT

    def times_fines(self):
        """Times of the hits by slot and fine."""
        slots = np.flatnonzero(self.words.valid)
        return slots * FINES_PER_SLOT + self.words.fine[slots]
