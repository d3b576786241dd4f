"""Proof that the log is what was emitted: captured choices and line states equal the regenerated ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bit_arrays import pack_fields
from .emission import SenderPlan
from .modulation import line_bins
from .protocol.registers import AUDIT_WORDS, LINES
from .protocol.units import SLOTS_PER_WORD
from .protocol.windows import AUDIT_CHOICE

__all__ = ["AUDIT_SLOTS", "AuditReport", "check_audit", "disclosed_slots", "unpack_audit"]

AUDIT_SLOTS = AUDIT_WORDS * SLOTS_PER_WORD


@dataclass(frozen=True)
class AuditReport:
    """Outcome of one capture."""

    first_slot: int
    slots: int
    wrong_choices: int
    """Slots whose captured choice differs from the regenerated one."""
    wrong_lines: int
    """Slots in which a line was not in the state that the regenerated choice asks for."""
    first_wrong_slot: int | None

    @property
    def passed(self) -> bool:
        """Nothing differs."""
        return self.wrong_choices == 0 and self.wrong_lines == 0


def unpack_audit(words: Sequence[int]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Choices and line entries per slot of an audit window, four 32-bit words per four slots, 16 bits a slot."""
    halves = np.asarray(words, "<u4").view("<u2").reshape(-1, 2, SLOTS_PER_WORD)
    return halves[:, 0].ravel(), halves[:, 1].ravel()


def disclosed_slots(first_slot: int, line_delay_slots: int) -> tuple[int, int]:
    """First and end slot of what a capture from `first_slot` on tells about a sender: none of it may enter a key.

    A line with a delay shows in slot s what belongs to slot s - delay.
    """
    return first_slot - line_delay_slots, first_slot + AUDIT_SLOTS


def check_audit(words: Sequence[int], first_slot: int, plan: SenderPlan) -> AuditReport:
    """Hold a capture of the slots from `first_slot` on against what the sender must have emitted.

    `first_slot` must lie at least the longest line delay behind the sender's start.
    """
    captured_choices, captured_lines = unpack_audit(words)
    count = len(captured_choices)
    reach = max(plan.line_delay_slots)
    slots = np.arange(*disclosed_slots(first_slot, reach), dtype=np.uint64)
    emission = plan.emission(slots)
    here = slice(reach, reach + count)
    choices = pack_fields(
        AUDIT_CHOICE, setting=emission.setting[here], phase=emission.phase[here], drawn=emission.drawn[here]
    )
    lines = np.zeros(count, np.uint16)
    for line in range(LINES):
        back = reach - plan.line_delay_slots[line]
        lines |= emission.lines[back : back + count] & np.uint16(line_bins(line))
    wrong_choices = choices != captured_choices
    wrong_lines = lines != captured_lines
    wrong = np.flatnonzero(wrong_choices | wrong_lines)
    return AuditReport(
        first_slot,
        count,
        int(np.count_nonzero(wrong_choices)),
        int(np.count_nonzero(wrong_lines)),
        first_slot + int(wrong[0]) if len(wrong) else None,
    )
