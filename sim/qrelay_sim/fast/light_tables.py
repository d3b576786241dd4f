"""Pattern probabilities of a slot as the fast twin needs them: exact per pair of settings, linear in what drifts.

With f1 and f2 the factors by which a delay error reduces the overlap at the nodes (physics.md section 8.3), and
sqrt(f1 f2) that of the term that carries the phase, every pattern of section 3 has the probability

    c0 + c1 f1 + c2 f2 + b sqrt(f1 f2) cos(delta)

because the overlaps enter the closed form through w alone. Nothing is approximated.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.choice import SETTINGS
from qrelay_sim.click_model import PATTERNS, ClickModel
from qrelay_sim.optics import OpticsSettings
from qrelay_sim.parameters import RelayParameters

__all__ = ["PAIRS", "SOURCES", "Selection", "bin_probabilities", "light_patterns", "pattern_channel", "shift_leak"]

FloatArray = NDArray[np.float64]

SOURCES = 2
"""Source off, source on."""
PAIRS = SETTINGS * SETTINGS
_TERMS = 4
_FINES = 256


def light_patterns(parameters: RelayParameters, photons: Sequence[float]) -> FloatArray:
    """Terms (c0, c1, c2, b) of each light pattern, as [4, source * 64 + setting_a * 8 + setting_b, pattern].

    Parameters
    ----------
    parameters : the relay.
    photons : mean photon number leaving a user, by setting (8 values).
    """
    m1, m2, m12 = parameters.node_overlaps or (parameters.overlap,) * 3
    mu_a = np.asarray(photons, np.float64)[:, None]
    mu_b = np.asarray(photons, np.float64)

    def coefficients(source_on: bool, overlaps: tuple[float, float, float]) -> tuple[FloatArray, FloatArray]:
        changed = dataclasses.replace(parameters, node_overlaps=overlaps)
        return ClickModel(changed, source_on=source_on, dark_counts=False).pattern_coefficients(mu_a, mu_b)

    terms = np.zeros((_TERMS, SOURCES, SETTINGS, SETTINGS, PATTERNS))
    for source_on in (False, True):
        here = terms[:, int(source_on)]
        here[0], _ = coefficients(source_on, (0.0, 0.0, 0.0))
        here[1] = coefficients(source_on, (m1, 0.0, 0.0))[0] - here[0]
        here[2] = coefficients(source_on, (0.0, m2, 0.0))[0] - here[0]
        here[3] = coefficients(source_on, (m1, m2, m12))[1]
    return terms.reshape(_TERMS, SOURCES * PAIRS, PATTERNS)


@dataclass(frozen=True)
class Selection:
    """Patterns that make a candidate an event, with what thinning needs.

    Parameters
    ----------
    patterns : the m patterns, likely ones first.
    terms : (c0, c1, c2, b), as [4, row, m], row as in `light_patterns`.
    bound : no row is an event more often than that, whatever the phase and the delays.
    row_bound : the same for each row.
    """

    patterns: NDArray[np.int64]
    terms: FloatArray
    bound: float
    row_bound: FloatArray

    @classmethod
    def of(
        cls, terms: FloatArray, patterns: Sequence[int], rows: NDArray[np.int64], *, delays_drift: bool
    ) -> "Selection":
        """Select `patterns` of `terms`; `rows` are those that can occur. Without delay drift c1 and c2 join c0."""
        terms = terms.copy()
        if not delays_drift:
            terms[0] += terms[1] + terms[2]
            terms[1:3] = 0
        weight = terms[0][rows][:, list(patterns)].sum(axis=0) if len(rows) else np.zeros(len(patterns))
        ordered = [patterns[k] for k in np.argsort(-weight, kind="stable")]
        chosen = np.ascontiguousarray(terms[:, :, ordered])
        sums = chosen.sum(axis=2)
        # The phase moves events between patterns: what it adds to their sum is nearly nothing.
        row_bound = sums[0] + np.maximum(sums[1], 0) + np.maximum(sums[2], 0) + np.abs(sums[3])
        bound = float(row_bound[rows].max(initial=0.0))
        # A little more than the largest sum, so that rounding never makes a probability exceed the bound.
        return cls(np.array(ordered, np.int64), chosen, min(1.0, bound * (1 + 1e-9)), row_bound * (1 + 1e-9))


def bin_probabilities(settings: OpticsSettings) -> FloatArray:
    """Probability of each bin of the detector PHY for an edge that light made, its place folded into one slot."""
    slot_ps = 1e12 / settings.parameters.slot_rate_hz
    jitter, tail = (ps / slot_ps * _FINES for ps in (settings.jitter_ps, settings.tail_ps))
    centre = settings.pulse_fine + 0.5
    bins = settings.fine_bins
    reach = math.ceil((abs(centre) + 10 * jitter + 40 * tail) / _FINES) + 1
    edges = np.arange(-reach * bins, reach * bins + 1) * (_FINES / bins)
    below = np.array([_edge_before(edge - centre, jitter, tail) for edge in edges])
    folded: FloatArray = np.diff(below).reshape(-1, bins).sum(axis=0)
    return folded


def shift_leak(settings: OpticsSettings) -> tuple[float, float]:
    """Probabilities that an edge falls into an earlier, and into a later slot than its light."""
    slot_ps = 1e12 / settings.parameters.slot_rate_hz
    jitter, tail = (ps / slot_ps * _FINES for ps in (settings.jitter_ps, settings.tail_ps))
    centre = settings.pulse_fine + 0.5
    return _edge_before(-centre, jitter, tail), _edge_after(_FINES - centre, jitter, tail)


def _edge_before(x: float, jitter: float, tail: float) -> float:
    return 1 - _edge_after(x, jitter, tail) if x > 0 else _gauss_exponential(x, jitter, tail)


def _edge_after(x: float, jitter: float, tail: float) -> float:
    """Probability of more than x > 0: accurate far out in the tail."""
    if tail == 0:
        return 0.5 * math.erfc(x / (jitter * math.sqrt(2))) if jitter else float(x <= 0)
    if jitter == 0:
        return math.exp(-max(x, 0.0) / tail)
    gauss = 0.5 * math.erfc(x / (jitter * math.sqrt(2)))
    return min(1.0, gauss + _exponential_part(x, jitter, tail))


def _gauss_exponential(x: float, jitter: float, tail: float) -> float:
    """Probability of at most x: Gaussian plus exponential."""
    if jitter == 0:
        return -math.expm1(-x / tail) if tail and x > 0 else float(x >= 0 and tail == 0)
    gauss = 0.5 * math.erfc(-x / (jitter * math.sqrt(2)))
    return max(0.0, gauss - (_exponential_part(x, jitter, tail) if tail else 0.0))


def _exponential_part(x: float, jitter: float, tail: float) -> float:
    """Integral of the exponential's survival over the Gaussian below x."""
    z = (jitter / tail - x / jitter) / math.sqrt(2)
    exponent = jitter**2 / (2 * tail**2) - x / tail
    if z < 20:
        return 0.5 * math.erfc(z) * math.exp(exponent)
    # Far out both factors leave the range of floats; their product is a Gaussian times the asymptotic series of erfc.
    series = 1 - 1 / (2 * z * z) + 3 / (4 * z**4)
    return math.exp(-((x / jitter) ** 2) / 2) * series / (2 * z * math.sqrt(math.pi))


def pattern_channel(light: Sequence[float], dark: Sequence[float]) -> FloatArray:
    """Matrix [16 recorded, 16 light]: what gates and dark counts make of a light pattern.

    A detector that sees light records it with probability ``light[d]``; one that does not, a dark click with
    ``dark[d]``. A dark click in a slot with light is lost behind it, as in `qrelay_sim.detection`.
    """
    channel = np.ones((1, 1))
    for d in reversed(range(len(light))):
        one = np.array([[1 - dark[d], 1 - light[d]], [dark[d], light[d]]])
        channel = np.kron(channel, one)
    return channel
