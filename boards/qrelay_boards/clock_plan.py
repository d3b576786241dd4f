"""The clocks of a board as exact rationals: from a reference to the slot grid by one ECP5 PLL.

The PLL (EHXPLLL) multiplies the reference to its oscillator (VCO), which is divided to the edge clock (one period per
slot, two bins per period) and to the word clock (one period per four slots). The 2:1 divider of the edge clock
(CLKDIVF) gives the clock of the pins' gearboxes.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from qrelay.protocol.units import DEFAULT_SLOT_RATE_HZ, SLOTS_PER_WORD

__all__ = ["EXTERNAL_ERROR_LIMIT_PPB", "FREE_RUNNING_ERROR_LIMIT_PPB", "ClockPlan", "ClockPlanError", "solve"]

VCO_HZ = (400_000_000, 800_000_000)
"""Range of the VCO, FPGA-DS-02012 (ECP5 family data sheet), sysCLOCK PLL timing."""
REFERENCE_HZ = (8_000_000, 400_000_000)
"""Range of the PLL's input, same table."""
PHASE_DETECTOR_MINIMUM_HZ = 3_125_000
"""Lowest rate at the phase detector, the limit that `ecppll` of the open tools keeps."""
EDGE_CLOCK_MAXIMUM_HZ = 312_000_000
"""x2 gearing of the -6 speed grade, same data sheet; not checked by place and route."""
INPUT_DIVIDERS = range(1, 129)
FEEDBACK_DIVIDERS = range(1, 81)
OUTPUT_DIVIDERS = range(1, 129)

EXTERNAL_ERROR_LIMIT_PPB = 0
"""An external reference is there so that stations share one slot grid: it must give it exactly."""
FREE_RUNNING_ERROR_LIMIT_PPB = 1_000_000
"""1000 ppm: a free-running board is for tests alone on a table."""


class ClockPlanError(ValueError):
    """No plan keeps the limits; the message names the value, the limit and the remedy."""


@dataclass(frozen=True)
class ClockPlan:
    """PLL setting of one board and what comes out of it. Frequencies in Hz, exact.

    Parameters
    ----------
    reference_hz : Fraction
        Clock at the PLL's input.
    slot_rate_hz : Fraction
        Slot rate that is wanted.
    external : bool
        The reference comes from outside and is shared by stations; otherwise the board runs free.
    reference_divider, feedback_divider, feedback_output_divider : int
        CLKI_DIV, CLKFB_DIV and the divider of the output that is fed back.
    vco_per_slot : int
        VCO periods per slot, also the divider of the edge clock.
    """

    reference_hz: Fraction
    slot_rate_hz: Fraction
    external: bool
    reference_divider: int
    feedback_divider: int
    feedback_output_divider: int
    vco_per_slot: int

    @property
    def vco_hz(self) -> Fraction:
        """Rate of the PLL's oscillator."""
        return self.reference_hz * self.feedback_divider * self.feedback_output_divider / self.reference_divider

    @property
    def phase_detector_hz(self) -> Fraction:
        """Rate at which the PLL compares reference and feedback."""
        return self.reference_hz / self.reference_divider

    @property
    def edge_clock_hz(self) -> Fraction:
        """Clock of the pins: one period per slot."""
        return self.vco_hz / self.vco_per_slot

    @property
    def gear_clock_hz(self) -> Fraction:
        """Clock of the gearboxes' parallel side: two periods per word."""
        return self.edge_clock_hz / 2

    @property
    def word_clock_hz(self) -> Fraction:
        """Clock of the fabric: one period per word."""
        return self.edge_clock_hz / SLOTS_PER_WORD

    @property
    def word_divider(self) -> int:
        """VCO periods per word."""
        return self.vco_per_slot * SLOTS_PER_WORD

    @property
    def word_is_feedback(self) -> bool:
        """The word clock is the feedback clock, so its edges stand still against those of the reference."""
        return self.feedback_output_divider == self.word_divider

    @property
    def error_ppb(self) -> int:
        """Deviation of the slot rate from the wanted one in 1e-9, rounded; exact plans give 0."""
        return round((self.edge_clock_hz / self.slot_rate_hz - 1) * 10**9)

    def check(self, error_limit_ppb: int) -> None:
        """Raise ClockPlanError where a rate is out of the device's range or the error exceeds `error_limit_ppb`."""
        if not VCO_HZ[0] <= self.vco_hz <= VCO_HZ[1]:
            raise ClockPlanError(
                f"VCO at {_mhz(self.vco_hz)}: the ECP5 PLL runs from {_mhz(VCO_HZ[0])} to {_mhz(VCO_HZ[1])}; change "
                "vco_per_slot or the feedback dividers"
            )
        if not REFERENCE_HZ[0] <= self.reference_hz <= REFERENCE_HZ[1]:
            raise ClockPlanError(
                f"reference {_mhz(self.reference_hz)}: the PLL input takes {_mhz(REFERENCE_HZ[0])} to "
                f"{_mhz(REFERENCE_HZ[1])}; divide or multiply the reference before the board"
            )
        if self.phase_detector_hz < PHASE_DETECTOR_MINIMUM_HZ:
            raise ClockPlanError(
                f"phase detector at {_mhz(self.phase_detector_hz)}: at least {_mhz(PHASE_DETECTOR_MINIMUM_HZ)} is "
                "needed; use a smaller reference divider"
            )
        if self.edge_clock_hz > EDGE_CLOCK_MAXIMUM_HZ:
            raise ClockPlanError(
                f"edge clock {_mhz(self.edge_clock_hz)}: x2 gearing of the -6 grade ends at "
                f"{_mhz(EDGE_CLOCK_MAXIMUM_HZ)}; lower the slot rate"
            )
        if abs(self.edge_clock_hz / self.slot_rate_hz - 1) * 10**9 > error_limit_ppb:
            exact = ", ".join(_mhz(self.slot_rate_hz / n) for n in (2, 4, 8, 10))
            raise ClockPlanError(
                f"slot rate {_mhz(self.edge_clock_hz)} from a reference of {_mhz(self.reference_hz)} misses "
                f"{_mhz(self.slot_rate_hz)} by {self.error_ppb / 1000:+.3f} ppm; the limit is "
                f"{error_limit_ppb / 1000:g} ppm. Use a reference that divides the slot rate ({exact}), or build "
                "free-running for tests"
            )

    def facts(self) -> dict[str, Any]:
        """The plan as plain values, for manifests."""
        return {
            "reference_hz": str(self.reference_hz),
            "external": self.external,
            "slot_rate_hz": str(self.slot_rate_hz),
            "vco_hz": str(self.vco_hz),
            "edge_clock_hz": str(self.edge_clock_hz),
            "gear_clock_hz": str(self.gear_clock_hz),
            "word_clock_hz": str(self.word_clock_hz),
            "error_ppb": self.error_ppb,
            "word_is_feedback": self.word_is_feedback,
            "CLKI_DIV": self.reference_divider,
            "CLKFB_DIV": self.feedback_divider,
            "feedback_output_divider": self.feedback_output_divider,
        }

    def __str__(self) -> str:
        kind = "external reference" if self.external else "internal clock, not for joint operation"
        error = "exact" if self.edge_clock_hz == self.slot_rate_hz else f"{self.error_ppb / 1000:+.3f} ppm"
        feedback = "word clock" if self.word_is_feedback else f"VCO / {self.feedback_output_divider}"
        return "\n".join(
            (
                f"clock plan: {kind}, {error}",
                f"  reference  {_mhz(self.reference_hz):>16}  / {self.reference_divider} "
                f"-> phase detector {_mhz(self.phase_detector_hz)}, feedback {feedback} / {self.feedback_divider}",
                f"  VCO        {_mhz(self.vco_hz):>16}",
                f"  edge clock {_mhz(self.edge_clock_hz):>16}  VCO / {self.vco_per_slot}, one period per slot",
                f"  gear clock {_mhz(self.gear_clock_hz):>16}  edge clock / 2",
                f"  word clock {_mhz(self.word_clock_hz):>16}  VCO / {self.word_divider}, four slots per period",
            )
        )


