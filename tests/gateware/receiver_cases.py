"""Cases that run both in Amaranth's simulator and, by `bench_cases`, on the exported Verilog."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from amaranth.lib import data

from qrelay_gateware.layouts import Hit, Tick

__all__ = ["Case", "assert_columns", "group_by_word", "hit_bits", "random_hits", "split_bits", "tick_bits"]

_HIT = data.Layout.cast(Hit)
_TICK = data.Layout.cast(Tick)


@dataclass(frozen=True)
class Case:
    """Input columns (one integer per word and port), ports to read, and a check of what they gave."""

    name: str
    inputs: dict
    outputs: tuple
    check: Callable[[dict], None]

    def __str__(self):
        return self.name


def random_hits(random, words, probability):
    """Random hits of one detector: valid and fine by slot."""
    valid = random.random(4 * words) < probability
    return valid, np.where(valid, random.integers(0, 256, 4 * words), 0).astype(np.uint8)


def hit_bits(valid, fine):
    """Column of a port of shape WordHits; invalid hits carry their fine too."""
    lane = np.asarray(valid, np.int64) << _HIT["valid"].offset | np.asarray(fine, np.int64) << _HIT["fine"].offset
    return group_by_word(lane, _HIT.size)


def group_by_word(lanes, width):
    """One integer per word from one of `width` bits per slot."""
    by_word = np.asarray(lanes, np.int64).reshape(-1, 4)
    return (by_word << width * np.arange(4)).sum(axis=1)


def split_bits(column, width, count):
    """[words, count] fields of `width` bits from one integer per word."""
    mask = (1 << width) - 1
    return np.array([[int(bits) >> width * k & mask for k in range(count)] for bits in column], np.int64)


def tick_bits(**fields):
    """Column of a port of shape Tick from columns of its fields; others are 0."""
    words = len(next(iter(fields.values())))
    bits = [0] * words
    for name, column in fields.items():
        for word, value in enumerate(column):
            bits[word] |= int(value) << _TICK[name].offset
    return bits


def assert_columns(seen, expected, latency, name):
    """`seen` equals `expected` that many words later; what comes before is 0."""
    seen = np.asarray(seen)
    np.testing.assert_array_equal(seen[:latency], np.zeros_like(seen[:latency]), f"{name} before its latency")
    np.testing.assert_array_equal(seen[latency:], np.asarray(expected)[: len(seen) - latency], name)
