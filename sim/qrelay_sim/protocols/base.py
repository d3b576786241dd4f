"""The one interface of all protocols: what is chosen, what counts, what is kept, what is estimated, what key is left.

A protocol turns a relay and settings into *expected counts*, and counts into a key: with a `Block` of so many slots its
rate is that of its estimator on the expected counts, so that the same estimator serves measured counts. Without a block
the rate is asymptotic: endless slots, and what decoys would find in the limit taken from the model.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.chernoff import Epsilon
from qrelay_sim.parameters import RelayParameters

__all__ = [
    "Announced",
    "Block",
    "Counts",
    "KeyRate",
    "Protocol",
    "SenderChoices",
    "Settings",
    "Sifted",
    "Tally",
    "Variable",
]

FloatArray = NDArray[np.float64]
Settings = Mapping[str, FloatArray]
"""Values of a protocol's variables by name; arrays of equal shape, one entry per candidate."""


@dataclass(frozen=True)
class Variable:
    """A setting that is optimised, with its limits: together they are the constraint set."""

    name: str
    low: float
    high: float
    meaning: str
    logarithmic: bool = True


@dataclass(frozen=True)
class Block:
    """A run of `slots` slots, and the failure probability that its key may have."""

    slots: float
    epsilon: Epsilon = field(default_factory=Epsilon)

    def __post_init__(self) -> None:
        if not 1 <= self.slots < math.inf:
            raise ValueError(f"slots {self.slots} is out of range; give 1 or more")


@dataclass(frozen=True)
class Tally:
    """Slots of one kind, how many of them succeeded, and how many of those were wrong. Arrays or numbers."""

    slots: FloatArray
    successes: FloatArray
    errors: FloatArray

    @classmethod
    def expected(cls, slots: FloatArray, right: FloatArray, wrong: FloatArray) -> "Tally":
        """Tally of the mean counts for given probabilities of a right and a wrong success."""
        return cls(slots, slots * (right + wrong), slots * wrong)


Counts = Mapping[str, Tally]
"""Tallies by name, such as "mu" or "nu"; which names is up to the protocol."""


@dataclass(frozen=True)
class KeyRate:
    """Result of a protocol.

    ``rate`` is in bits per slot and may be negative: no key. ``gain`` and ``qber`` are those of the slots the key is
    made from, ``phase_error`` is what privacy amplification has to allow for, ``sifted`` the bits per slot it works on.
    """

    rate: FloatArray
    qber: FloatArray
    phase_error: FloatArray
    gain: FloatArray
    sifted: FloatArray

    @property
    def merit(self) -> FloatArray:
        """What settings are chosen by: the rate, or below zero the bits missing per sifted bit.

        A negative rate alone would call settings best that sift nothing.
        """
        missing = self.rate / np.maximum(self.sifted, 1e-300)
        return np.where(self.rate > 0, self.rate, np.minimum(missing, 0.0))


@dataclass(frozen=True)
class SenderChoices:
    """What each sender draws in a slot."""

    levels: tuple[str, ...]
    phases: int | None
    """Number of discrete phases; None if the phase is random and never used."""
    bit: str
    """What carries the key bit."""


@dataclass(frozen=True)
class Announced:
    """Successes and what was chosen in their slots; arrays of one entry per success, in the order of the slots.

    ``outcome`` is 0 (keep) or 1 (flip). Levels are numbers into `SenderChoices.levels`, phases are indices into
    `SenderChoices.phases`. ``slot`` is needed by mode pairing alone.
    """

    outcome: NDArray[np.uint8]
    level_a: NDArray[np.uint8]
    level_b: NDArray[np.uint8]
    phase_a: NDArray[np.uint8]
    phase_b: NDArray[np.uint8]
    slot: NDArray[np.int64]


@dataclass(frozen=True)
class Sifted:
    """Key bits: ``index[i]`` are the successes that made bit i (one, or two for a pair)."""

    index: NDArray[np.int64]
    bits_a: NDArray[np.uint8]
    bits_b: NDArray[np.uint8]


class Protocol(ABC):
    """A protocol: its facts as attributes, its workings as methods."""

    name: str
    title: str
    """For plots."""
    short: str
    """For tables."""
    kind: str
    """"relay", "baseline" or "bound"."""
    section: str
    """Of physics.md, where the formulas stand."""
    source: str
    """Published source."""
    review: str | None = None
    """What is still open about its security argument."""
    senders: SenderChoices
    asymptotic_note: str = "infinitely many decoy intensities"

    @abstractmethod
    def success_table(self, relay: RelayParameters) -> FloatArray:
        """Weights [pattern, (keep, flip)] of the receiver's click patterns."""

    @abstractmethod
    def variables(self, relay: RelayParameters, block: Block | None) -> tuple[Variable, ...]:
        """What may be chosen, and within which limits."""

    @abstractmethod
    def asymptotic(self, relay: RelayParameters, settings: Settings) -> KeyRate:
        """Rate of endless slots."""

    @abstractmethod
    def expected(self, relay: RelayParameters, settings: Settings, block: Block) -> Counts:
        """Mean counts of a block."""

    @abstractmethod
    def estimate(self, relay: RelayParameters, settings: Settings, counts: Counts, block: Block) -> KeyRate:
        """Key of a block from its counts, measured or expected."""

    @abstractmethod
    def sift(self, announced: Announced) -> Sifted:
        """Key bits of both users from announced successes."""

    @abstractmethod
    def single_clicks(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """Click probability per detector, [..., detectors], in the slots that make key."""

    def describe(self, settings: Mapping[str, float]) -> dict[str, float]:
        """Settings as intensities and probabilities of the single levels."""
        return dict(settings)

    def live_fraction(self, relay: RelayParameters, settings: Settings) -> FloatArray:
        """Fraction of slots in which no detector is blind.

        A detector with dead time tau and click probability p is live in 1/(1 + p tau) of the slots (a renewal process,
        exact). The detectors are taken as independent; the light is antibunched, so that they are blind together less
        often than that. Against sampled clicks the result is 5 % too high for nine dead slots at 50 km (a third of the
        slots is live there), and less than 1 % from 150 km on.
        """
        if relay.dead_slots == 0:
            return np.ones(1)
        live: FloatArray = np.prod(1 / (1 + relay.dead_slots * self.single_clicks(relay, settings)), axis=-1)
        return live

    def key_rate(self, relay: RelayParameters, settings: Settings, block: Block | None = None) -> KeyRate:
        """Bits per slot and what they rest on, dead time included; gains are per live slot."""
        live = self.live_fraction(relay, settings)
        if block is None:
            found = self.asymptotic(relay, settings)
        else:
            counts = {
                name: Tally(tally.slots * live, tally.successes * live, tally.errors * live)
                for name, tally in self.expected(relay, settings, block).items()
            }
            return self.estimate(relay, settings, counts, block)
        return KeyRate(found.rate * live, found.qber, found.phase_error, found.gain, found.sifted * live)
