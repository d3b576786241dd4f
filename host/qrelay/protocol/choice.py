"""What a sender draws for a slot, and how it follows from key, nonce, stream number and slot index.

A block of AES-256 in counter mode (FIPS 197, SP 800-38A) serves eight consecutive slots, 16 bits each. The counter
block is, from its first byte, big-endian::

    nonce (8 bytes) | stream (2 bytes) | slot index / 8 (6 bytes)

Bytes 2k and 2k+1 of the encrypted block, little-endian, are the draw of slot 8 * block + k:

======== ==========================================================================
bits 3:0  uniform phase index 0..15; bit 3 is the key bit, bits 2:0 the slice
bits 15:4 threshold draw 0..4095; the setting is the number of thresholds it reaches
======== ==========================================================================
"""

__all__ = [
    "BLOCK_BITS",
    "DRAW_BITS",
    "PHASES",
    "PHASE_BITS",
    "SETTINGS",
    "SETTING_BITS",
    "THRESHOLD_BITS",
    "THRESHOLD_RANGE",
    "counter_block",
    "setting_of",
]

PHASE_BITS = 4
PHASES = 1 << PHASE_BITS
SETTING_BITS = 3
SETTINGS = 1 << SETTING_BITS
THRESHOLD_BITS = 12
THRESHOLD_RANGE = 1 << THRESHOLD_BITS
DRAW_BITS = PHASE_BITS + THRESHOLD_BITS
BLOCK_BITS = 48


def counter_block(nonce: int, stream: int, block: int) -> bytes:
    """Counter block of 16 bytes for slots ``8 * block .. 8 * block + 7``.

    Raises ValueError if an argument does not fit its field (nonce 64, stream 16, block 48 bits).
    """
    for name, value, bits in (("nonce", nonce, 64), ("stream", stream, 16), ("block", block, BLOCK_BITS)):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} {value} does not fit {bits} bits; give 0 to {(1 << bits) - 1}")
    return nonce.to_bytes(8, "big") + stream.to_bytes(2, "big") + block.to_bytes(6, "big")


def setting_of(threshold_draw: int, thresholds: tuple[int, ...]) -> int:
    """Return the setting 0..7 of a draw: the number of the seven cumulative `thresholds` (0..4096) that it reaches."""
    return sum(threshold_draw >= threshold for threshold in thresholds)
