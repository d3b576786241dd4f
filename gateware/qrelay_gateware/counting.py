"""Counting a few bits in look-up tables.

A sum of single bits would become a chain of carry cells, each slower than a whole look-up table. The tables are written
as such, so that a simulation can look them up instead of evaluating gates.
"""

from amaranth.hdl import Cat, Const

__all__ = ["exactly", "ones"]

_MOST = 4


def _few(bits):
    bits = Cat(bits)
    if len(bits) > _MOST:
        raise ValueError(
            f"{len(bits)} bits to count at once; up to {_MOST} fit one look-up table, add the counts of groups"
        )
    return bits


def exactly(bits, number):
    """Whether `number` of up to four `bits` are set."""
    bits = _few(bits)
    patterns = range(1 << len(bits))
    table = sum((pattern.bit_count() == number) << pattern for pattern in patterns)
    return Const(table, len(patterns)).bit_select(bits, 1)


def ones(bits):
    """Number of ones in up to four bits, as three bits."""
    bits = _few(bits)
    patterns = range(1 << len(bits))
    table = sum(pattern.bit_count() << (4 * pattern) for pattern in patterns)
    return Const(table, 4 * len(patterns)).word_select(bits, 4)[:3]
