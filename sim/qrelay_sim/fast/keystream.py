"""Choices of many scattered slots at once: the same AES-256 keystream as `qrelay.choices`, a few ns for each slot.

`ChoiceStream` defines what comes out; here compiled loops write the counter blocks and look up the draws, and
both senders share the work of finding which blocks are needed.
"""

import sys
from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import NDArray

from qrelay.choice_keys import ChoiceKey
from qrelay.protocol.choice import BLOCK_BITS, DRAW_BITS, PHASE_BITS, PHASES, setting_of
from qrelay.protocol.units import SLOTS_PER_BLOCK

from .compiled import compiled

__all__ = ["Keystream"]

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

_BLOCK_BYTES = 16
_BYTES, _PAIRS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_8, _16, _32 = np.uint64(8), np.uint64(16), np.uint64(32)
_SWAPPED = sys.byteorder == "little"


class Keystream:
    """Choices of several senders in the same slots. One of these for each thread.

    Parameters
    ----------
    keys : the senders' keys, nonces, stream numbers and thresholds.
    """

    def __init__(self, keys: Sequence[ChoiceKey]) -> None:
        self._encryptors = [Cipher(AES256(key.key), ECB()).encryptor() for key in keys]
        self._high = [np.uint64(key.nonce).byteswap() if _SWAPPED else np.uint64(key.nonce) for key in keys]
        self._stream = [np.uint64(key.stream << BLOCK_BITS) for key in keys]
        draws = np.arange(1 << DRAW_BITS)
        self._code_of_draw = []
        for key in keys:
            settings = np.array([setting_of(d, key.thresholds) for d in range(1 << DRAW_BITS - PHASE_BITS)], np.uint8)
            codes = settings[draws >> PHASE_BITS] << np.uint8(PHASE_BITS) | (draws & PHASES - 1).astype(np.uint8)
            self._code_of_draw.append(codes.astype(np.uint8))

    def codes(self, slots: Integers, origin: int) -> list[Bytes]:
        """Codes ``setting << 4 | phase`` of each sender at ``origin + slots``; ascending slots share blocks."""
        if not len(slots):
            return [np.zeros(0, np.uint8) for _ in self._encryptors]
        blocks, place = _needed_blocks(slots, origin)
        found = []
        for encryptor, high, stream, codes in zip(
            self._encryptors, self._high, self._stream, self._code_of_draw, strict=True
        ):
            counters = _counters(blocks, high, stream, _SWAPPED)
            # update_into asks for room for a part of a block that never comes here.
            encrypted = np.empty(counters.nbytes + _BLOCK_BYTES - 1, np.uint8)
            encryptor.update_into(counters.data.cast("B"), encrypted.data)
            draws = encrypted[: counters.nbytes].view("<u2").astype(np.uint16, copy=False)
            found.append(_look_up(draws, place, codes))
        return found


@compiled
def _needed_blocks(slots: Integers, origin: int) -> tuple[Words, Integers]:
    """Numbers of the blocks, one for neighbours in the same block, and the place of each slot's draw among them."""
    blocks = np.empty(len(slots), np.uint64)
    place = np.empty(len(slots), np.int64)
    count = 0
    last = -1
    for i in range(len(slots)):
        slot = slots[i] + origin
        block = slot // SLOTS_PER_BLOCK
        if block != last:
            blocks[count] = block
            count += 1
            last = block
        place[i] = (count - 1) * SLOTS_PER_BLOCK + slot % SLOTS_PER_BLOCK
    return blocks[:count], place


@compiled
def _counters(blocks: Words, high: np.uint64, stream: np.uint64, swapped: bool) -> Words:
    """Counter blocks of 16 bytes as two words each, big-endian in memory."""
    counters = np.empty((len(blocks), 2), np.uint64)
    for i in range(len(blocks)):
        low = blocks[i] | stream
        if swapped:
            low = (low & _BYTES) << _8 | low >> _8 & _BYTES
            low = (low & _PAIRS) << _16 | low >> _16 & _PAIRS
            low = low << _32 | low >> _32
        counters[i, 0] = high
        counters[i, 1] = low
    return counters


@compiled
def _look_up(draws: NDArray[np.uint16], place: Integers, codes: Bytes) -> Bytes:
    found = np.empty(len(place), np.uint8)
    for i in range(len(place)):
        found[i] = codes[draws[place[i]]]
    return found
