"""What gateware and host agree on about raw samples of a noise source."""

__all__ = [
    "CONDITIONING_BLOCKS",
    "CONDITIONING_KEY",
    "FALSE_ALARM_LOG2",
    "KEY_PLACES",
    "MIN_ENTROPY",
    "PROPORTION_CUTOFF",
    "PROPORTION_WINDOW",
    "REPETITION_CUTOFF",
]

PROPORTION_WINDOW = 1024
"""Samples in a window of the adaptive proportion test: 1024 for binary sources (SP 800-90B 4.4.2). The start-up test
takes as many (at least 1024: SP 800-90B 4.3, requirement 4)."""

MIN_ENTROPY = 0.5
"""Min-entropy that is stated for the source until it has been assessed, in bit per raw sample."""
FALSE_ALARM_LOG2 = -40
"""Binary logarithm of the probability of a false alarm, per sample and per window, at that min-entropy."""

REPETITION_CUTOFF = 81
PROPORTION_CUTOFF = 824
"""Cutoffs for these two, by `qrelay.entropy_health` (a test holds them together): here nothing is imported."""

KEY_PLACES = 4
"""Keys made on board that a station holds at a time."""
CONDITIONING_KEY = bytes(range(32))
"""AES-256 key of the conditioning component: a constant, as SP 800-90B 3.1.5.1.1 allows. It adds no entropy."""
CONDITIONING_BLOCKS = 16
"""Blocks of 128 raw samples that make one half of a key, 128 bits. Full entropy of the output asks for 64 bits more in
than out (SP 800-90B 3.1.5.1.2 and SP 800-90C): 192 bits in 2048 samples, or 0.094 bit per sample."""
