"""Asymptotic rates of a run, with the parity fraction of the model and with that of the decoys (physics.md 4.2)."""

import math
from dataclasses import dataclass
from typing import Any

from .decoy_estimate import ParityEstimate
from .estimate import Ratio, binary_entropy
from .protocol.choice import PHASES

__all__ = ["KeyCounts"]

_NOTHING = Ratio(math.nan, math.nan)
_NO_ESTIMATE = "no decoy estimate: it needs successes with equal slices of the key and the weaker decoy setting"
_UNKNOWN_STD = 0.5
"""From this standard error on the decoy estimate says nothing: beyond one half there is no key anyway."""
_SIGMAS = 3


@dataclass(frozen=True)
class KeyCounts:
    """What the key pair measured, from which a parity fraction makes a rate."""

    gain: Ratio
    qber: Ratio
    sifted: int
    efficiency: float
    """Of error correction, f."""
    without_offset: str | None
    """Why the bits are sifted at no offset that was seen, which leaves no key; None if they are."""

    def results(self, even_model: float, parity: ParityEstimate | None, drawn: float) -> dict[str, Any]:
        """Both rates as plain values; `drawn` is the probability of a key-key slot."""
        model, decoy = self._rate(Ratio(even_model, 0.0)), self._decoy(parity)
        return {
            "rate_bit_per_slot": max(0.0, model.value),
            "rate_bit_per_slot_std": model.std,
            "rate_bit_per_slot_unclipped": model.value,
            "rate_bit_per_slot_as_drawn": max(0.0, model.value * drawn),
            "rate_zero_because": self._why_zero(even_model),
            "rate_note": "asymptotic P1 rate of a key-key slot: measured gain and QBER, parity fraction of the model",
            "rate_bit_per_slot_decoy": max(0.0, decoy.value),
            "rate_bit_per_slot_decoy_std": decoy.std,
            "rate_bit_per_slot_decoy_unclipped": decoy.value,
            "rate_decoy_zero_because": self._why_decoy_zero(parity),
        }

    def warnings(self, even_model: float, parity: ParityEstimate | None) -> list[str]:
        """Lines for the user where the rates are not to be trusted."""
        if self.without_offset:
            return [f"{self.without_offset}: the sifted bits are no key"]
        model, decoy = self._rate(Ratio(even_model, 0.0)), self._decoy(parity)
        trusting = "the rate rests on the parity fraction of the model"
        if parity is not None and parity.even_fraction_std >= _UNKNOWN_STD:
            return [f"{_too_few(parity)}; {trusting}"]
        if not model.value > _SIGMAS * model.std:
            return []
        if math.isnan(decoy.value):
            return [f"{_NO_ESTIMATE}; {trusting}"]
        if decoy.value <= _SIGMAS * decoy.std:
            compared = "not above zero beyond"
        elif model.value - decoy.value > _SIGMAS * decoy.std:
            compared = "below that by more than"
        else:
            return []
        return [
            f"the rate is {model.value:.3g} bit per slot with the parity fraction of the model; with that of the decoy "
            f"estimate, which alone needs no trust, it is {decoy.value:.3g} +- {decoy.std:.2g}, {compared} {_SIGMAS} "
            "standard errors"
        ]

    def _rate(self, even: Ratio) -> Ratio:
        """R = (2/D) Q [1 - h(q_even) - f h(E)], may be negative; error from Q, E and q_even."""
        if self.without_offset or math.isnan(self.gain.value) or math.isnan(self.qber.value):
            return _NOTHING
        scale = 2 / PHASES
        left = _left_by_parity(even.value)
        content = left - self.efficiency * binary_entropy(self.qber.value)
        clipped = min(max(self.qber.value, 1e-12), 1 - 1e-12)
        slope = self.efficiency * math.log2((1 - clipped) / clipped)
        # The entropy has no slope at 0 and none beyond one half: what the ends of the error bar make of it.
        ends = (_left_by_parity(even.value - even.std), _left_by_parity(even.value + even.std))
        spread = (
            self.gain.std * content,
            self.gain.value * slope * self.qber.std,
            self.gain.value * max(abs(end - left) for end in ends),
        )
        return Ratio(scale * self.gain.value * content, scale * math.hypot(*spread))

    def _decoy(self, parity: ParityEstimate | None) -> Ratio:
        if parity is None or parity.even_fraction_std >= _UNKNOWN_STD:
            return _NOTHING
        return self._rate(Ratio(parity.even_fraction, parity.even_fraction_std))

    def _why_zero(self, even: float) -> str | None:
        """Why the rate is zero, in words; None if it is not."""
        if not self.sifted:
            return "no bit was sifted"
        if self.without_offset:
            return self.without_offset
        left = _left_by_parity(even)
        correction = self.efficiency * binary_entropy(self.qber.value)
        if correction < left:
            return None
        return (
            f"correcting a QBER of {self.qber.value:.1%} costs {correction:.3f} bit per sifted bit, "
            f"and the parity fraction {even:.3f} leaves {left:.3f} bit"
        )

    def _why_decoy_zero(self, parity: ParityEstimate | None) -> str | None:
        if self.sifted and not self.without_offset:
            if parity is None:
                return _NO_ESTIMATE
            if parity.even_fraction_std >= _UNKNOWN_STD:
                return _too_few(parity)
        return self._why_zero(parity.even_fraction if parity else 1.0)


def _too_few(parity: ParityEstimate) -> str:
    return (
        "not enough counts for the decoy estimate: the standard error of its even-parity fraction is "
        f"{parity.even_fraction_std:.2g}"
    )


def _left_by_parity(even: float) -> float:
    """Bits of each sifted bit that an adversary does not know, ``1 - h(q_even)``."""
    # Beyond one half the parity tells nothing more.
    return 1 - binary_entropy(even) if even < 0.5 else 0.0
