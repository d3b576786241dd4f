"""Counting a few bits in look-up tables.

A sum of single bits would become a chain of carry cells, each slower than a whole look-up table.
"""

from functools import reduce
from itertools import combinations
from operator import and_, or_

from amaranth.hdl import Cat, Const

__all__ = ["exactly", "ones", "sum_of_two"]

_MOST = 4


def _few(bits):
    bits = Cat(bits)
    if len(bits) > _MOST:
        raise ValueError(
            f"{len(bits)} bits to count at once; up to {_MOST} fit one look-up table, add the counts of groups"
        )
    return bits


def exactly(bits, number):
    """Whether `number` of up to four `bits` are set: one term for every combination."""
    bits = _few(bits)
    if not 0 <= number <= len(bits):
        return Const(0)
    terms = []
    for chosen in combinations(range(len(bits)), number):
        literals = [bit if index in chosen else ~bit for index, bit in enumerate(bits)]
        terms.append(reduce(and_, literals, Const(1)))
    return reduce(or_, terms)


def ones(bits):
    """Number of ones in up to four bits, as three bits: a table, which a simulation can look up."""
    bits = _few(bits)
    patterns = range(1 << len(bits))
    table = sum(pattern.bit_count() << (4 * pattern) for pattern in patterns)
    return Const(table, 4 * len(patterns)).word_select(bits, 4)[:3]


def sum_of_two(first, second):
    """Sum of two numbers of up to two bits, as three bits: a table again."""
    pair = Cat(first, second)
    if max(len(first), len(second)) > _MOST // 2:
        raise ValueError(f"numbers of {len(first)} and {len(second)} bits: up to {_MOST // 2} each fit the table")
    sums = [(number & ((1 << len(first)) - 1)) + (number >> len(first)) for number in range(1 << len(pair))]
    table = sum(value << (4 * number) for number, value in enumerate(sums))
    return Const(table, 4 * len(sums)).word_select(pair, 4)[:3]
