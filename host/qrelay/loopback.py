"""Loop-back self-test of a station: what leaves its output lines must come back to its detector inputs in its slot.

The output lines are wired to the detector inputs, by cables on a board, by wires in the twin. A frame begins with a
pattern that no shift of it resembles, the same in no two lines; the clicks that it makes tell which line a detector
sees, and the lag between the slot in which the line was told to rise and the slot of the click. That lag is known:

    lag = 4 (line latency + pin latency - receiver latency) + line delay + detector delay + cable

with the latencies in words, from the identity block. A slip of one slot, or of half a slot where the inputs can tell,
a wrong delay, a missing or a double edge: each fails the test. A swapped bit order of an output gearbox does so only
where all inputs tested have gearboxes: for a carry chain among them, lines are high or low for whole words.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .board import Board
from .errors import RunError
from .fine_delay import NO_TAPS, settle, taps
from .modulation import line_index, step_entries
from .protocol.choice import PHASES, SETTINGS
from .protocol.identity import Capability, Identity
from .protocol.records import RecordKind
from .protocol.registers import DETECTORS, LINES, SEGMENT_KINDS
from .protocol.status import State
from .protocol.units import BINS_PER_SLOT, FINES_PER_SLOT, SLOTS_PER_WORD
from .protocol.windows import window
from .tdc_board import pads
from .tdc_calibration import WIDEST_FINES
from .tdc_offsets import Offset, delay_without

__all__ = ["TRIALS", "PairReport", "Pattern", "Trial", "compare", "loop_back", "measure_offsets"]

Integers = NDArray[np.int64]

_PATTERN_WORDS = 64
_FRAME_WORDS = 1024
_FRAMES = 6
"""Frames of a trial: all their clicks fit in the station's queue, so that the speed of the link does not matter."""
_BIN_FINES = FINES_PER_SLOT // BINS_PER_SLOT
_REFERENCE, _IDLE = SEGMENT_KINDS.index("reference"), SEGMENT_KINDS.index("idle")
_LIMIT_S = 20.0
_OFFSET_LIMIT_FINES = WIDEST_FINES
"""Slip allowed to a carry chain whose offset was taken, 32 fines or 0.41 ns: offset and trial may meet different codes,
each with edges up to half its width from its time, and no calibration has a wider code."""


@dataclass(frozen=True)
class Trial:
    """Delays with which the pattern is sent once."""

    name: str
    line_delay_slots: int = 0
    detector_delay_slots: int = 0
    detector_delay_fines: int = 0

    @property
    def fines(self) -> int:
        """All delays together."""
        slots = self.line_delay_slots + self.detector_delay_slots
        return slots * FINES_PER_SLOT + self.detector_delay_fines


TRIALS = (
    Trial("no delay"),
    Trial("line delay", line_delay_slots=37),
    Trial("mixed delays", line_delay_slots=2, detector_delay_slots=94, detector_delay_fines=_BIN_FINES),
    Trial("both delays", line_delay_slots=255, detector_delay_slots=1023),
)
"""No multiples of a word where it matters: each lane comes to stand for each other one. The line delays leave each rest
once, so that edges leave and arrive in every lane, also those of a sparse pattern, which all begin in lane 0."""


@dataclass(frozen=True)
class PairReport:
    """What one trial found about a detector and the line that it sees. Lags in fines (1/256 slot)."""

    detector: int
    line: int | None
    """The line that the detector sees; None if it sees no line."""
    wanted_line: int | None
    """The line that it should see; None if that was left to the test."""
    trial: str
    sent: int
    seen: int
    missing: int
    extra: int
    expected_lag_fines: int
    measured_lag_fines: int | None
    limit_fines: int = _BIN_FINES
    """The lag is nearer than this to the one expected, if all is well: half a slot where nothing finer is known."""

    @property
    def slip_slots(self) -> float | None:
        """Measured less expected lag in slots."""
        if self.measured_lag_fines is None:
            return None
        return (self.measured_lag_fines - self.expected_lag_fines) / FINES_PER_SLOT

    @property
    def passed(self) -> bool:
        """The right line, every edge once, and a lag within the limit."""
        slip = self.slip_slots
        right = self.line is not None and self.wanted_line in (None, self.line)
        whole = self.missing == self.extra == 0
        return right and whole and slip is not None and abs(slip) * FINES_PER_SLOT < self.limit_fines


