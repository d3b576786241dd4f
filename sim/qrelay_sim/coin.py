"""Models of noise sources that give one bit per sample: fair or biased, with or without memory, or dead."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BiasedCoin"]


@dataclass(frozen=True)
class BiasedCoin:
    """A coin that shows 1 with probability `ones`, and may repeat its last sample instead of being thrown.

    Parameters
    ----------
    ones : probability of a 1 in a throw.
    repeat : probability that a sample is that before it, as of an oscillator that is sampled too often. 1 is a source
        that is stuck after its first sample.
    """

    ones: float = 0.5
    repeat: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("ones", self.ones), ("repeat", self.repeat)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} {value:g} is no probability; give 0 to 1")

    @property
    def min_entropy(self) -> float:
        """Min-entropy per sample, given all samples before it, in bit."""
        likeliest = self.repeat + (1.0 - self.repeat) * max(self.ones, 1.0 - self.ones)
        return float(-np.log2(likeliest)) + 0.0

    def samples(self, count: int, random: np.random.Generator) -> NDArray[np.uint8]:
        """The next `count` samples of a source that begins with a throw, shape (count,)."""
        thrown = (random.random(count) < self.ones).astype(np.uint8)
        if not self.repeat or not count:
            return thrown
        fresh = random.random(count) >= self.repeat
        fresh[0] = True
        return thrown[np.maximum.accumulate(np.where(fresh, np.arange(count), 0))]
