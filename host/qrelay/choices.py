"""Regenerate what a sender drew: from key, nonce, stream and slot index to draws, settings and phases."""

from collections.abc import Iterator, Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from numpy.typing import ArrayLike, NDArray

from .protocol.choice import BLOCK_BITS, PHASE_BITS, PHASES, SETTINGS, THRESHOLD_RANGE, setting_of
from .protocol.units import SLOT_BITS, SLOTS_PER_BLOCK

__all__ = ["ChoiceStream"]

DrawArray = NDArray[np.uint16]
SlotArray = NDArray[np.uint64]
ByteArray = NDArray[np.uint8]

KEY_BYTES = 32
BLOCK_BYTES = 16
CHUNK_BLOCKS = 1 << 14
"""Blocks encrypted in one call: 256 kB in and out, which stay in the processor's cache."""
ALL_SLOTS = 1 << SLOT_BITS
NEVER = (THRESHOLD_RANGE,) * (SETTINGS - 1)


class ChoiceStream:
    """The choices of one run: AES-256 in counter mode, addressed by slot index (see `qrelay.protocol.choice`).

    Memory beyond the results is bounded, however many slots are asked for.

    Parameters
    ----------
    key : bytes
        AES-256 key, 32 bytes.
    nonce : int
        Run nonce, 64 bit.
    stream : int
        Stream number, 16 bit.
    thresholds : sequence of 7 int, optional
        Cumulative thresholds 0..4096 of settings 1..7, as in the registers ``keystream.threshold_1`` to ``_7``. Left
        out, every setting is 0.

    Raises
    ------
    ValueError
        An argument, or a slot index given later, is outside its limits.
    """

    def __init__(self, key: bytes, nonce: int, stream: int = 0, thresholds: Sequence[int] = NEVER) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key has {len(key)} bytes; AES-256 takes {KEY_BYTES}")
        for name, value, bits in (("nonce", nonce, 64), ("stream", stream, 16)):
            if not 0 <= value < 1 << bits:
                raise ValueError(f"{name} {value} does not fit {bits} bits; give 0 to {(1 << bits) - 1}")
        if len(thresholds) != SETTINGS - 1:
            raise ValueError(
                f"{len(thresholds)} thresholds; give {SETTINGS - 1}, {THRESHOLD_RANGE} for unused settings"
            )
        for number, threshold in enumerate(thresholds, 1):
            if not 0 <= threshold <= THRESHOLD_RANGE:
                raise ValueError(f"threshold {number} is {threshold}; give 0 to {THRESHOLD_RANGE}")
        self.nonce = nonce
        self.stream = stream
        self.thresholds = tuple(int(threshold) for threshold in thresholds)
        self._encryptor: CipherContext = Cipher(AES256(key), ECB()).encryptor()
        self._setting_of_draw = np.array([setting_of(d, self.thresholds) for d in range(THRESHOLD_RANGE)], np.uint8)

    def __repr__(self) -> str:
        return f"ChoiceStream(nonce={self.nonce}, stream={self.stream}, thresholds={self.thresholds})"

    def draws_at(self, slots: ArrayLike) -> DrawArray:
        """Draws of the given slots, in their order; slots may repeat. Fastest where they rise."""
        slots = _slot_array(slots)
        draws = np.empty(len(slots), np.uint16)
        for begin in range(0, len(slots), CHUNK_BLOCKS):
            part = slots[begin : begin + CHUNK_BLOCKS]
            blocks = part // np.uint64(SLOTS_PER_BLOCK)
            lanes = (part % np.uint64(SLOTS_PER_BLOCK)).astype(np.intp)
            # Neighbours in one block share its encryption.
            new = np.concatenate(([True], blocks[1:] != blocks[:-1]))
            draws[begin : begin + len(part)] = self._encrypt(blocks[new])[np.cumsum(new) - 1, lanes]
        return draws

    def draws(self, first_slot: int, slots: int) -> DrawArray:
        """Draws of consecutive slots; after slot 2^48 - 1 comes slot 0."""
        _check_range(first_slot, slots)
        draws = np.empty(slots, np.uint16)
        for begin, part in self._consecutive(first_slot, slots):
            draws[begin : begin + len(part)] = part
        return draws

    def at(self, slots: ArrayLike) -> tuple[ByteArray, ByteArray]:
        """Setting 0..7 and phase index 0..15 of the given slots, in their order."""
        return self._split(self.draws_at(slots))

    def block(self, first_slot: int, slots: int) -> tuple[ByteArray, ByteArray]:
        """Setting and phase index of consecutive slots; after slot 2^48 - 1 comes slot 0."""
        _check_range(first_slot, slots)
        settings = np.empty(slots, np.uint8)
        phases = np.empty(slots, np.uint8)
        for begin, part in self._consecutive(first_slot, slots):
            settings[begin : begin + len(part)], phases[begin : begin + len(part)] = self._split(part)
        return settings, phases

    def _split(self, draws: DrawArray) -> tuple[ByteArray, ByteArray]:
        return self._setting_of_draw[draws >> PHASE_BITS], (draws & (PHASES - 1)).astype(np.uint8)

    def _consecutive(self, first_slot: int, slots: int) -> Iterator[tuple[int, DrawArray]]:
        """Yield (place in the result, draws) of successive parts of a range."""
        place = 0
        while place < slots:
            block, skipped = divmod((first_slot + place) % ALL_SLOTS, SLOTS_PER_BLOCK)
            blocks = min(CHUNK_BLOCKS, -(-(slots - place + skipped) // SLOTS_PER_BLOCK))
            numbers = np.arange(block, block + blocks, dtype=np.uint64) % np.uint64(ALL_SLOTS // SLOTS_PER_BLOCK)
            part = self._encrypt(numbers).reshape(-1)[skipped : skipped + slots - place]
            yield place, part
            place += len(part)

    def _encrypt(self, blocks: SlotArray) -> DrawArray:
        """Eight draws of each block number, as an array of shape (blocks, 8)."""
        counters = np.empty((len(blocks), 2), ">u8")
        counters[:, 0] = self.nonce
        counters[:, 1] = blocks | np.uint64(self.stream << BLOCK_BITS)
        # update_into asks for room for a part of a block that never comes here.
        encrypted = np.empty(counters.nbytes + BLOCK_BYTES - 1, np.uint8)
        self._encryptor.update_into(counters.data.cast("B"), encrypted.data)
        return encrypted[: counters.nbytes].view("<u2").astype(np.uint16, copy=False).reshape(-1, SLOTS_PER_BLOCK)


def _slot_array(slots: ArrayLike) -> SlotArray:
    given = np.asarray(slots)
    if given.ndim != 1:
        raise ValueError(f"slots have {given.ndim} dimensions; give a list or array of one dimension")
    if given.size == 0:
        return np.empty(0, np.uint64)
    if given.dtype.kind not in "iu":
        raise ValueError(f"slots are of type {given.dtype}; give integers")
    for slot in (int(given.min()), int(given.max())):
        if not 0 <= slot < ALL_SLOTS:
            raise ValueError(f"slot {slot} does not fit {SLOT_BITS} bits; give 0 to {ALL_SLOTS - 1}")
    return given.astype(np.uint64, copy=False)


def _check_range(first_slot: int, slots: int) -> None:
    if not 0 <= first_slot < ALL_SLOTS:
        raise ValueError(f"first slot {first_slot} does not fit {SLOT_BITS} bits; give 0 to {ALL_SLOTS - 1}")
    if not 0 <= slots <= ALL_SLOTS:
        raise ValueError(f"{slots} slots; give 0 to {ALL_SLOTS}, the number of slot indices")
