"""What comes out of a run, part by part, in order of slots."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qrelay.config import RunConfig
from qrelay.protocol.choice import PHASE_BITS, PHASES
from qrelay.sifting import sift

from .receiver_sweep import COUNTERS

__all__ = ["Drifted", "Part", "sifted_and_wrong"]

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Drifted:
    """Means over `slots` slots, and the phases [rad] at places at even distances."""

    slots: int = 0
    source_on: float = 0.0
    factor_1: float = 0.0
    factor_2: float = 0.0
    factor_12: float = 0.0
    phases: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Part:
    """Records and counts of consecutive slots.

    Records are 64-bit words as a station sends them; `counters` are in the order of `COUNTERS`.
    """

    first_slot: int
    end_slot: int
    successes: Words
    clicks: Words
    frames: Words
    counters: NDArray[np.int64]
    sifted: int
    wrong: int
    drifted: tuple[Drifted, ...]

    def counter(self, name: str) -> int:
        """One of the counters."""
        return int(self.counters[COUNTERS.index(name)])


def sifted_and_wrong(config: RunConfig, outcomes: Bytes, code_a: Bytes, code_b: Bytes) -> tuple[int, int]:
    """Sifted key bits among successes and how many of them differ, for the live view."""
    if config.receiver.success_rule != "one-per-node":
        return 0, 0
    offset = config.sifting.phase_offset
    key = config.setting_index(config.sifting.key)
    both = (code_a >> PHASE_BITS == key) & (code_b >> PHASE_BITS == key)
    matched = sift(
        outcomes[both],
        code_a[both] & (PHASES - 1),
        code_b[both] & (PHASES - 1),
        phase_offset=offset if isinstance(offset, int) else 0,
        invert=config.sifting.invert,
    )
    return len(matched.index), matched.errors
