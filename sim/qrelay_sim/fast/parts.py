"""What comes out of a run, part by part, in order of slots."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qrelay.config import RunConfig
from qrelay.fringes import Fringes
from qrelay.protocol.choice import PHASE_BITS, PHASES
from qrelay.sifting import Choices

from .receiver_sweep import COUNTERS

__all__ = ["Drifted", "Part", "fringes_of"]

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
    fringes: Fringes
    drifted: tuple[Drifted, ...]

    def counter(self, name: str) -> int:
        """One of the counters."""
        return int(self.counters[COUNTERS.index(name)])


def fringes_of(config: RunConfig, outcomes: Bytes, code_a: Bytes, code_b: Bytes) -> Fringes:
    """Successes by phase difference, for the live view."""
    bits, phase = np.uint8(PHASE_BITS), np.uint8(PHASES - 1)
    return Fringes.of(config, outcomes, Choices(code_a >> bits, code_a & phase, code_b >> bits, code_b & phase))
