"""Delay elements in the pins, as FPGA-TN-02035 describes DELAYF: they count steps between two ends."""

from qrelay.protocol.registers import FINE_DELAY_TAPS

__all__ = ["DelayElements"]


class DelayElements:
    """Elements that move by one tap at each rising edge of their bit of `move`; what is asked beyond an end is lost.

    Parameters
    ----------
    lines : int
        Number of elements. `taps` holds the taps of each; they start at 0.
    """

    def __init__(self, lines: int) -> None:
        self.taps = [0] * lines
        self._move = 0

    def word(self, load_n: int, direction: int, move: int) -> None:
        """Take the controls of one word: `load_n` low returns to 0 taps, `direction` 1 takes taps away."""
        rising = move & ~self._move
        self._move = move
        for line in range(len(self.taps)):
            if not load_n:
                self.taps[line] = 0
            elif rising >> line & 1:
                self.taps[line] = min(max(self.taps[line] + (-1 if direction else 1), 0), FINE_DELAY_TAPS - 1)
