"""Whose key the senders' choices expand: the [choices] table of a run file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from .entropy_health import HealthCutoffs, health_cutoffs
from .protocol.entropy import FALSE_ALARM_LOG2, MIN_ENTROPY
from .protocol.units import SLOTS_PER_WORD
from .strict_model import StrictModel

__all__ = ["ChoiceSettings", "KeySource"]

KeySource = Literal["host", "board"]

_OF_BOARD_KEYS = ("reseed_slots", "sample_words", "min_entropy", "false_alarm_log2")


class ChoiceSettings(StrictModel):
    """Keys of both senders, and how the noise source of a sender that makes its own is watched."""

    alice_key: KeySource = Field(
        default="host", description="'host', or 'board': made by the station's noise source, never readable"
    )
    bob_key: KeySource = "host"
    reseed_slots: int = Field(
        default=0,
        ge=0,
        multiple_of=SLOTS_PER_WORD,
        lt=SLOTS_PER_WORD << 40,
        description="a new key on board every so many slots; 0: one key for the run",
    )
    sample_words: int = Field(default=4096, ge=2, le=65535, description="a raw sample every so many words")
    min_entropy: float = Field(default=MIN_ENTROPY, gt=0, le=1, description="stated, bit per raw sample")
    false_alarm_log2: int = Field(
        default=FALSE_ALARM_LOG2, ge=-64, le=-10, description="binary logarithm of the false-alarm probability"
    )

    external_key_bit: bool = Field(
        default=False,
        description="the key bit comes from a source outside the station; it keeps the bits of the last slots only, "
        "0.9 s of them in an SDRAM; with 430 us in block RAMs a run must not be longer",
    )

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        given = [name for name in _OF_BOARD_KEYS if getattr(self, name) != type(self).model_fields[name].default]
        if given and not self.on_board():
            raise ValueError(
                f"{given[0]} = {getattr(self, given[0])} is for keys made on board, and both come from the host; leave "
                "it out, or set alice_key or bob_key = 'board'"
            )
        return self

    def key_of(self, sender: str) -> KeySource:
        """Where the key of "alice" or "bob" comes from."""
        return self.alice_key if sender == "alice" else self.bob_key

    def on_board(self) -> list[str]:
        """Senders that make their own keys."""
        return [name for name in ("alice", "bob") if self.key_of(name) == "board"]

    def cutoffs(self) -> HealthCutoffs:
        """Cutoffs of the health tests that follow from min-entropy and false alarm."""
        return health_cutoffs(self.min_entropy, 2.0**self.false_alarm_log2)
