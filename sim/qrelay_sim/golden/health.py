"""Golden model of `health.HealthTests`: the pseudo-code of SP 800-90B 4.4.1 and 4.4.2 on arrays of samples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.entropy import PROPORTION_WINDOW

__all__ = ["HealthTrace", "equal_to_first", "health", "run_lengths"]

_LONGEST = (1 << 10) - 1


@dataclass(frozen=True)
class HealthTrace:
    """State of the tests after each sample, arrays of shape (samples,)."""

    healthy: NDArray[np.bool_]
    repetition_failed: NDArray[np.bool_]
    proportion_failed: NDArray[np.bool_]
    longest_run: NDArray[np.int64]
    largest_count: NDArray[np.int64]
    failed_at: NDArray[np.int64]


def run_lengths(samples: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Length, after each sample, of the run of equal samples that it ends."""
    places = np.arange(len(samples))
    begins = np.ones(len(samples), bool)
    begins[1:] = samples[1:] != samples[:-1]
    return places - np.maximum.accumulate(np.where(begins, places, 0)) + 1


def equal_to_first(samples: NDArray[np.uint8], window: int = PROPORTION_WINDOW) -> NDArray[np.int64]:
    """Samples of the present window so far that equal its first, after each sample."""
    padded = np.concatenate([samples, np.zeros(-len(samples) % window, samples.dtype)]).reshape(-1, window)
    return np.cumsum(padded == padded[:, :1], axis=1).ravel()[: len(samples)]


def health(
    samples: NDArray[np.uint8], repetition_cutoff: int, proportion_cutoff: int, window: int = PROPORTION_WINDOW
) -> HealthTrace:
    """What the tests make of `samples` (0 or 1), the first of which is the first after a restart."""
    run = np.minimum(run_lengths(samples), _LONGEST)
    count = equal_to_first(samples, window)
    too_long = np.logical_or.accumulate(run >= repetition_cutoff)
    too_many = np.logical_or.accumulate(count >= proportion_cutoff)
    failed = too_long | too_many
    number = np.arange(1, len(samples) + 1)
    first_failure = int(number[failed][0]) if failed.any() else 0
    return HealthTrace(
        healthy=(number >= window) & ~failed,
        repetition_failed=too_long,
        proportion_failed=too_many,
        longest_run=np.maximum.accumulate(run),
        largest_count=np.maximum.accumulate(count),
        failed_at=np.where(failed, first_failure, 0),
    )
