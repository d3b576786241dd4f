"""Which click patterns count as a success, and what Bob does with his bit then: the success tables of the protocols.

A table holds two weights per pattern, ``[patterns, 2]``: the probability that the pattern is announced as "keep" and as
"flip". At phase difference zero "keep" is a right bit and "flip" a wrong one.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["DOUBLE_CLICK_RULES", "FLIP", "KEEP", "relay_table", "single_node_table"]

FloatArray = NDArray[np.float64]

KEEP: Final = 0
FLIP: Final = 1

DOUBLE_CLICK_RULES: Final = ("discard", "random")
"""A node with two clicks announces nothing, or one of its detectors at random."""

_NODE = {
    "discard": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
    "random": np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
}
"""What one node announces, [none, plus, minus, both] -> (plus, minus)."""


def single_node_table(double_clicks: str = "discard") -> FloatArray:
    """One node with two detectors: plus keeps, minus flips. [4, 2]."""
    return _NODE[double_clicks].copy()


def relay_table(double_clicks: str = "discard") -> FloatArray:
    """Two nodes (physics.md section 2, rules 4 and 6): equal signs keep, opposite signs flip. [16, 2]."""
    node = _NODE[double_clicks]
    plus, minus = node[:, 0], node[:, 1]
    # Pattern bits 0, 1 belong to M1 and bits 2, 3 to M2: M2 varies slowest.
    same = np.outer(plus, plus) + np.outer(minus, minus)
    opposite = np.outer(minus, plus) + np.outer(plus, minus)
    return np.stack([same.ravel(), opposite.ravel()], axis=-1)
