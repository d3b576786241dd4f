"""Bright reference light of the source against the users' pulses: the clicks that show each arm's phase.

Model of physics.md section 8.5: S sends coherent light of one phase to both nodes, and each user's pulse interferes
with it. With A and R the mean photon numbers of user and reference that reach the detectors of a node, its two
detectors have independent Poissonian light of mean ``(A + R) / 2 +- V sqrt(A R) cos(theta)``, where theta is the phase
of the user less that of the reference. The reference's own phase is unknown and common to both nodes.
"""

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.detection import click_keys
from qrelay_sim.drift import PhaseDrift
from qrelay_sim.rare_events import RareEvents

__all__ = ["ReferenceLight"]

FloatArray = NDArray[np.float64]
_DETECTORS = 4


class ReferenceLight:
    """Samples the clicks of consecutive reference slots.

    Parameters
    ----------
    users : float[2, codes]
        Mean photon number of Alice's light at M1, and of Bob's at M2, by intensity code; losses included.
    reference : float[2]
        Mean photon number of the reference at M1 and M2.
    visibility : float
        V above, 0 to 1.
    drift : PhaseDrift or None
        Drift of the reference's own phase.
    rng : numpy.random.Generator
        Used by nobody else. Same seed, same clicks, whatever the size of the batches.
    """

    def __init__(
        self,
        users: FloatArray,
        reference: tuple[float, float],
        visibility: float,
        drift: PhaseDrift | None,
        rng: np.random.Generator,
    ) -> None:
        self._users = users
        self._reference = np.asarray(reference, np.float64)
        self._visibility = visibility
        self._drift = drift
        gaps, self._marks, start = rng.spawn(3)
        self._phase = float(start.uniform(-np.pi, np.pi))
        brightest = (np.sqrt(users.max(axis=1)) + np.sqrt(self._reference)) ** 2 / 2
        self._bound = float(-np.expm1(-brightest.max()))
        self._candidates = RareEvents(self._bound, gaps)

    def sample(
        self, slots: NDArray[np.int64], codes: NDArray[np.uint8], phases: FloatArray, first_slot: int
    ) -> NDArray[np.int64]:
        """Sorted keys (see `detection`) of the clicks in reference slots.

        Parameters
        ----------
        slots : int[n]
            Places of the reference slots in the batch, ascending.
        codes : uint8[2, n]
            Intensity codes of Alice and Bob in these slots.
        phases : float[2, n]
            Their phases [rad], with what their arms add.
        first_slot : int
            Slot of the batch's first place, for the drift.
        """
        candidates = self._candidates.take(_DETECTORS * len(slots))
        mark = self._marks.random(len(candidates)) * self._bound
        which, detector = candidates // _DETECTORS, candidates % _DETECTORS
        node, sign = detector >> 1, 1 - 2 * (detector & 1)
        common = np.full(len(candidates), self._phase)
        if self._drift is not None:
            common += self._drift.at(slots[which] + first_slot)
        user, reference = self._users[node, codes[node, which]], self._reference[node]
        contrast = self._visibility * np.cos(phases[node, which] - common)
        light = (user + reference) / 2 + sign * contrast * np.sqrt(user * reference)
        clicked = mark < -np.expm1(-light)
        return click_keys(slots[which[clicked]], detector[clicked], stray=False)