class Pattern:
    """What all lines send: bins [line, bin of the frame], with as many levels per slot as the outputs have bins."""

    def __init__(self, seed: int = 1, *, sparse: bool = False) -> None:
        """`sparse`: whole words high or low, as a carry chain places one edge per two slots."""
        random = np.random.default_rng(seed)
        choices = SETTINGS * PHASES
        bins = random.integers(0, 1 << BINS_PER_SLOT, (choices, LINES))
        if sparse:
            bins = (bins & 1) * ((1 << BINS_PER_SLOT) - 1)
        self.table = np.zeros(len(SEGMENT_KINDS) * choices, np.int64)
        for choice in range(choices):
            setting, phase = choice % SETTINGS, choice // SETTINGS
            entry = sum(int(bins[choice, line]) << BINS_PER_SLOT * line for line in range(LINES))
            self.table[line_index(_REFERENCE, setting, phase)] = entry
        steps = random.integers(0, choices, _PATTERN_WORDS)
        self.steps = step_entries((int(step) % SETTINGS, int(step) // SETTINGS) for step in steps)
        self.segments = [
            window("segments").entry.pack({"kind": kind, "words": words})
            for kind, words in ((_REFERENCE, _PATTERN_WORDS), (_IDLE, _FRAME_WORDS - _PATTERN_WORDS))
        ]
        levels = bins[steps][..., np.newaxis] >> np.arange(BINS_PER_SLOT) & 1
        by_word = np.tile(levels.transpose(1, 0, 2), (1, 1, SLOTS_PER_WORD))
        self._levels = by_word.reshape(LINES, -1).astype(bool)

    def edges(self, line: int) -> Integers:
        """Rising edges of `line` in all frames, in fines from the first slot of the run."""
        level = self._levels[line]
        rising = np.flatnonzero(level & ~np.concatenate(([False], level[:-1]))) * _BIN_FINES
        starts = np.arange(_FRAMES) * _FRAME_WORDS * SLOTS_PER_WORD * FINES_PER_SLOT
        edges: Integers = (starts[:, np.newaxis] + rising).ravel()
        return edges


def compare(
    pattern: Pattern,
    clicks: Integers,
    *,
    detector: int,
    wanted_line: int | None,
    trial: Trial,
    expected_lag_fines: int,
    lines: int = LINES,
    limit_fines: int = _BIN_FINES,
) -> PairReport:
    """Find the line and the lag that explain `clicks` (fines from the first slot of the run) best."""
    best: tuple[int, int, int] | None = None
    frame = _FRAME_WORDS * SLOTS_PER_WORD * FINES_PER_SLOT
    first = clicks[clicks < clicks.min(initial=0) + 2 * frame]
    for line in range(lines):
        edges = pattern.edges(line)
        in_frame = edges[edges < frame]
        lags = (first[:, np.newaxis] - in_frame).ravel()
        lags = lags[np.abs(lags - expected_lag_fines) < frame // 2]
        if len(lags):
            lag = _commonest(lags)
            found = _matched(edges + lag, clicks)
            if best is None or found > best[0]:
                best = found, line, lag
    # Chance coincidences of a line that is not wired are no line.
    if best is None or 2 * best[0] < max(len(clicks), 1):
        sent = 0 if wanted_line is None else len(pattern.edges(wanted_line))
        seen = len(clicks)
        return PairReport(
            detector, None, wanted_line, trial.name, sent, seen, sent, seen, expected_lag_fines, None, limit_fines
        )
    found, line, lag = best
    sent, seen = len(pattern.edges(line)), len(clicks)
    missing, extra = sent - found, seen - found
    return PairReport(
        detector, line, wanted_line, trial.name, sent, seen, missing, extra, expected_lag_fines, lag, limit_fines
    )


def _commonest(lags: Integers) -> int:
    """Median of the most crowded range of half a bin: fine time stamps of the same lag differ by their jitter."""
    cell = _BIN_FINES // 8
    least = int(lags.min())
    votes = np.convolve(np.bincount((lags - least) // cell), np.ones(4))
    last = int(np.argmax(votes))
    low, high = least + (last - 3) * cell, least + (last + 1) * cell
    return int(np.median(lags[(lags >= low) & (lags < high)]))


def _matched(expected: Integers, clicks: Integers) -> int:
    """Clicks that are nearer than a bin to one expected edge, each edge counted once."""
    place = np.searchsorted(clicks, expected - _BIN_FINES + 1)
    inside = place < len(clicks)
    near = clicks[np.minimum(place, max(len(clicks) - 1, 0))] - expected < _BIN_FINES if len(clicks) else inside
    return len(np.unique(place[inside & near]))


def measure_offsets(board: Board, wires: Mapping[int, int], *, cable_fines: int = 0) -> dict[int, Offset]:
    """Measured less expected arrival at detectors with carry chains, without any delay. Overwrites as `loop_back`.

    Raises RunError for a detector that does not see its line whole.
    """
    pattern = _load(board, sparse=True)
    trial = TRIALS[0]
    expected = _expected_lag(board.identity, trial) + cable_fines
    _configure(board, trial, {})
    offsets = {}
    for detector, line in sorted(wires.items()):
        clicks = _clicks(board, detector)
        found = compare(
            pattern,
            clicks,
            detector=detector,
            wanted_line=line,
            trial=trial,
            expected_lag_fines=expected,
            lines=board.identity.lines,
        )
        lag = found.measured_lag_fines
        if lag is None or found.line != line or found.missing or found.extra:
            raise RunError(
                f"detector {detector} sees line {found.line}, not all of line {line} ({found.missing} edges missing, "
                f"{found.extra} too many); check cable and --wire"
            )
        late = clicks - pattern.edges(line) - expected
        offsets[detector] = Offset(float(late.mean()), float(late.std(ddof=1)), len(late))
    return offsets


def _load(board: Board, *, sparse: bool) -> Pattern:
    """Stop the station and bring it the tables of a pattern."""
    pattern = Pattern(sparse=sparse)
    board.disarm()
    board.write_table("segments", pattern.segments)
    board.write_table("steps", pattern.steps)
    board.write_table("lines", pattern.table)
    board.write_table("success", np.zeros(256, np.int64))
    return pattern


def loop_back(
    board: Board,
    wires: Mapping[int, int] | None = None,
    *,
    cable_fines: int = 0,
    offsets: Mapping[int, Offset] | None = None,
) -> list[PairReport]:
    """Run all trials on a station whose lines are wired to its own detector inputs.

    The station is disarmed, and its tables and settings of sequencer, lines, receiver and records are overwritten;
    its delay elements go to 0 taps.

    Parameters
    ----------
    board : an open station.
    wires : line by detector, the detectors to test; without any, all are tested and say themselves what they see.
    cable_fines : delay of the cables.
    offsets : by detector, taken from the delays of those with carry chains, as a run does.

    Raises
    ------
    RunError
        The station cannot do it, or its run does not end.
    """
    identity = board.identity
    needed = Capability.SENDER | Capability.RECEIVER
    if identity.capabilities & needed != needed:
        raise RunError(f"station {identity.board} at {board.url} has no output lines or no detector inputs to wire")
    wires = dict(wires or {})
    tested = sorted(wires) or range(min(DETECTORS, identity.detectors))
    pattern = _load(board, sparse=any(identity.chains >> d & 1 for d in tested))
    reports = []
    for trial in TRIALS:
        expected = _expected_lag(identity, trial) + cable_fines
        _configure(board, trial, offsets or {})
        for detector in tested:
            clicks = _clicks(board, detector)
            reports.append(
                compare(
                    pattern,
                    clicks,
                    detector=detector,
                    wanted_line=wires.get(detector),
                    trial=trial,
                    expected_lag_fines=expected,
                    lines=identity.lines,
                    limit_fines=_OFFSET_LIMIT_FINES if detector in (offsets or {}) else _BIN_FINES,
                )
            )
    return reports


def _expected_lag(identity: Identity, trial: Trial) -> int:
    words = identity.line_latency + identity.pin_latency - identity.receiver_latency
    return words * SLOTS_PER_WORD * FINES_PER_SLOT + trial.fines


def _configure(board: Board, trial: Trial, offsets: Mapping[int, Offset]) -> None:
    """Settings of a trial, for all detectors.

    Delay elements go to 0 taps: what an earlier run had set would end up in the offsets.
    """
    registers = {
        "timebase.start_source": 0,
        "timebase.start_slot": 0,
        "timebase.length": _FRAMES * _FRAME_WORDS * SLOTS_PER_WORD,
        "timebase.sync_period": 0,
        "sequencer.segments": 2,
        "sequencer.steps": _PATTERN_WORDS,
        "sequencer.step_words": 1,
        "keystream.enable": 0,
        "modulator.enable": 1,
        "receiver.enable": 1,
        "receiver.windows": 0,
        "receiver.live_mask": 0,
        "receiver.blank": 0,
        "receiver.pulser_period": 0,
        "reference.mode": 0,
        "events.status_words": 0,
    }
    registers |= taps(board, NO_TAPS) | pads(board)
    for line in range(LINES):
        registers |= {f"modulator.{name}_{line}": 0 for name in ("invert", "idle", "mode")}
        registers[f"modulator.delay_{line}"] = trial.line_delay_slots
    for d in range(DETECTORS):
        slots, fines = trial.detector_delay_slots, trial.detector_delay_fines
        if d in offsets:
            slots, fines = delay_without(offsets[d], slots * FINES_PER_SLOT + fines, f"detector {d}, {trial.name}")
        registers |= {
            f"receiver.invert_{d}": 0,
            f"receiver.delay_slots_{d}": slots,
            f"receiver.delay_fine_{d}": fines,
            f"receiver.dead_slots_{d}": 0,
            f"receiver.gate_start_{d}": 0,
            f"receiver.gate_width_{d}": FINES_PER_SLOT,
        }
    for kind in RecordKind:
        registers[f"events.enable_{kind.name.lower()}"] = int(kind in (RecordKind.CLICK, RecordKind.GAP))
    board.disarm()
    board.write_many(registers)
    settle(board, f"at {board.url}")


def _clicks(board: Board, detector: int) -> Integers:
    """Clicks of one detector in one run, in fines from the run's first slot on."""
    board.clear_alarms()
    board.write_many({f"receiver.enable_{d}": int(d == detector) for d in range(DETECTORS)})
    board.take(RecordKind.CLICK)
    board.arm()
    board.start()
    _wait_for_end(board)
    records = []
    received = 0
    deadline = time.monotonic() + _LIMIT_S
    while True:
        part = board.take(RecordKind.CLICK)
        records.append(part)
        received += len(part)
        events = board.read_group("events")
        if received >= events["sent_click"] and not events["fill_click"]:
            break
        if time.monotonic() > deadline:
            raise RunError(f"station at {board.url}: {events['sent_click']} click records sent, {received} received")
        time.sleep(0.005)
    clicks = np.concatenate(records)
    clicks = clicks[clicks["detector"] == detector]
    place = clicks["slot"].astype(np.int64)
    first_fine = board.identity.fines_of(detector).start
    fines: Integers = place * FINES_PER_SLOT + clicks["fine"].astype(np.int64) - first_fine
    return np.sort(fines)


def _wait_for_end(board: Board) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while State.FINISHED not in (state := board.state()):
        if time.monotonic() > deadline:
            shown = ", ".join([*state.names(), *board.alarms().names()]) or "none"
            raise RunError(f"station at {board.url}: the test run did not end; state and alarms: {shown}")
        time.sleep(0.005)
