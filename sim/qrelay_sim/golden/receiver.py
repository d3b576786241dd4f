"""Golden model of `receiver.Receiver`: the models of its blocks, put together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.registers import DETECTORS, GROUPS, OUTCOMES, SEGMENT_KINDS

from .clicks import click_records, success_records
from .counters import copies
from .deadtime import dead_time
from .delay import delay, runs
from .frames import frame_records
from .gate import in_window
from .matcher import click_patterns, match
from .pulser import pulses
from .rate import rates
from .reference import reference_records

__all__ = ["ReceiverInput", "ReceiverOutput", "receiver", "receiver_config"]


def receiver_config(settings: Mapping[str, int]) -> dict[str, int]:
    """Settings of register group `receiver`, with reset values where `settings` has none. Raises KeyError by name."""
    group = next(group for group in GROUPS if group.name == "receiver")
    config = {register.name: register.reset for register in group.registers if register.access == "rw"}
    for name in settings:
        if name not in config:
            raise KeyError(f"no receiver setting {name!r}; there are: {', '.join(config)}")
    return config | dict(settings)


@dataclass(frozen=True)
class ReceiverInput:
    """What comes in, word by word from reset: the tick, strobes, and hits by detector and slot."""

    running: NDArray[np.bool_]
    slot_word: NDArray[np.int64]
    segment: NDArray[np.int64]
    frame: NDArray[np.int64]
    frame_last: NDArray[np.bool_]
    latch: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    fine: NDArray[np.uint8]
    phase: NDArray[np.int64] | None = None
    """Bins of the reference counters; none: 0."""


@dataclass(frozen=True)
class ReceiverOutput:
    """What comes out, by the word that it belongs to.

    `success` and `clicks` are the items of the records [words, 4], -1 where there is none; bits are [detectors, slots].
    """

    success: NDArray[np.int64]
    clicks: NDArray[np.int64]
    clicks_beyond_four: NDArray[np.int64]
    frames: list[tuple[int, int]]
    reference: list[tuple[int, list[int]]]
    """Sets of reference records by the last word of what they count."""
    reference_missed: list[int]
    counters: list[tuple[int, dict[str, int]]]
    rates: NDArray[np.int64]
    hit_bits: NDArray[np.bool_]
    click_bits: NDArray[np.bool_]
    fines: NDArray[np.uint8]
    """Fine of each hit of `hit_bits`."""
    outcomes: NDArray[np.uint8]


def _input_hits(config: Mapping[str, int], stimulus: ReceiverInput) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Hits of the inputs in use, with those of the test pulser in place of theirs."""
    valid = stimulus.valid.copy()
    fine = stimulus.fine.copy()
    fired = 4 * np.flatnonzero(pulses(len(stimulus.running), config["pulser_period"])) + config["pulser_lane"]
    for d in range(DETECTORS):
        if config["pulser_mask"] >> d & 1:
            valid[d, fired] = True
            fine[d, fired] = config["pulser_fine"]
        valid[d] &= bool(config["enable"] and config[f"enable_{d}"])
    return valid, fine


def _by_word(bits: NDArray[np.bool_]) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = bits.reshape(-1, 4).sum(axis=1)
    return counts


def receiver(
    settings: Mapping[str, int],
    table: NDArray[np.uint8],
    stimulus: ReceiverInput,
    rate_late_words: int = 0,
    reference: Mapping[str, int] | None = None,
) -> ReceiverOutput:
    """All outputs of a receiver with constant settings and success table.

    Parameters
    ----------
    settings : register name -> value
        Settings of register group `receiver` that are not at their reset value.
    table : uint8[256]
        Success table.
    stimulus : ReceiverInput
        Ticks, strobes and hits from reset on.
    rate_late_words : int
        Words from a hit to the rate meter.
    reference : register name -> value
        Settings of register group `reference`; none: off.
    """
    config = receiver_config(settings)
    taken, taken_fine = _input_hits(config, stimulus)
    running = stimulus.running & bool(config["enable"])
    counted_words = running & (config["blank"] >> stimulus.segment & 1 == 0)
    counted = np.repeat(counted_words, 4)

    hits = np.zeros_like(taken)
    extra = np.zeros_like(taken)
    live = np.zeros_like(taken)
    blind = np.zeros_like(taken)
    fine = np.zeros_like(taken_fine)
    for run in runs(running):
        slots = slice(4 * run.start, 4 * run.stop)
        for d in range(DETECTORS):
            hits[d, slots], fine[d, slots], extra[d, slots] = delay(
                taken[d, slots], taken_fine[d, slots], config[f"delay_slots_{d}"], config[f"delay_fine_{d}"]
            )
            if config[f"enable_{d}"]:
                live[d, slots], blind[d, slots] = dead_time(hits[d, slots], config[f"dead_slots_{d}"])

    early = np.zeros_like(hits)
    late = np.zeros_like(hits)
    for d in range(DETECTORS):
        early[d] = live[d] & in_window(fine[d], config[f"gate_start_{d}"], config[f"gate_width_{d}"])
        late[d] = live[d] & in_window(fine[d], config[f"late_start_{d}"], config[f"late_width_{d}"])
    gated = early | late if config["windows"] else early.copy()
    early &= counted
    late &= counted
    clicks = gated & counted
    patterns = click_patterns(early, late, config["windows"])

    in_rule = np.array([config["live_mask"] >> d & 1 for d in range(DETECTORS)], dtype=bool)
    rule_live = ~(blind & in_rule[:, np.newaxis]).any(axis=0)
    outcomes, vetoed = match(patterns, counted, rule_live, table)
    items, click_count, beyond = click_records(clicks, fine)

    steps = {
        "slots": 4 * counted_words.astype(np.int64),
        "live_slots": _by_word(counted & rule_live),
        "doubles": _by_word(clicks.sum(axis=0) > 1),
        "vetoed": _by_word(vetoed),
    }
    for k in range(1, OUTCOMES):
        steps[f"outcome_{k}"] = _by_word(outcomes == k)
    for d in range(DETECTORS):
        steps[f"singles_{d}"] = _by_word(hits[d]) + _by_word(extra[d])
        steps[f"dead_{d}"] = _by_word(hits[d] & ~live[d]) + _by_word(extra[d])
        steps[f"gated_out_{d}"] = _by_word(live[d] & ~clicks[d])
        steps[f"clicks_{d}"] = _by_word(clicks[d])

    sets, missed = reference_records(
        reference or {"mode": 0, "bins": 1, "sum_frames": 1},
        running & (stimulus.segment == SEGMENT_KINDS.index("reference")),
        np.zeros(len(running), np.int64) if stimulus.phase is None else stimulus.phase,
        np.stack([_by_word(gated[d]) for d in range(DETECTORS)]),
        running,
        stimulus.frame_last,
        stimulus.frame,
        _by_word(outcomes > 0) > 0,
    )
    return ReceiverOutput(
        success=success_records(patterns, outcomes),
        clicks=items,
        clicks_beyond_four=beyond,
        frames=frame_records(running, stimulus.frame_last, stimulus.frame, click_count, _by_word(outcomes > 0)),
        reference=sets,
        reference_missed=missed,
        counters=copies(steps, stimulus.latch, stimulus.clear),
        rates=np.stack([rates(_by_word(taken[d]), config["rate_words"], rate_late_words) for d in range(DETECTORS)]),
        hit_bits=hits,
        click_bits=clicks,
        fines=fine,
        outcomes=outcomes,
    )
