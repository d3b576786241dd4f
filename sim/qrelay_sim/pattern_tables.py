"""Tables of pattern probabilities by what meets in a slot: both users' intensities and the source."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qrelay_sim.click_model import PATTERNS, SUCCESS_PATTERNS, ClickModel
from qrelay_sim.parameters import RelayParameters

__all__ = ["CODES", "OTHER_PATTERNS", "UNKNOWN_PAIR", "PatternTables", "pair_codes"]

FloatArray = NDArray[np.float64]

CODES: Final = 8
"""Intensity codes of a user; codes 0 .. len(levels) - 1 are in use."""

UNKNOWN_PAIR: Final = 255
"""Class of a pair of codes that has no levels."""

_SINGLES: Final = (0b0001, 0b0010, 0b0100, 0b1000)
OTHER_PATTERNS: Final = tuple(p for p in range(1, PATTERNS) if p not in _SINGLES + SUCCESS_PATTERNS)
"""Patterns that are neither a single click nor a success."""


def pair_codes(code_a: NDArray[np.uint8], code_b: NDArray[np.uint8], source_on: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``source_on << 6 | code_a << 3 | code_b`` of each slot."""
    pairs = source_on.astype(np.uint8)
    pairs <<= np.uint8(6)
    pairs |= code_a << np.uint8(3)
    pairs |= code_b
    return pairs


class PatternTables:
    """Probabilities of the light's patterns by pair code: ``source << 6 | code_a << 3 | code_b``.

    Pairs of similar click probability form a class that shares one stream of candidate slots, so that a rare bright
    level does not make every dark slot a candidate.
    """

    def __init__(self, parameters: RelayParameters, levels_a: tuple[float, ...], levels_b: tuple[float, ...]) -> None:
        constant = np.zeros((2, CODES, CODES, PATTERNS))
        cosine = np.zeros((2, CODES, CODES, PATTERNS))
        used = np.zeros((2, CODES, CODES), np.bool_)
        used[:, : len(levels_a), : len(levels_b)] = True
        for source_on in (False, True):
            model = ClickModel(parameters, source_on=source_on, dark_counts=False)
            a, b = model.pattern_coefficients(np.array(levels_a)[:, None], np.array(levels_b))
            constant[int(source_on), : len(levels_a), : len(levels_b)] = np.clip(a, 0, 1)
            cosine[int(source_on), : len(levels_a), : len(levels_b)] = b
        self.constant: FloatArray = constant.reshape(-1, PATTERNS)
        self.cosine: FloatArray = cosine.reshape(-1, PATTERNS)
        clicking = self.constant[:, 1:].sum(axis=1)
        # Factor 4 per class: at least a quarter of the candidates click.
        octave = np.floor(-np.log(np.maximum(clicking, 1e-18)) / math.log(4)).astype(np.int64)
        kinds, classes = np.unique(octave[used.ravel()], return_inverse=True)
        self.class_of_pair = np.full(2 * CODES * CODES, UNKNOWN_PAIR, np.uint8)
        self.class_of_pair[used.ravel()] = classes
        self.class_probability = [
            min(1.0, float(clicking[self.class_of_pair == kind].max())) for kind in range(len(kinds))
        ]
        # Borders of a candidate's number: the four single clicks, all successes, all others, nothing.
        singles = np.cumsum(self.constant[:, _SINGLES], axis=1)
        success = singles[:, 3] + self.constant[:, SUCCESS_PATTERNS].sum(axis=1)
        other = success + self.constant[:, OTHER_PATTERNS].sum(axis=1)
        self.borders = np.ascontiguousarray(np.column_stack((singles, success, other)).T)
