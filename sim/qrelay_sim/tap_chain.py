"""A carry chain that is captured: what its flip-flops hold, with unequal taps, skewed flip-flops and jitter.

The tap widths come from the timing model of the place-and-route tool (62 to 71 ps per two taps on the -6 grade, 50 to
56 ps on -8), not from silicon, where they are unknown until measured. How unequal taps are, how far flip-flops are
skewed and how much they jitter are assumptions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.tdc import SLOTS_PER_CAPTURE, TAPS
from qrelay.protocol.units import DEFAULT_SLOT_RATE_HZ

__all__ = ["CAPTURE_PS", "PAIR_PS", "TapChain"]

CAPTURE_PS = float(SLOTS_PER_CAPTURE * 10**12 / DEFAULT_SLOT_RATE_HZ)
"""Time between captures, 6567.71 ps."""

PAIR_PS = {"6": (62.0, 71.0), "8": (50.0, 56.0)}
"""Delay of two taps (one CCU2C) by speed grade, from the timing model."""


@dataclass(frozen=True)
class TapChain:
    """Delays of a chain, in ps.

    Parameters
    ----------
    delays : float64[taps]
        From the entry of the chain to each tap; increasing.
    skews : float64[taps]
        Later sampling of a tap's flip-flop; larger than a tap's width they make bubbles.
    tap_jitter : float
        rms jitter of each flip-flop in each capture, of its own.
    edge_jitter : float
        rms jitter of each edge before the chain.
    """

    delays: NDArray[np.float64]
    skews: NDArray[np.float64]
    tap_jitter: float = 2.0
    edge_jitter: float = 4.0

    @classmethod
    def random(
        cls,
        random: np.random.Generator,
        *,
        taps: int = TAPS,
        grade: str = "6",
        unequal: float = 0.3,
        skew_ps: float = 12.0,
        tap_jitter_ps: float = 2.0,
        edge_jitter_ps: float = 4.0,
    ) -> "TapChain":
        """A chain whose pairs of taps are uniform within the timing model's range and split unequally.

        `unequal` is the rms part by which the first tap of a pair is longer or shorter than half of it; `skew_ps` the
        rms skew of the flip-flops.
        """
        if grade not in PAIR_PS:
            raise ValueError(f"grade {grade!r} has no tap widths; give one of {', '.join(PAIR_PS)}")
        if taps < 2 or taps % 2:
            raise ValueError(f"taps {taps}: carry cells hold two taps each; give an even number")
        pairs = random.uniform(*PAIR_PS[grade], taps // 2)
        first = np.clip(random.normal(0.5, unequal / 2, taps // 2), 0.05, 0.95)
        widths = np.column_stack((pairs * first, pairs * (1 - first))).ravel()
        return cls(np.cumsum(widths), random.normal(0, skew_ps, taps), tap_jitter_ps, edge_jitter_ps)

    @property
    def reaches(self) -> NDArray[np.float64]:
        """Age of an edge at which each tap sees it without jitter, float64[taps]."""
        return self.delays + self.skews

    @property
    def first_age(self) -> float:
        """Age from which on an edge without jitter has a code: it has passed four taps."""
        return float(np.sort(self.reaches)[3])

    def ages_of_codes(self) -> NDArray[np.float64]:
        """Age at which an edge without jitter passes from each code to the next, float64[taps - 4].

        Ones are counted, so borders are the ages of the taps in the order in which these go high.
        """
        return np.sort(self.reaches)[4:]

    def capture(self, toggles_ps: NDArray[np.float64], captures: int, random: np.random.Generator) -> NDArray[np.bool_]:
        """Taps of consecutive captures of a pad that starts low and changes its level at `toggles_ps`.

        Capture n happens `CAPTURE_PS` * (n + 1) after time 0. Returns bool[captures, taps].
        """
        jittered = np.sort(toggles_ps + random.normal(0, self.edge_jitter, toggles_ps.shape))
        noise = random.normal(0, self.tap_jitter, (captures, len(self.delays)))
        seen = CAPTURE_PS * np.arange(1, captures + 1)[:, np.newaxis] - self.reaches - noise
        levels: NDArray[np.bool_] = np.searchsorted(jittered, seen) % 2 == 1
        return levels

    def isolated(self, ages_ps: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.bool_]:
        """Three captures per long pulse: before its edge, `ages_ps` after it, and the next.

        Returns bool[3 * len(ages), taps]; the edge's jitter is the same in both captures that see it.
        """
        jittered = ages_ps + random.normal(0, self.edge_jitter, ages_ps.shape)
        ages = np.column_stack((np.full(len(ages_ps), -1.0e6), jittered, jittered + CAPTURE_PS)).ravel()
        noise = random.standard_normal((len(ages), len(self.delays)), np.float32) * np.float32(self.tap_jitter)
        seen: NDArray[np.bool_] = ages[:, np.newaxis] > self.reaches + noise
        return seen
