"""ULX3S with an ECP5-85F: the reference board. Pins and rules; the design itself is in `ulx3s_top`, imported to build.

All fast pins are on the right edge of the die, header pairs 14 to 21, so that one edge clock serves them. The reference
takes the pin of that header that leads straight to a PLL.
"""

from fractions import Fraction

from qrelay.protocol.identity import Capability, Entropy, Phy
from qrelay.protocol.registers import DETECTORS, LINES

from .board import Board, Crossing
from .clock_plan import ClockPlan

__all__ = ["BAUD", "HEADER", "INPUTS", "OSCILLATOR_HZ", "OUTPUTS", "REFERENCE_PIN", "ULX3S_85F"]

BAUD = 3_000_000
"""Highest rate of the board's FT231X."""
OSCILLATOR_HZ = Fraction(25_000_000)
REFERENCE_HZ = Fraction(76_130_000)

REFERENCE_PIN = "21+"
HEADER = {
    **{f"line_{i}": f"{14 + i // 2}{'+-'[i % 2]}" for i in range(LINES)},
    **{f"detector_{i}": f"{18 + i // 2}{'+-'[i % 2]}" for i in range(DETECTORS)},
    "probe": "20+",
    "start_out": "20-",
    # The pin beside the reference is one that is quiet during a run.
    "start_in": "21-",
}
"""Fast pins by use: names on the headers J1 and J2."""
OUTPUTS = (*(f"line_{i}" for i in range(LINES)), "start_out", "probe")
INPUTS = (*(f"detector_{i}" for i in range(DETECTORS)), "start_in")


def _platform():
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform()


def _top(plan: ClockPlan, station):
    from .ulx3s_top import Ulx3sTop

    return Ulx3sTop(plan, station)


def _facts(plan: ClockPlan):
    from qrelay_gateware.edge_to_click import EdgeToClick
    from qrelay_gateware.station import BoardFacts

    from .ecp5_x2 import PIN_LATENCY

    capabilities = Capability.SENDER | Capability.RECEIVER
    if plan.external:
        capabilities |= Capability.EXTERNAL_REFERENCE
    return BoardFacts(
        board="ulx3s-85f",
        phy=Phy.ECP5_X2,
        entropy=Entropy.HOST,
        capabilities=capabilities,
        pin_latency=PIN_LATENCY + EdgeToClick.latency,
        link_baud=BAUD,
        slot_rate_hz=plan.slot_rate_hz,
        clock_error_ppb=plan.error_ppb,
    )


ULX3S_85F = Board(
    name="ulx3s-85f",
    description="Radiona ULX3S with LFE5U-85F-6: 8 lines, 4 detectors, x2 pins, UART 3 Mbaud",
    platform=_platform,
    top=_top,
    facts=_facts,
    device_options=("--85k", "--package", "CABGA381", "--speed", "6"),
    reference_hz=REFERENCE_HZ,
    oscillator_hz=OSCILLATOR_HZ,
    loader_board="ulx3s",
    serial_port="FT231X of the board's USB connector US1",
    pads=(*OUTPUTS, *INPUTS),
    clock_sources={
        "word_clock": ("EHXPLLL", "CLKOS"),
        "edge_clock": ("ECLKSYNCB", "ECLKO"),
        "gear_clock": ("CLKDIVF", "CDIVX"),
        "osc_clock": ("pad", "clk25_0__io"),
        "reference_clock": ("pad", "reference_0__io"),
    },
    # On the clock network the reference would leave its own way to the PLL and take one through the fabric. The
    # six flip-flops of the monitor, its only other load, do without.
    external_synthesis="select -set reference t:EHXPLLL %ci1:+[CLKI] w:* %i; setattr -set noglobal 1 @reference",
    reference_arc=r"REFCLK[01] \w*JREFCLK[01]_3",
    minimum_cells={
        "ODDRX2F": len(OUTPUTS),
        "IDDRX2F": len(INPUTS),
        "EHXPLLL": 1,
        "ECLKSYNCB": 1,
        "CLKDIVF": 1,
        # Keystream S-boxes, event FIFOs, table of the modulator, audit.
        "DP16KD": 20,
    },
    crossings=(
        # Words are captured half a word (6.57 ns) after they change; the rest is left for unmodelled clock skew.
        Crossing("word_clock", "gear_clock", 4.9, "words and word phase to the gearboxes, captured half a word later"),
        Crossing("gear_clock", "word_clock", 4.9, "words from the gearboxes, held for a word"),
        Crossing("osc_clock", "gear_clock", 20.0, "reset and phase following, both while the clock stands or settles"),
        Crossing("gear_clock", "osc_clock", 20.0, "verdicts on the phase, synchronised"),
        Crossing("osc_clock", "word_clock", 20.0, "status bits and reset, synchronised"),
        Crossing("word_clock", "osc_clock", 20.0, "acknowledgement of status bits, synchronised"),
        Crossing("reference_clock", "osc_clock", 20.0, "divided reference, synchronised"),
        Crossing("async", "osc_clock", 20.0, "lock of the PLL, synchronised"),
        Crossing("async", "word_clock", 20.0, "receive line of the UART, synchronised"),
        Crossing("osc_clock", "async", 20.0, "lamps, STOP and reset of clock cells"),
        Crossing("word_clock", "async", 20.0, "lamps, transmit line of the UART"),
    ),
)
