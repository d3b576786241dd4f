"""Keys of the senders' choices: made here, loaded into the boards, kept apart from everything else."""

import hashlib
import json
import secrets
import time
from dataclasses import dataclass

from .config import RunConfig
from .sifting import DrawsChoices

__all__ = ["SENDERS", "BoardKey", "ChoiceKey", "make_board_keys", "make_choice_keys"]

SENDERS = ("alice", "bob")


@dataclass(frozen=True)
class ChoiceKey:
    """What regenerates all choices of a sender. Never printed: `repr` shows no key."""

    key: bytes
    nonce: int
    stream: int
    thresholds: tuple[int, ...]

    def __repr__(self) -> str:
        return f"ChoiceKey(nonce={self.nonce}, stream={self.stream})"

    def choices(self) -> DrawsChoices:
        """Regenerator of the choices."""
        from .choices import ChoiceStream

        return ChoiceStream(self.key, self.nonce, self.stream, self.thresholds)

    def to_json(self) -> bytes:
        """Content of the sender's key file."""
        return json.dumps(
            {"key": self.key.hex(), "nonce": self.nonce, "stream": self.stream, "thresholds": self.thresholds}
        ).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "ChoiceKey":
        """Read back `to_json`."""
        values = json.loads(content)
        return cls(bytes.fromhex(values["key"]), values["nonce"], values["stream"], tuple(values["thresholds"]))


@dataclass(frozen=True)
class BoardKey:
    """What belongs to the choices of a sender whose keys are made on its board, where they stay."""

    nonce: int
    stream: int
    thresholds: tuple[int, ...]


def make_board_keys(config: RunConfig) -> dict[str, BoardKey]:
    """Nonce, stream and thresholds of the senders that make their own keys; nonces rise from run to run."""
    return {
        name: BoardKey(time.time_ns(), stream, config.thresholds())
        for stream, name in enumerate(SENDERS, start=1)
        if config.choices.key_of(name) == "board"
    }


def make_choice_keys(config: RunConfig) -> dict[str, ChoiceKey]:
    """Fresh keys for the senders that get them from here; with a seed (simulated boards only) always the same.

    A fresh key makes every nonce fresh; the clock is taken so that nonces rise from run to run all the same.
    """
    keys = {}
    for stream, name in enumerate(SENDERS, start=1):
        if config.choices.key_of(name) == "board":
            continue
        if config.seed is None:
            key, nonce = secrets.token_bytes(32), time.time_ns()
        else:
            key, nonce = hashlib.sha256(f"qrelay simulated choice key {config.seed} {name}".encode()).digest(), 1
        keys[name] = ChoiceKey(key, nonce, stream, config.thresholds())
    return keys
