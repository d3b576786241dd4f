"""What a detector makes of the photons that reach it: dead time, afterpulses, the place of the edge in the slot.

Clicks travel as sorted integers ("keys") of ``slot * 8 + detector * 2 + stray``, slot counted from the start of the
batch; ``stray`` marks dark counts and afterpulses, whose place in the slot is uniform.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Afterpulses", "DeadTime", "EdgeTiming", "click_keys", "one_per_slot"]

Keys = NDArray[np.int64]
_DETECTORS = 4
_FINES = 256


def click_keys(slots: Keys, detectors: Keys, *, stray: bool) -> Keys:
    """Keys of clicks of one kind, in the order given."""
    keys: Keys = slots * 8 + detectors * 2 + int(stray)
    return keys


def one_per_slot(keys: Keys) -> Keys:
    """Keys with at most one click per slot and detector; light goes before a stray click."""
    place = keys >> 1
    first = np.ones(len(keys), np.bool_)
    np.not_equal(place[1:], place[:-1], out=first[1:])
    return keys if first.all() else keys[first]


class DeadTime:
    """A detector that has clicked is blind for the next `dead_slots` slots; clicks it misses do not extend that."""

    def __init__(self, dead_slots: int) -> None:
        if dead_slots < 0:
            raise ValueError(f"dead_slots {dead_slots} is negative; give 0 or more")
        self.dead_slots = dead_slots
        self._blind_until = [-1] * _DETECTORS

    def apply(self, keys: Keys, slots: int) -> Keys:
        """Clicks that a live detector sees, in the next batch of `slots` slots."""
        if self.dead_slots == 0:
            return keys
        live = np.zeros(len(keys), np.bool_)
        detectors = keys >> 1 & 3
        for detector in range(_DETECTORS):
            places = np.flatnonzero(detectors == detector)
            clicks = keys[places] >> 3
            begin = int(np.searchsorted(clicks, self._blind_until[detector], side="right"))
            seen = begin + self._seen(clicks[begin:])
            live[places[seen]] = True
            if len(seen):
                self._blind_until[detector] = int(clicks[seen[-1]]) + self.dead_slots
            self._blind_until[detector] = max(self._blind_until[detector] - slots, -1)
        return keys[live]

    def _seen(self, clicks: Keys) -> Keys:
        """Indices of the clicks seen, the detector being live at the first.

        A click later than the one before by more than the dead time is seen for sure and heads a cluster. All clusters
        are walked at once, from each seen click to the first one after its dead time.
        """
        if len(clicks) == 0:
            return np.zeros(0, np.int64)
        heads = np.flatnonzero(np.diff(clicks, prepend=clicks[0] - self.dead_slots - 1) > self.dead_slots)
        ends = np.append(heads[1:], len(clicks))
        seen = [heads]
        current = heads
        while len(current):
            current = np.searchsorted(clicks, clicks[current] + self.dead_slots, side="right")
            inside = current < ends
            current, ends = current[inside], ends[inside]
            seen.append(current)
        return np.sort(np.concatenate(seen))


class Afterpulses:
    """A click is followed, with a small probability, by one more after the dead time, at an exponential delay.

    Second generations are left out, and afterpulses neither start nor meet a dead time: an error of the order of
    `probability` times the clicks per dead time.
    """

    def __init__(self, probability: float, decay_slots: float, dead_slots: int, rng: np.random.Generator) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"afterpulse probability {probability} is out of range; give 0 to 1")
        if not decay_slots > 0:
            raise ValueError(f"afterpulse decay_slots {decay_slots} is out of range; give more than 0")
        self.probability = probability
        self._decay_slots = decay_slots
        self._dead_slots = dead_slots
        self._chance, self._delay = rng.spawn(2)
        self._pending: Keys = np.zeros(0, np.int64)

    def add(self, keys: Keys, slots: int) -> Keys:
        """Clicks of the next batch of `slots` slots together with the afterpulses that fall into it."""
        if self.probability == 0:
            return keys
        parents = keys[self._chance.random(len(keys)) < self.probability]
        delays = np.floor(self._delay.standard_exponential(len(parents)) * self._decay_slots).astype(np.int64)
        detectors = parents >> 1 & 3
        born = click_keys((parents >> 3) + self._dead_slots + 1 + delays, detectors, stray=True)
        waiting = np.concatenate((self._pending, born))
        due = waiting < slots * 8
        self._pending = waiting[~due] - slots * 8
        return one_per_slot(np.sort(np.concatenate((keys, waiting[due])), kind="stable"))


@dataclass(frozen=True)
class EdgeTiming:
    """Place of the electrical edge: pulse position, Gaussian jitter, exponential tail, then the detector PHY's bins.

    Parameters
    ----------
    pulse_fine : int
        Place of the pulse in the slot, in 1/256 slot.
    jitter_fines, tail_fines : float
        Rms of the Gaussian jitter, mean of the exponential tail (0: none).
    bins : int
        Bins per slot of the PHY: 2 gives fine 64 or 192, 256 gives every fine.
    """

    pulse_fine: int
    jitter_fines: float
    tail_fines: float
    bins: int

    def __post_init__(self) -> None:
        if not 0 <= self.pulse_fine < _FINES:
            raise ValueError(f"pulse_fine {self.pulse_fine} is outside the slot; give 0 to {_FINES - 1}")
        if min(self.jitter_fines, self.tail_fines) < 0:
            raise ValueError(f"jitter {self.jitter_fines} and tail {self.tail_fines} fines: give 0 or more")
        if self.bins not in (1, 2, 4, 8, 16, 32, 64, 128, 256):
            raise ValueError(f"bins {self.bins} do not divide the slot; give a power of two from 1 to {_FINES}")

    def place(
        self, keys: Keys, jitter: np.random.Generator, tail: np.random.Generator, stray: np.random.Generator
    ) -> tuple[Keys, NDArray[np.uint8], NDArray[np.uint8]]:
        """Return (slot, detector, fine) of the edges, in the order of `keys`: not sorted by fine, nor always by slot.

        An edge that jitter carries over the border of its slot belongs to the neighbouring slot.
        """
        is_stray = (keys & 1).astype(np.bool_)
        strays = int(np.count_nonzero(is_stray))
        position = np.full(len(keys) - strays, self.pulse_fine + 0.5)
        if self.jitter_fines:
            position += self.jitter_fines * jitter.standard_normal(len(position))
        if self.tail_fines:
            position += self.tail_fines * tail.standard_exponential(len(position))
        if strays:
            everywhere = np.empty(len(keys))
            everywhere[~is_stray] = position
            everywhere[is_stray] = _FINES * stray.random(strays)
            position = everywhere
        fines = np.floor(position).astype(np.int64)
        slots = (keys >> 3) + (fines >> 8)
        width = _FINES // self.bins
        binned = (fines & 255) // width * width + width // 2
        return slots, (keys >> 1 & 3).astype(np.uint8), binned.astype(np.uint8)
