"""Counting a few bits in look-up tables.

A sum of single bits would become a chain of carry cells, each slower than a whole look-up table.
"""

from functools import reduce
from itertools import combinations
from operator import and_, or_, xor

from amaranth.hdl import Cat, Const

__all__ = ["exactly", "ones"]


def exactly(bits, number):
    """Whether `number` of `bits` are set. The bits are few: every combination is a term."""
    bits = list(bits)
    if not 0 <= number <= len(bits):
        return Const(0)
    terms = []
    for chosen in combinations(range(len(bits)), number):
        literals = [bit if index in chosen else ~bit for index, bit in enumerate(bits)]
        terms.append(reduce(and_, literals, Const(1)))
    return reduce(or_, terms)


def ones(bits):
    """Number of ones in up to four bits, as three bits."""
    bits = list(bits)
    if len(bits) > 4:
        raise ValueError(f"{len(bits)} bits to count at once; up to 4 fit one look-up table, add the counts of groups")
    two_or_three = exactly(bits, 2) | exactly(bits, 3)
    return Cat(reduce(xor, bits, Const(0)), two_or_three, exactly(bits, 4))
