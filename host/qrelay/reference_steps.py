"""Which step of the reference segments is counted in which bin, and how often it comes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import RunConfig
from .modulation import step_entries

__all__ = ["ReferenceSteps", "sender_steps"]


def sender_steps(config: RunConfig) -> tuple[tuple[int, int], ...]:
    """Setting and phase of each step; one step of setting 0 where the run file has none."""
    steps = tuple((config.setting_index(step.setting), step.phase) for step in config.frame.steps)
    return steps or ((0, 0),)


@dataclass(frozen=True)
class ReferenceSteps:
    """Bins of the reference counters: one for each (setting, phase) of the step list, in the order of the list."""

    steps: tuple[tuple[int, int], ...]
    """(setting, phase) of each bin."""
    bin_of_step: tuple[int, ...]
    """Bin of each entry of the step list."""
    slots: tuple[int, ...]
    """Slots of a frame in each bin."""
    runs_over: NDArray[np.float64]
    """[bin, other]: steps of a bin where both are it, less those that follow a step of the other within a segment."""

    @classmethod
    def of(cls, config: RunConfig) -> "ReferenceSteps":
        """Bins of a run file."""
        listed = sender_steps(config)
        steps = tuple(dict.fromkeys(listed))
        bin_of_step = tuple(steps.index(step) for step in listed)
        slots = np.zeros(len(steps), np.int64)
        runs_over = np.zeros((len(steps), len(steps)))
        for segment in config.frame.segments:
            if segment.kind == "reference":
                step = np.arange(segment.slots) // config.frame.step_slots % len(listed)
                slots += np.bincount(np.asarray(bin_of_step)[step], minlength=len(steps))
                order = np.asarray(bin_of_step)[step[:: config.frame.step_slots]]
                np.add.at(runs_over, (order, order), 1)
                np.subtract.at(runs_over, (order[1:], order[:-1]), 1)
        return cls(steps, bin_of_step, tuple(slots.tolist()), runs_over)

    def table(self) -> list[int]:
        """Entries of the receiver's step list: the phase is the bin."""
        return step_entries((self.steps[place][0], place) for place in self.bin_of_step)

    def of_setting(self, setting: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Bins of one setting that occur, and their phases [rad]."""
        bins = [place for place, (chosen, _) in enumerate(self.steps) if chosen == setting and self.slots[place]]
        return np.array(bins, np.int64), 2 * np.pi / 16 * np.array([self.steps[place][1] for place in bins])