def solve(
    reference_hz: Fraction | int,
    *,
    external: bool,
    slot_rate_hz: Fraction = DEFAULT_SLOT_RATE_HZ,
    error_limit_ppb: int | None = None,
) -> ClockPlan:
    """Plan with the smallest error; of equal ones, that with the word clock as feedback and the fastest phase detector.

    Raises ClockPlanError where no plan keeps the device's ranges and `error_limit_ppb` (default: exact for an external
    reference, 1000 ppm for a free-running board).
    """
    reference_hz = Fraction(reference_hz)
    if error_limit_ppb is None:
        error_limit_ppb = EXTERNAL_ERROR_LIMIT_PPB if external else FREE_RUNNING_ERROR_LIMIT_PPB
    best: tuple[tuple[Fraction, bool, int, int], ClockPlan] | None = None
    for vco_per_slot in OUTPUT_DIVIDERS:
        wanted_vco = slot_rate_hz * vco_per_slot
        if vco_per_slot * SLOTS_PER_WORD not in OUTPUT_DIVIDERS or wanted_vco > VCO_HZ[1] * Fraction(101, 100):
            break
        for divider in INPUT_DIVIDERS:
            if reference_hz / divider < PHASE_DETECTOR_MINIMUM_HZ:
                break
            multiplier = wanted_vco * divider / reference_hz
            for total in {int(multiplier), int(multiplier) + 1}:
                split = _split(total, vco_per_slot * SLOTS_PER_WORD)
                vco = reference_hz * total / divider
                if split is None or not VCO_HZ[0] <= vco <= VCO_HZ[1]:
                    continue
                plan = ClockPlan(reference_hz, slot_rate_hz, external, divider, *split, vco_per_slot)
                rank = (abs(vco / wanted_vco - 1), not plan.word_is_feedback, divider, -vco_per_slot)
                if best is None or rank < best[0]:
                    best = rank, plan
    if best is None:
        raise ClockPlanError(
            f"no VCO from {_mhz(VCO_HZ[0])} to {_mhz(VCO_HZ[1])} is a whole multiple of the slot rate "
            f"{_mhz(slot_rate_hz)} that a reference of {_mhz(reference_hz)} comes near to; change the slot rate or "
            "the reference"
        )
    best[1].check(error_limit_ppb)
    return best[1]


def _split(total: int, word_divider: int) -> tuple[int, int] | None:
    """Feedback divider and divider of the output fed back, whose product is `total`; the word clock if it can be."""
    candidates = [word_divider, *(d for d in reversed(OUTPUT_DIVIDERS) if d != word_divider)]
    for output_divider in candidates:
        if total and total % output_divider == 0 and total // output_divider in FEEDBACK_DIVIDERS:
            return total // output_divider, output_divider
    return None


def _mhz(hz: Fraction | int) -> str:
    return f"{float(hz) / 1e6:.10g} MHz"
