"""Independent check of the click model: photon number states sent through beam splitters, without generating functions.

At each node the user's mode and the dot's matching mode meet on a 50:50 splitter; matched light is one Fock space per
node, truncated at `CUTOFF` photons per mode. Photons of the dot in other modes (the part of the first photon that does
not match, the second photon) do not interfere: they choose a detector at random and are combined afterwards.
"""

import itertools
import math
from collections import defaultdict

import numpy as np

CUTOFF = 9


def splitter_amplitude(n, m, p, q):
    """<p, q| U |n, m> of the 50:50 splitter a -> (c + d)/sqrt2, b -> (c - d)/sqrt2, from the operators' expansion."""
    if n + m != p + q:
        return 0.0
    total = 0.0
    for k in range(n + 1):  # k of the n photons go to c, so p - k of the m photons do
        rest = p - k
        if 0 <= rest <= m:
            total += math.comb(n, k) * math.comb(m, rest) * (-1) ** (m - rest)
    norm = math.sqrt(math.factorial(p) * math.factorial(q) / (math.factorial(n) * math.factorial(m)))
    return total * norm / math.sqrt(2) ** (n + m)


def node_amplitudes(user, dot_photons):
    """Output amplitudes {(p, q): value} of one node for a user's number amplitudes and 0 or 1 matched dot photon."""
    out = defaultdict(complex)
    for n, amplitude in enumerate(user):
        for p in range(n + dot_photons + 1):
            q = n + dot_photons - p
            out[p, q] += amplitude * splitter_amplitude(n, dot_photons, p, q)
    return out


def coherent(mu, phase):
    n = np.arange(CUTOFF + 1)
    return np.exp(-mu / 2) * np.sqrt(mu) ** n * np.exp(1j * phase * n) / np.sqrt([float(math.factorial(k)) for k in n])


def pattern_of(p, q, r, s):
    return (p > 0) | (q > 0) << 1 | (r > 0) << 2 | (s > 0) << 3


def or_combine(first, second):
    """Distribution of the bitwise or of two independent patterns."""
    out = np.zeros(16)
    for x, y in itertools.product(range(16), repeat=2):
        out[x | y] += first[x] * second[y]
    return out


def one_distinguishable_photon(s_left, s_right):
    out = np.zeros(16)
    out[1] = out[2] = s_left / 4
    out[4] = out[8] = s_right / 4
    out[0] = 1 - out.sum()
    return out


def matched_patterns(joint):
    """Pattern distribution of a sum over (amplitude, node-1 state, node-2 state) products, node states as above."""
    amplitudes = defaultdict(complex)
    for weight, first, second in joint:
        for (p, q), x in first.items():
            for (r, s), y in second.items():
                amplitudes[p, q, r, s] += weight * x * y
    out = np.zeros(16)
    for numbers, value in amplitudes.items():
        out[pattern_of(*numbers)] += abs(value) ** 2
    return out


def pattern_distribution(light, s_left, s_right, source, overlaps, p_dark):
    """16 pattern probabilities.

    ``light`` is a list of (weight, user-A amplitudes, user-B amplitudes): the users' joint state after loss, a sum of
    products. ``source`` is (p0, p1, p2), ``overlaps`` (M1, M2, M12).
    """
    m1, m2, m12 = overlaps
    bare = [(w, node_amplitudes(a, 0), node_amplitudes(b, 0)) for w, a, b in light]
    without = matched_patterns(bare)
    # One photon at S: matched part (amplitudes at both nodes), unmatched part, lost part. A mixture of two pure
    # phases carries M12 below sqrt(M1 M2).
    coherence = m12 / math.sqrt(m1 * m2) if m1 * m2 else 0.0
    matched = np.zeros(16)
    for sign, share in ((1, (1 + coherence) / 2), (-1, (1 - coherence) / 2)):
        terms = []
        for w, a, b in light:
            terms.append((w * math.sqrt(s_left * m1 / 2), node_amplitudes(a, 1), node_amplitudes(b, 0)))
            terms.append((sign * w * math.sqrt(s_right * m2 / 2), node_amplitudes(a, 0), node_amplitudes(b, 1)))
        matched += share * matched_patterns(terms)
    unmatched = np.zeros(16)
    unmatched[1] = unmatched[2] = s_left * (1 - m1) / 4
    unmatched[4] = unmatched[8] = s_right * (1 - m2) / 4
    unmatched[0] = 1 - (s_left + s_right) / 2
    with_one = matched + or_combine(without, unmatched)
    p0, p1, p2 = source
    both = or_combine(with_one, one_distinguishable_photon(s_left, s_right))
    mixed = p0 * without + p1 * with_one + p2 * both
    dark = np.array([p_dark ** k.bit_count() * (1 - p_dark) ** (4 - k.bit_count()) for k in range(16)])
    return or_combine(mixed, dark)


def shared_number_state(photons, ratio_a, phase_a, phase_b, survival):
    """Users' light of `photons` photons in the one mode cos|A> + sin|B>, after equal loss, as a list of mixtures.

    Returns [(probability, light)], each ``light`` as `pattern_distribution` wants it.
    """
    out = []
    for left in range(photons + 1):
        probability = math.comb(photons, left) * survival**left * (1 - survival) ** (photons - left)
        light = []
        for k in range(left + 1):
            weight = math.sqrt(math.comb(left, k) * ratio_a**k * (1 - ratio_a) ** (left - k))
            a, b = np.zeros(left + 1, complex), np.zeros(left + 1, complex)
            a[k] = np.exp(1j * phase_a * k)
            b[left - k] = np.exp(1j * phase_b * (left - k))
            light.append((weight, a, b))
        out.append((probability, light))
    return out
