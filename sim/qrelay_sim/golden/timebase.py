"""Golden model of the slot counter: what the station's time base does word by word."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay.protocol.units import BINS_PER_SLOT, SLOT_WORD_BITS, SLOTS_PER_WORD

__all__ = ["TIME_BASE_OUTPUTS", "TimeBaseSettings", "rising_edges", "time_base", "word_phase"]

_BINS = BINS_PER_SLOT * SLOTS_PER_WORD
_WORDS = 1 << SLOT_WORD_BITS

TIME_BASE_OUTPUTS = np.dtype(
    [
        ("go", "u1"),
        ("running", "u1"),
        ("slot_word", "u8"),
        ("armed", "u1"),
        ("finished", "u1"),
        ("refused", "u1"),
        ("sync_slip", "u1"),
        ("start_out", "u1"),
        ("start_place", "u1"),
        ("sync_edges", "u4"),
        ("sync_slips", "u4"),
    ]
)
"""Outputs and status of the time base in one word."""


@dataclass(frozen=True)
class TimeBaseSettings:
    """Registers of group `timebase` and the parameter of the block."""

    start_latency: int
    start_source: int = 0
    start_slot: int = 0
    length: int = 0
    sync_period: int = 0


def rising_edges(bins: ArrayLike) -> NDArray[np.uint8]:
    """Mask of the rising edges in each word of a sampled input; the input counts as low before the first word."""
    samples = np.unpackbits(np.asarray(bins, np.uint8)[:, None], axis=1, bitorder="little").ravel()
    before = np.concatenate(([0], samples[:-1]))
    return np.packbits((samples & ~before & 1).reshape(-1, _BINS), axis=1, bitorder="little").ravel()


def time_base(
    arm: ArrayLike, disarm: ArrayLike, start: ArrayLike, start_bins: ArrayLike, settings: TimeBaseSettings
) -> NDArray[np.void]:
    """Outputs (`TIME_BASE_OUTPUTS`) in each word from reset on, for strobes and start input samples per word."""
    edges = rising_edges(start_bins)
    strobes = zip(np.asarray(arm), np.asarray(disarm), np.asarray(start), edges, strict=True)
    outputs = np.zeros(len(edges), TIME_BASE_OUTPUTS)
    first_word = settings.start_slot // 8 * 2
    length_words = settings.length // SLOTS_PER_WORD

    armed = finished = False
    event: int | None = None  # word of the start event, while pending or running
    place = sync_edges = sync_slips = 0
    after_end = 0  # slot_word while no run is pending or running
    start_before = loads = False
    seen = slipped = 0  # edges and slips of the word before
    for now, (arm_now, disarm_now, start_now, edge_mask) in enumerate(strobes):
        places = [b for b in range(_BINS) if edge_mask >> b & 1]
        begin = None if event is None else event + settings.start_latency
        running = begin is not None and now >= begin
        slot_word = after_end
        if event is not None and begin is not None and now > event + 1:
            slot_word = (first_word + max(now - begin, 0)) % _WORDS
        go = refused = False
        if armed and event is None and not disarm_now:
            if settings.start_source == 0:
                go = bool(start_now)
            elif places:
                refused = places[0] in (0, _BINS - 1)
                go = not refused
        outputs[now] = (
            go,
            running,
            slot_word,
            armed,
            finished,
            refused,
            slipped > 0,
            0xFF if start_before else 0,
            place,
            sync_edges,
            sync_slips,
        )
        sync_edges += seen
        sync_slips += slipped
        seen = len(places) if running else 0
        slipped = 0
        if event is not None and running and settings.sync_period:
            due = (now - event) % settings.sync_period == 0
            slipped = sum(not (due and b == place) for b in places)

        start_before = bool(start_now)
        after_end = first_word if loads else slot_word
        loads = go
        if running:
            after_end = (slot_word + 1) % _WORDS
            if begin is not None and length_words and now - begin + 1 == length_words:
                event = None
                finished = finished or not disarm_now
        if (go or refused) and settings.start_source:
            place = places[0]
        if go:
            event = now
            place = place if settings.start_source else 0
        if refused:
            armed = False
        if arm_now and not disarm_now and not armed and not running and not refused:
            armed = True
            finished = False
            sync_edges = sync_slips = 0
        if event is not None and now + 1 >= event + settings.start_latency:
            armed = False
        if disarm_now:
            armed = False
            event = None
    return outputs


def word_phase(
    running: ArrayLike, slot_word: ArrayLike, period: int, align_words: int
) -> tuple[NDArray[np.int64], ...]:
    """Phase and aligned flag of a counter modulo `period` words, for each word from reset on.

    Free outside a run, from phase 0 in the first word; in a run, in step with the slot index from the word
    of slot 0 on, or from `align_words` words after the first word of the run on.
    """
    period = max(period, 1)
    phases = np.zeros(len(np.asarray(running)), np.int64)
    aligned = np.zeros_like(phases)
    phase = -1
    words_in_run = 0
    in_step = False
    for now, (run, word) in enumerate(zip(np.asarray(running), np.asarray(slot_word), strict=True)):
        phase = (phase + 1) % period
        in_step = bool(run) and (in_step or word == 0 or words_in_run == align_words)
        if in_step and (word == 0 or words_in_run == align_words):
            phase = int(word) % period
        words_in_run = words_in_run + 1 if run else 0
        phases[now] = phase
        aligned[now] = in_step
    return phases, aligned
