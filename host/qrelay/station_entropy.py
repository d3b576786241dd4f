"""The noise source of a station and the keys it makes: health, keys, draws of asked slots, raw samples."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .asked_slots import SlotQuestion
from .board import Board
from .entropy_health import HealthCutoffs
from .errors import RunError
from .protocol.choice import PHASE_BITS, PHASES, SETTINGS, THRESHOLD_RANGE, setting_of
from .protocol.entropy import KEY_PLACES
from .protocol.identity import Entropy
from .protocol.status import State
from .protocol.windows import window
from .record_arrays import RecordArray

__all__ = ["KEY_MADE_ON_BOARD", "BoardChoices", "KeySpan", "SourceHealth", "StationEntropy", "key_spans"]

_STANDSTILL_S = 20.0
_POLL_S = 0.005
_QUESTION = SlotQuestion("entropy.regenerate_base", "entropy.regenerate", "entropy.answered", "draws", "its draws")

_PRESENT, _HEALTHY, _REPETITION, _PROPORTION = 1, 2, 4, 8
_MAKING = 1
KEY_MADE_ON_BOARD = 2
"""Bits of `entropy.key_state`."""


@dataclass(frozen=True)
class SourceHealth:
    """State of the health tests since their last restart."""

    healthy: bool
    repetition_failed: bool
    proportion_failed: bool
    samples: int
    failed_at: int
    longest_run: int
    largest_count: int

    @property
    def failures(self) -> list[str]:
        """Names of the tests that failed."""
        named = (
            ("repetition count test", self.repetition_failed),
            ("adaptive proportion test", self.proportion_failed),
        )
        return [name for name, failed in named if failed]


class StationEntropy:
    """Noise source and keys of one station.

    Raises
    ------
    RunError
        The station has no noise source.
    """

    def __init__(self, board: Board) -> None:
        if board.identity.entropy == Entropy.HOST:
            raise RunError(
                f"station {board.identity.board!r} at {board.url} has no noise source: its keys come from the host; "
                "build its bitstream with ring oscillators (qrelay build BOARD --rings) to have one"
            )
        self.board = board

    # -- source ------------------------------------------------------------------------------------------------------

    def health(self) -> SourceHealth:
        """What the tests have seen since their restart."""
        group = self.board.read_group("entropy")
        bits = group["health"]
        return SourceHealth(
            healthy=bool(bits & _HEALTHY),
            repetition_failed=bool(bits & _REPETITION),
            proportion_failed=bool(bits & _PROPORTION),
            samples=group["samples"],
            failed_at=group["failed_at"],
            longest_run=group["longest_run"],
            largest_count=group["largest_count"],
        )

    def start_up(self, cutoffs: HealthCutoffs, sample_words: int) -> SourceHealth:
        """Set the tests, run the start-up test (SP 800-90B 4.3) and wait for its end. Raises RunError if it fails."""
        self.board.write_many(
            {
                "entropy.sample_words": sample_words,
                "entropy.repetition_cutoff": cutoffs.repetition,
                "entropy.proportion_cutoff": cutoffs.proportion,
            }
        )
        self.board.write("entropy.restart", 1)
        for _ in self._while_sampling("the start-up test does not end"):
            health = self.health()
            if health.failures:
                raise RunError(
                    f"station {self.board.identity.board!r}: {' and '.join(health.failures)} failed at sample "
                    f"{health.failed_at} (longest run {health.longest_run}, most equal {health.largest_count} in "
                    "1024): the noise source must not be used; record raw samples to see what it does"
                )
            if health.healthy:
                break
        return health

    def _while_sampling(self, what: str) -> Iterator[None]:
        """Yield again and again; raises RunError once the station takes no samples for a while.

        Time on the wall says nothing where a station is simulated.
        """
        seen, moved = -1, time.monotonic()
        while True:
            yield
            samples = self.board.read("entropy.samples")
            now = time.monotonic()
            if samples != seen:
                seen, moved = samples, now
            elif now - moved > _STANDSTILL_S:
                raise RunError(
                    f"station {self.board.identity.board!r}: {what}; no raw sample was taken for {_STANDSTILL_S:g} s"
                )
            time.sleep(_POLL_S)

    # -- keys --------------------------------------------------------------------------------------------------------

    def use_own_keys(self, own: bool = True, *, reseed_words: int = 0) -> None:
        """Draw from keys made by the station, anew every `reseed_words` words of a run (0: never), or from the host."""
        self.board.write_many({"entropy.reseed_words": reseed_words, "entropy.on_board": int(own)})

    def make_key(self) -> int:
        """Make a key and go over to it; return its place. Raises RunError saying why if the station made none."""
        before = self.board.read("entropy.key_number")

        def begun() -> bool:
            # In this order: a key that is finished between the two has raised the number.
            making = self.board.read("entropy.key_state") & _MAKING
            return bool(making) or self.board.read("entropy.key_number") != before

        self.board.strobe_once("entropy.make", begun)
        for _ in self._while_sampling("its key is not finished"):
            if not self.board.read("entropy.key_state") & _MAKING:
                break
        if self.board.read("entropy.key_number") == before:
            raise RunError(f"station {self.board.identity.board!r} made no key: {self._reason()}")
        return self.board.read("entropy.key_place")

    def _reason(self) -> str:
        group = self.board.read_group("entropy")
        if not group["health"] & _HEALTHY:
            return "its noise source is not healthy; run the start-up test"
        if group["keys"] == (1 << KEY_PLACES) - 1:
            return f"all {KEY_PLACES} places hold keys; erase those whose sifting ended"
        if group["record"]:
            return "raw samples are being recorded; end that first"
        return "it is set to the host's keys (entropy.on_board is 0)"

    def places(self) -> list[int]:
        """Places that hold a key."""
        keys = self.board.read("entropy.keys")
        return [place for place in range(KEY_PLACES) if keys >> place & 1]

    def erase(self, places: Sequence[int], *, wait: bool = True) -> None:
        """Erase keys whose sifting ended, and wait until they are gone. Raises RunError where a key is in use."""
        mask = 0
        for place in places:
            if not 0 <= place < KEY_PLACES:
                raise RunError(f"key place {place}; give 0 to {KEY_PLACES - 1}")
            mask |= 1 << place
        current = self.board.read("entropy.key_place")
        in_use = self.board.state() & (State.ARMED | State.RUNNING)
        if in_use and mask >> current & 1 and self.board.read("entropy.key_state") & KEY_MADE_ON_BOARD:
            raise RunError(f"the key at place {current} is in use; disarm the station before it is erased")
        self.board.write("entropy.erase", mask)
        if not wait:
            return
        began = time.monotonic()
        while self.board.read("entropy.keys") & mask:
            if time.monotonic() - began > _STANDSTILL_S:
                raise RunError(f"keys at places {', '.join(map(str, places))} are not erased after {_STANDSTILL_S:g} s")
            time.sleep(_POLL_S)

    def forget_answers(self) -> None:
        """Overwrite the last answers, which stand in the window `draws` until the next: without a key they are zeros.

        To be called when all keys are erased.
        """
        _QUESTION.put(self.board, np.arange(window("draws").depth, dtype=np.uint64))

    def draws(self, place: int, nonce: int, stream: int, slots: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Draws of `slots` (any order) with the key at `place`, as `qrelay.choices.ChoiceStream.draws_at` gives them.

        Raises RunError if the place holds no key.
        """
        self.board.write_many(
            {
                "entropy.regenerate_place": place,
                "entropy.regenerate_nonce": nonce,
                "entropy.regenerate_stream": stream,
            }
        )
        answers = _QUESTION.put(self.board, slots)
        if not answers["answered"].all():
            raise RunError(f"key place {place} of station {self.board.identity.board!r} holds no key: it was erased")
        return answers["draw"].astype(np.uint16)

    # -- raw samples -------------------------------------------------------------------------------------------------

    def record(self, samples: int, on_progress: Callable[[int], None] = lambda _: None) -> Iterator[NDArray[np.uint8]]:
        """Yield consecutive raw samples, arrays of 0 and 1, `samples` in total. No key is made meanwhile.

        Raises RunError if the link is too slow for the source: then some are lost, and a gap is worse than an end.
        """
        ring = window("raw").depth
        self.board.write("entropy.record", 0)
        self.board.write("entropy.record", 1)
        taken, given = 0, 0
        try:
            for _ in self._while_sampling("recording stands still"):
                written = self.board.read("entropy.raw_words")
                fresh = min(written - taken, -(-(samples - given) // 32))
                while fresh > 0:
                    first = taken % ring
                    part = self.board.read_table("raw", first, min(fresh, ring - first))
                    if self.board.read("entropy.raw_words") - taken >= ring:
                        raise RunError(
                            f"raw samples come faster than the link takes them: {given} were recorded without a gap; "
                            f"raise entropy.sample_words ({self.board.read('entropy.sample_words')})"
                        )
                    taken += len(part)
                    fresh -= len(part)
                    bits = np.unpackbits(np.array(part, "<u4").view(np.uint8), bitorder="little")[: samples - given]
                    given += len(bits)
                    on_progress(given)
                    yield bits
                if given >= samples:
                    return
        finally:
            self.board.write("entropy.record", 0)


@dataclass(frozen=True)
class KeySpan:
    """From `first_slot` on the station drew with the key at `place`, which is its key `number` since power-up."""

    first_slot: int
    place: int
    number: int


def key_spans(records: RecordArray) -> list[KeySpan]:
    """Key records in words, in their order."""
    return [KeySpan(int(r["slot"]), int(r["place"]), int(r["number"])) for r in records]


class BoardChoices:
    """Choices of a sender whose keys stay on its board (a `qrelay.sifting.DrawsChoices`).

    Parameters
    ----------
    entropy : StationEntropy
    spans : key spans of the run, in order of slots (`key_spans`); may grow while in use.
    nonce, stream, thresholds : as in the registers of the keystream during the run.
    """

    def __init__(
        self,
        entropy: StationEntropy,
        spans: Sequence[KeySpan],
        nonce: int,
        stream: int,
        thresholds: Sequence[int] = (THRESHOLD_RANGE,) * (SETTINGS - 1),
    ) -> None:
        self._entropy = entropy
        self._spans = spans
        self._nonce = nonce
        self._stream = stream
        limits = tuple(thresholds)
        self._setting_of_draw = np.array([setting_of(d, limits) for d in range(THRESHOLD_RANGE)], np.uint8)

    def at(self, slots: NDArray[np.uint64]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return setting and phase index of each slot. Raises RunError for slots before the first key."""
        draws = self.draws_at(slots)
        return self._setting_of_draw[draws >> PHASE_BITS], (draws & (PHASES - 1)).astype(np.uint8)

    def draws_at(self, slots: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Return the draw of each slot. Raises RunError for slots before the first key."""
        asked = np.asarray(slots, np.uint64)
        firsts = np.array([span.first_slot for span in self._spans], np.uint64)
        place = np.searchsorted(firsts, asked, side="right").astype(np.int64) - 1
        if len(asked) and place.min() < 0:
            raise RunError(
                f"slot {int(asked.min())} lies before the first key of the run "
                f"({int(firsts[0]) if len(firsts) else 'no key record was received'})"
            )
        draws = np.zeros(len(asked), np.uint16)
        for number, span in enumerate(self._spans):
            of_span = place == number
            if of_span.any():
                draws[of_span] = self._entropy.draws(span.place, self._nonce, self._stream, asked[of_span])
        return draws
