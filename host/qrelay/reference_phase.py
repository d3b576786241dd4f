"""Phase drift from the clicks of the reference segments (physics.md section 8.5).

At each node the user's light, which steps through known phases phi, interferes with the reference light of the source.
The light on its two detectors, in photons detected per slot,

    plus(phi) = c+ + a cos phi + b sin phi,    minus(phi) = c- - a cos phi - b sin phi,

is a linear model, solved by least squares with the errors of counting. A live slot clicks with probability
1 - exp(-light), and each click leaves as many slots behind it not live as the dead time says. The phase of the node is
theta = atan2(-b, a), and theta(M1) - theta(M2) is the phase of Alice minus Bob in which the reference's own phase
cancels.

Drift is the rms of the phase's change from one set to the next by the time between: of slopes averaged over a set, less
than that of the slopes themselves where these change within a set, and unknown where the phase turns too far.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import RunConfig
from .frame import FrameLayout
from .protocol.registers import DETECTORS
from .record_arrays import RecordArray
from .reference_steps import ReferenceSteps

__all__ = ["reference_result"]

FloatArray = NDArray[np.float64]

_FRAME_BITS = 24
_SATURATED = 0xFFFF
_NODES = 2
_POINTS = 512
"""Points of the phase over time that the result keeps."""
_BLOCKS = 20
_SUMS = 8192
_LARGEST_CHANGE = 1.0
"""Rms change [rad] from set to set up to which hardly any is seen a turn wrong: a Gaussian exceeds pi in 0.2 %."""


def reference_result(config: RunConfig, manifest: Mapping[str, Any], parts: Iterable[RecordArray]) -> dict[str, Any]:
    """What the reference records say: visibility of each node, phase, drift, each with one standard error.

    `parts` are records in the order in which the receiver sent them. A set of records that is not complete, or has a
    count at its limit, is left out and counted. Values that need more than was recorded are NaN, and `note` says why,
    or `drift_note` where it is the drift alone.
    """
    frames_per_set = config.events.reference_frames if config.reference_records == "sum" else 1
    fit = _Fit(config, frames_per_set)
    sets = _Sets(len(fit.steps.steps), frames_per_set, config, manifest)
    series = _Series(sets.frames_per_set)
    sums = _Sums()
    for frames, counts in sets.read(parts):
        if fit.note is None:
            theta, variance, amplitude, level = fit.solve(counts)
            sums.add(amplitude, level)
            delta = theta[:, 0] - theta[:, 1]
            series.add(sets.time_ms(frames), frames, delta, variance.sum(axis=1))
    note = fit.note or (None if sets.complete else "no complete set of reference records was recorded")
    visibility = sums.visibility()
    models = _models(config, fit.brightest)
    result: dict[str, Any] = {
        "sets": sets.complete,
        "frames_per_set": sets.frames_per_set,
        "set_ms": sets.set_ms,
        "incomplete": sets.incomplete,
        "saturated": sets.saturated,
        "before_first_slot": sets.early,
        "missed": manifest.get("reference_missed", 0),
        "clicks_per_frame": sets.clicks_per_frame(),
        "note": note,
    }
    for node, name in enumerate(("m1", "m2")):
        result[f"visibility_{name}"], result[f"visibility_{name}_std"] = visibility[node]
        result[f"visibility_{name}_model"] = models[node]
    return result | series.result()


class _Fit:
    """The linear model of a set; the same for all sets of a run."""

    def __init__(self, config: RunConfig, frames_per_set: int) -> None:
        self.steps = ReferenceSteps.of(config)
        used = [setting for setting, _ in self.steps.steps]
        self.brightest = brightest = max(used, key=lambda setting: config.settings[setting].mean_photon_number)
        self.bins, phases = self.steps.of_setting(brightest)
        slots = np.asarray(self.steps.slots, np.float64)
        self._slots = slots[self.bins, None] * frames_per_set
        self._runs_over = self.steps.runs_over[self.bins] / np.maximum(slots, 1)
        self._dead = np.zeros(DETECTORS)
        dead = config.receiver.dead_slots_of_detectors()
        self._dead[: len(dead)] = np.maximum(dead, config.twin.detector_dead_slots)
        # Of a click in each of the last slots of a step: the dead slots that lie in the next step.
        self._late = self._dead * (self._dead + 1) / 2
        cosine, sine = np.cos(phases), np.sin(phases)
        one, zero = np.ones(len(phases)), np.zeros(len(phases))
        design = np.concatenate(
            (np.stack((one, zero, cosine, sine), axis=1), np.stack((zero, one, -cosine, -sine), axis=1))
        )
        self.note: str | None = None
        if len(design) < 4 or np.linalg.matrix_rank(design) < 4:
            name = config.settings[brightest].name
            self.note = (
                f"the steps of setting {name!r} have {len(set(phases.tolist()))} phases; give frame.steps at least "
                "three, such as 0, 4, 8 and 12"
            )
            return
        self._inverse = np.linalg.pinv(design)

    def solve(self, counts: NDArray[np.int64]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Theta [rad], its variance, squared amplitude (its own noise taken off) and level, each [set, node].

        `counts` are [set, bin, detector].
        """
        used = counts[:, self.bins].astype(np.float64)
        late = self._late * np.einsum("ij,sjd->sid", self._runs_over, counts)
        live = np.maximum(self._slots - self._dead * used + late, used + 1)
        silent = 1 - used / live
        # A count of 0 has an error too.
        light, noise = _by_node(-np.log(silent)), _by_node(np.maximum(used, 1) / (live**2 * silent))
        solved = light @ self._inverse.T
        covariance = np.einsum("ij,snj,kj->snik", self._inverse, noise, self._inverse)
        a, b = solved[..., 2], solved[..., 3]
        var_a, var_b, cov = covariance[..., 2, 2], covariance[..., 3, 3], covariance[..., 2, 3]
        square = np.maximum(a**2 + b**2, 1e-300)
        theta: FloatArray = np.arctan2(-b, a)
        variance: FloatArray = np.minimum((b**2 * var_a + a**2 * var_b - 2 * a * b * cov) / square**2, np.pi**2 / 3)
        level: FloatArray = (solved[..., 0] + solved[..., 1]) / 2
        amplitude: FloatArray = a**2 + b**2 - var_a - var_b
        return theta, variance, amplitude, level


