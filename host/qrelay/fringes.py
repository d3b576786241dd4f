"""Successes by phase difference: what a live view sifts from, at any phase offset, and what tells the offset itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import RunConfig
from .protocol.choice import PHASES
from .sifting import ByteArray, Choices, fringe_counts, phase_offset_of

__all__ = ["Fringes"]

_KNOWN_AT = 1e-3
"""Probability with which phases without any order pass for a fringe."""


@dataclass
class Fringes:
    """Two fringes of `qrelay.sifting.fringe_counts`, which add up part by part."""

    key: NDArray[np.int64]
    """Of pairs that make key."""
    disclosed: NDArray[np.int64]
    """Of pairs with light of both that hold no key: only they may say where the fringe stands."""

    @classmethod
    def none(cls) -> "Fringes":
        """Nothing counted yet."""
        return cls(np.zeros((2, PHASES), np.int64), np.zeros((2, PHASES), np.int64))

    @classmethod
    def of(cls, config: RunConfig, outcomes: ByteArray, chosen: Choices) -> "Fringes":
        """Count successes; other success rules than one detector per node have no fringe."""
        if config.receiver.success_rule != "one-per-node":
            return cls.none()
        key, vacuum = config.setting_index(config.sifting.key), config.setting_index(config.sifting.vacuum)
        both = (chosen.setting_a == key) & (chosen.setting_b == key)
        light = (chosen.setting_a != vacuum) & (chosen.setting_b != vacuum)
        return cls(
            *(
                fringe_counts(outcomes[kept], chosen.phase_a[kept], chosen.phase_b[kept])
                for kept in (both, light & ~both)
            )
        )

    def add(self, more: "Fringes") -> None:
        """Take the counts of another part."""
        self.key += more.key
        self.disclosed += more.disclosed

    def offset(self, *, invert: bool) -> int:
        """Phase offset j_off in 1/16 turn that the disclosed pairs show; `invert` as for `qrelay.sifting.sift`."""
        offset, _ = phase_offset_of(self.disclosed)
        return (offset + PHASES // 2) % PHASES if invert else offset

    def shows_offset(self) -> bool:
        """The disclosed pairs show a fringe, and not what phases without any order may show.

        Rayleigh test of uniformity (Mardia and Jupp, Directional Statistics, 2000, section 6.3.1): the length R of the
        sum of n unit vectors exceeds a value with probability exp(-R^2 / n), here with R = n contrast / 2.
        """
        _, contrast = phase_offset_of(self.disclosed)
        return float(np.exp(-(contrast**2) * self.disclosed.sum() / 4)) < _KNOWN_AT

    def sifted_and_errors(self, offset: int, *, invert: bool) -> tuple[int, int]:
        """Bits that `qrelay.sifting.sift` keeps of the pairs that make key, and how many of them differ."""
        equal, opposite = self.key[:, -offset % PHASES], self.key[:, (PHASES // 2 - offset) % PHASES]
        same_sign, opposite_sign = (equal, opposite) if invert else (opposite, equal)
        return int(equal.sum() + opposite.sum()), int(same_sign[0] + opposite_sign[1])
