"""Golden model of the conditioning of raw samples: CBC-MAC with AES-256 (SP 800-90B appendix F), by `cryptography`."""

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from numpy.typing import NDArray

from qrelay.protocol.entropy import CONDITIONING_BLOCKS, CONDITIONING_KEY

__all__ = ["HALF_SAMPLES", "conditioned"]

_BLOCK_BITS = 128
HALF_SAMPLES = CONDITIONING_BLOCKS * _BLOCK_BITS
"""Samples that make half a key."""


def conditioned(samples: NDArray[np.uint8]) -> bytes:
    """The key of 2 * `HALF_SAMPLES` samples (0 or 1): two CBC-MACs; sample n of a block is its little-endian bit n."""
    if samples.shape != (2 * HALF_SAMPLES,):
        raise ValueError(f"samples of shape {samples.shape}; a key takes {2 * HALF_SAMPLES}")
    key = b""
    for half in samples.reshape(2, HALF_SAMPLES):
        chain = Cipher(AES256(CONDITIONING_KEY), CBC(bytes(16))).encryptor()
        key += chain.update(np.packbits(half, bitorder="little").tobytes())[-16:]
    return key