def _by_node(values: FloatArray) -> FloatArray:
    """[set, node, plus then minus, by bin] of [set, bin, detector]."""
    split = values.reshape(*values.shape[:2], _NODES, 2)
    return np.concatenate((split[..., 0], split[..., 1]), axis=1).transpose(0, 2, 1)


class _Sets:
    """Puts records together to sets, in order of frames."""

    def __init__(self, bins: int, frames_per_set: int, config: RunConfig, manifest: Mapping[str, Any]) -> None:
        self._bins = bins
        self._size = bins * DETECTORS // 2
        self._detectors = len(config.receiver.detectors)
        self._frame_slots = FrameLayout.of(config.frame).slots
        self.frames_per_set = frames_per_set
        alignment = manifest["alignment"]
        self._lead_in = alignment["first_slot"] - alignment["stations"]["receiver"]["start_slot"]
        self._slot_rate_hz = manifest["stations"]["receiver"]["slot_rate_hz"]
        self.set_ms = self.frames_per_set * self._frame_slots / self._slot_rate_hz * 1e3
        self._last_frame = 0
        self._rest: RecordArray | None = None
        self._clicks = np.zeros(DETECTORS, np.int64)
        self.complete = self.incomplete = self.saturated = self.early = 0

    def read(self, parts: Iterable[RecordArray]) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Last frame of each usable set, and its counts [set, bin, detector], part by part."""
        for part in parts:
            records = part if self._rest is None else np.concatenate((self._rest, part))
            changes = np.flatnonzero(np.diff(records["frame"].astype(np.int64))) + 1
            # The last set of a part may go on in the next.
            end = int(changes[-1]) if len(changes) else 0
            self._rest = records[end:]
            if end:
                yield self._complete(records[:end])
        if self._rest is not None and len(self._rest):
            yield self._complete(self._rest)

    def _complete(self, records: RecordArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        low = records["frame"].astype(np.int64)
        start = np.concatenate(([True], low[1:] != low[:-1]))
        which = np.cumsum(start) - 1
        steps = np.diff(low[start], prepend=self._last_frame % (1 << _FRAME_BITS)) % (1 << _FRAME_BITS)
        frames = self._last_frame + np.cumsum(steps)
        self._last_frame = int(frames[-1])
        counts = np.zeros((len(frames), self._bins, DETECTORS), np.int64)
        inside = records["bin"] < self._bins
        place = (which[inside], records["bin"][inside], 2 * records["pair"][inside].astype(np.int64))
        counts[place] = records["first"][inside]
        counts[place[0], place[1], place[2] + 1] = records["second"][inside]
        whole = np.bincount(which, minlength=len(frames)) == self._size
        full = (counts == _SATURATED).any(axis=(1, 2))
        lit = (frames + 1 - self.frames_per_set) * self._frame_slots >= self._lead_in
        usable = whole & ~full & lit
        self.incomplete += int(np.count_nonzero(~whole))
        self.saturated += int(np.count_nonzero(whole & full))
        self.early += int(np.count_nonzero(whole & ~full & ~lit))
        self.complete += int(np.count_nonzero(usable))
        self._clicks += counts[usable].sum(axis=(0, 1))
        return frames[usable], counts[usable]

    def time_ms(self, frames: NDArray[np.int64]) -> FloatArray:
        """Middle of the sets that end with `frames`, from the first slot of the run on."""
        middle = (frames + 1 - self.frames_per_set / 2) * self._frame_slots - self._lead_in
        milliseconds: FloatArray = middle / self._slot_rate_hz * 1e3
        return milliseconds

    def clicks_per_frame(self) -> list[float]:
        """Mean clicks of each detector in the reference segments of a frame."""
        frames = max(1, self.complete * self.frames_per_set)
        return [float(clicks / frames) for clicks in self._clicks[: self._detectors]]


class _Sums:
    """Adds up what the visibility needs."""

    def __init__(self) -> None:
        self._count = 0
        self._sums = np.zeros((5, _NODES))

    def add(self, amplitude: FloatArray, level: FloatArray) -> None:
        self._count += len(level)
        self._sums += np.stack([x.sum(axis=0) for x in (amplitude, level, amplitude**2, level**2, amplitude * level)])

    def visibility(self) -> list[tuple[float, float]]:
        """Root of the mean squared amplitude by the mean level, with its error, of each node."""
        found = []
        for node in range(_NODES):
            if not self._count or self._sums[1, node] <= 0:
                found.append((math.nan, math.nan))
                continue
            amplitude, level, squares, levels, both = self._sums[:, node] / self._count
            value = math.sqrt(max(0.0, amplitude)) / level
            if self._count < 2 or not value:
                found.append((value, math.nan))
                continue
            # Error of sqrt(A) / L from the spread of the sets: relative A/2 and -L.
            spread = (squares - amplitude**2) / (2 * amplitude) ** 2 + (levels - level**2) / level**2
            spread -= (both - amplitude * level) / (amplitude * level)
            found.append((value, value * math.sqrt(max(0.0, spread) / (self._count - 1))))
        return found


class _Series:
    """Phase over time: its mean, its drift, and points spread over the run."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._vector = 0j
        self._weight = 0.0
        self._points: list[tuple[float, float, float]] = []
        self._stride = 1
        self._seen = 0
        self._before: tuple[float, int, float, float] | None = None
        self._slopes = np.zeros((0, 2))
        """Sums and numbers of squared slopes of consecutive sets."""
        self._changes = np.zeros(3)
        """Number of changes from set to set, their sum of squares, and what of it is counting noise."""

    def add(self, time_ms: FloatArray, frames: NDArray[np.int64], delta: FloatArray, variance: FloatArray) -> None:
        """Add sets in order; those whose frames follow each other are neighbours, from which the drift is taken."""
        if not len(delta):
            return
        self._vector += complex(np.sum(np.exp(1j * delta) / variance))
        self._weight += float(np.sum(1 / variance))
        wrapped = np.angle(np.exp(1j * delta))
        for point in zip(time_ms.tolist(), wrapped.tolist(), np.sqrt(variance).tolist(), strict=True):
            if self._seen % self._stride == 0:
                self._points.append(point)
                if len(self._points) > _POINTS:
                    self._points = self._points[::2]
                    self._stride *= 2
            self._seen += 1
        if self._before is not None:
            first_time, first_frame, first_delta, first_variance = self._before
            time_ms, frames = np.append(first_time, time_ms), np.append(first_frame, frames)
            delta, variance = np.append(first_delta, delta), np.append(first_variance, variance)
        self._before = float(time_ms[-1]), int(frames[-1]), float(delta[-1]), float(variance[-1])
        near = np.diff(frames) == self._step
        change = np.angle(np.exp(1j * np.diff(delta)))[near]
        noise = (variance[1:] + variance[:-1])[near]
        self._changes += (len(change), np.sum(change**2), np.sum(noise))
        # Squared slope less what counting noise adds to it.
        slopes = (change**2 - noise) / np.diff(time_ms)[near] ** 2
        self._slopes = np.concatenate((self._slopes, np.stack((slopes, np.ones(len(slopes))), axis=1)))
        while len(self._slopes) > _SUMS:
            even = self._slopes[: len(self._slopes) // 2 * 2].reshape(-1, 2, 2).sum(axis=1)
            self._slopes = np.concatenate((even, self._slopes[2 * len(even) :]))

    def result(self) -> dict[str, Any]:
        """Plain values; angles in rad."""
        note = self._drift_note()
        drift, drift_std = _root_mean(self._slopes) if note is None else (math.nan, math.nan)
        phase = math.atan2(self._vector.imag, self._vector.real) if self._weight else math.nan
        return {
            "phase_rad": phase,
            "phase_rad_std": self._mean_std(),
            "phase_coherence": abs(self._vector) / self._weight if self._weight else math.nan,
            "drift_rad_per_ms": drift,
            "drift_rad_per_ms_std": drift_std,
            "drift_note": note,
            "series": {
                "time_ms": [point[0] for point in self._points],
                "phase_rad": [point[1] for point in self._points],
                "phase_rad_std": [point[2] for point in self._points],
            },
        }

    def _drift_note(self) -> str | None:
        """Why the drift is not known although there are changes, in words; None if it is."""
        count, squares, noise = self._changes.tolist()
        if not count or squares <= count * _LARGEST_CHANGE**2:
            return None
        if noise > squares / 2:
            remedy = "most of it counting noise; give the reference more light"
        else:
            remedy = f"{'lower events.reference_frames or ' if self._step > 1 else ''}shorten the frame"
        return (
            f"the phase changes by {math.sqrt(squares / count):.2g} rad rms from one set to the next, too much to tell "
            f"full turns apart: {remedy}"
        )

    def _mean_std(self) -> float:
        """Error of the mean phase: counting noise, or the spread of the sets where a drift makes it larger."""
        if not self._weight:
            return math.nan
        coherence = min(1.0, abs(self._vector) / self._weight)
        spread = math.sqrt(-2 * math.log(max(coherence, 1e-12)) / max(1, self._seen))
        return max(1 / math.sqrt(self._weight), spread)


def _root_mean(sums: FloatArray) -> tuple[float, float]:
    """Root of a mean that may be negative by noise (then 0), with the error from the spread of blocks.

    `sums` are [n, 2]: sums and numbers of consecutive values. Blocks are much longer than one step, because
    neighbouring differences share a set and the slope has a memory.
    """
    if not len(sums):
        return math.nan, math.nan
    total, count = sums.sum(axis=0).tolist()
    root = math.sqrt(max(0.0, total / count))
    if len(sums) < 2 * _BLOCKS:
        return root, math.nan
    blocks = np.array([block[:, 0].sum() / block[:, 1].sum() for block in np.array_split(sums, _BLOCKS)])
    std = float(blocks.std(ddof=1)) / math.sqrt(_BLOCKS)
    # Where the drift is hidden in noise, the error is that of a drift just visible.
    return root, std / (2 * root) if root > math.sqrt(std) else math.sqrt(std)


def _models(config: RunConfig, setting: int) -> tuple[float, float]:
    """Visibility of a setting at M1 and M2 by the [twin] table, 2 V sqrt(A R) / (A + R); NaN without reference."""
    twin = config.twin_settings()
    if not twin.reference_photon_number:
        return math.nan, math.nan
    photons = twin.level_photon_numbers()[config.settings[setting].level_code]
    eta_a, left, right, eta_b = twin.relay_parameters().arm_transmittances
    found = []
    for user, reference in ((eta_a, left), (eta_b, right)):
        a, r = user * photons, reference * twin.reference_photon_number / 2
        found.append(2 * twin.reference_visibility * math.sqrt(a * r) / (a + r) if a + r else math.nan)
    return found[0], found[1]
