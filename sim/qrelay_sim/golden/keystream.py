"""Golden model of the keystream: the host's regeneration of choices, which rests on the `cryptography` package."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qrelay.choices import ChoiceStream

__all__ = ["draws", "draws_at"]


def draws(key: bytes, nonce: int, stream: int, first_slot: int, n_slots: int) -> NDArray[np.uint16]:
    """Draws of `n_slots` slots from `first_slot` on; after slot 2^48 - 1 comes slot 0."""
    return ChoiceStream(key, nonce, stream).draws(first_slot, n_slots)


def draws_at(key: bytes, nonce: int, stream: int, slots: ArrayLike) -> NDArray[np.uint16]:
    """Draws of the given slots."""
    return ChoiceStream(key, nonce, stream).draws_at(slots)
