"""Keys of the senders' choices: made here, loaded into the boards, kept apart from everything else."""

import hashlib
import json
import secrets
import time
from dataclasses import dataclass

from .config import RunConfig
from .sifting import DrawsChoices

__all__ = ["SENDERS", "ChoiceKey", "make_choice_keys"]

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


def make_choice_keys(config: RunConfig) -> dict[str, ChoiceKey]:
    """Fresh keys for both senders; with a seed (simulated boards only) always the same.

    A fresh key makes every nonce fresh; the clock is taken so that nonces rise from run to run all the same.
    """
    keys = {}
    for stream, name in enumerate(SENDERS, start=1):
        if config.seed is None:
            key, nonce = secrets.token_bytes(32), time.time_ns()
        else:
            key, nonce = hashlib.sha256(f"qrelay simulated choice key {config.seed} {name}".encode()).digest(), 1
        keys[name] = ChoiceKey(key, nonce, stream, config.thresholds())
    return keys
