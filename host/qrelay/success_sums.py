"""What the successes of a run add up to, part by part: memory does not grow with the run but for the sifted key."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .audit import disclosed_slots
from .choice_keys import SENDERS
from .config import RunConfig
from .estimate import PairCounts
from .protocol.choice import PHASES
from .sifting import Announcements, Choices, DrawsChoices, Matched, draw_choices, fringe_counts, sift

__all__ = ["CountedParts", "SuccessSums"]

Bits = NDArray[np.uint8]

_LARGEST_PART = 1 << 20


class CountedParts:
    """Announcements of the counted slots in parts of bounded size, with the choices behind them.

    `before_covered_end` is how many there are in all slots before `covered_end`, known after each pass.
    """

    def __init__(
        self,
        announcements: Announcements | Iterable[Announcements],
        first_slot: int,
        end_slot: int,
        covered_end: int,
        choices: Mapping[str, DrawsChoices],
    ) -> None:
        self._parts = [announcements] if isinstance(announcements, Announcements) else announcements
        self._first_slot, self._end_slot, self._covered_end = first_slot, end_slot, covered_end
        self._choices = choices
        self.before_covered_end = 0

    def announced(self) -> Iterator[Announcements]:
        """The announcements alone."""
        self.before_covered_end = 0
        for part in self._parts:
            self.before_covered_end += int(np.count_nonzero(part.slots < np.uint64(self._covered_end)))
            inside = part.between(self._first_slot, self._end_slot)
            for begin in range(0, len(inside), _LARGEST_PART):
                piece = slice(begin, begin + _LARGEST_PART)
                yield Announcements(inside.slots[piece], inside.outcomes[piece])

    def __iter__(self) -> Iterator[tuple[Announcements, Choices]]:
        for part in self.announced():
            yield part, draw_choices(part, self._choices["alice"], self._choices["bob"])


class SuccessSums:
    """What a run's successes add up to."""

    def __init__(self, config: RunConfig, manifest: Mapping[str, Any], offset: int) -> None:
        self.successes = 0
        self.pairs = PairCounts.zero(len(config.settings))
        self.fringe = np.zeros((2, PHASES), np.int64)
        """Key-key successes by sign and phase difference, see `fringe_counts`."""
        self._bits: dict[str, list[Bits]] = {"alice": [], "bob": []}
        self._config = config
        self._manifest = manifest
        self._offset = offset
        self._key = config.setting_index(config.sifting.key)

    def add(self, announced: Announcements, chosen: Choices) -> None:
        """Take one part."""
        matched = sift(
            announced.outcomes,
            chosen.phase_a,
            chosen.phase_b,
            phase_offset=self._offset,
            invert=self._config.sifting.invert,
        )
        self.successes += len(announced)
        self.pairs.add(chosen, matched)
        both = (chosen.setting_a == self._key) & (chosen.setting_b == self._key)
        self.fringe += fringe_counts(announced.outcomes[both], chosen.phase_a[both], chosen.phase_b[both])
        for name, bits in _key_bits(self._config, self._manifest, announced, chosen, matched).items():
            self._bits[name].append(bits)

    def bits(self) -> dict[str, Bits]:
        """Sifted key bits of each sender."""
        none = np.zeros(0, np.uint8)
        return {name: np.concatenate([none, *parts]) for name, parts in self._bits.items()}


def _key_bits(
    config: RunConfig, manifest: Mapping[str, Any], announcements: Announcements, chosen: Choices, matched: Matched
) -> dict[str, Bits]:
    key = config.setting_index(config.sifting.key)
    keep = (chosen.setting_a[matched.index] == key) & (chosen.setting_b[matched.index] == key)
    if config.audit:
        slots = announcements.slots[matched.index]
        alignment = manifest["alignment"]
        delay = max(alignment["stations"][name]["line_delay_slots"] for name in SENDERS)
        first, end = disclosed_slots(alignment["audit_slot"], delay)
        keep &= (slots < np.uint64(first)) | (slots >= np.uint64(end))
    return {"alice": matched.bits_a[keep], "bob": matched.bits_b[keep]}
