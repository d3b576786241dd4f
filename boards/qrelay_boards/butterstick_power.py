"""Supplies of the ButterStick's SYZYGY ports, which the FPGA sets by pulse width.

A buck converter holds its feedback node at 0.6 V. Into that node flow the current from the output through 53.6 kohm and
that of the filtered pulse-width output through 68 kohm; out of it, through 13 kohm, their sum. So the output falls as
the pulse width rises. Without pulses being made and the converters enabled the ports have no supply at all. Values of
the resistors: description of the board in `amaranth_boards.butterstick`.
"""

from fractions import Fraction

from amaranth.build import Attrs, Pins, Resource
from amaranth.hdl import Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import Out

__all__ = ["PortSupplies", "add_power", "pulse_volts"]

FEEDBACK_V = Fraction(6, 10)
INJECT_OHM = 68_000
FEEDBACK_OHM = 53_600
GROUND_OHM = 13_000
PIN_V = Fraction(33, 10)
"""High level of the pins that make the pulses."""
FILTER_S = Fraction(INJECT_OHM, 10**7)
"""Time constant of the filter: 68 kohm, 100 nF."""
START_S = Fraction(1, 1000)
"""Start of the converters."""

PORT_V = (Fraction(33, 10), Fraction(33, 10), Fraction(33, 10))
"""SYZYGY port 0, port 1, and the ULPI bank with the transceiver port."""


def pulse_volts(output_volts: Fraction) -> Fraction:
    """Mean of the pulses that makes a supply of `output_volts`. Raises ValueError where none does."""
    through_feedback = (output_volts - FEEDBACK_V) / FEEDBACK_OHM
    injected = FEEDBACK_V / GROUND_OHM - through_feedback
    mean = FEEDBACK_V + INJECT_OHM * injected
    if not 0 < mean < PIN_V:
        raise ValueError(f"supply of {float(output_volts):g} V cannot be made; 1.0 V to 3.3 V can")
    return mean


class PortSupplies(wiring.Component):
    """Pulses for the three supplies, and their enable once the filters have settled.

    Reset: supplies off. Everything is in the domain ``osc``.

    Ports
    -----
    pulses : Out(3)
        Port 0, port 1, ULPI bank; 10 bits of resolution.
    enable : Out(1)
        High after four time constants of the filter.
    good : Out(1)
        High when the converters have started.
    """

    pulses: Out(3)
    enable: Out(1)
    good: Out(1)

    def __init__(self, oscillator_hz: Fraction):
        self._settle = int(oscillator_hz * FILTER_S * 4)
        self._start = self._settle + int(oscillator_hz * START_S)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        phase = Signal(10)
        m.d.osc += phase.eq(phase + 1)
        for number, volts in enumerate(PORT_V):
            high = round(pulse_volts(volts) / PIN_V * 2 ** len(phase))
            m.d.osc += self.pulses[number].eq(phase < high)
        elapsed = Signal(range(self._start + 1))
        m.d.osc += self.enable.eq(elapsed >= self._settle)
        m.d.osc += self.good.eq(elapsed == self._start)
        with m.If(elapsed != self._start):
            m.d.osc += elapsed.eq(elapsed + 1)
        return m


def add_power(m, platform, oscillator_hz: Fraction) -> None:
    """Put the supplies and their pins into a design."""
    level = Attrs(IO_TYPE="LVCMOS33")
    platform.add_resources(
        [
            Resource("supply_pulses", 0, Pins("V1 E11 T2", dir="o"), level),
            Resource("supply_enable", 0, Pins("E12", dir="o"), level),
        ]
    )
    m.submodules.supplies = supplies = PortSupplies(oscillator_hz)
    m.submodules.supply_pulses = pulses = io.Buffer("o", platform.request("supply_pulses", dir="-"))
    m.submodules.supply_enable = enable = io.Buffer("o", platform.request("supply_enable", dir="-"))
    m.d.comb += pulses.o.eq(supplies.pulses)
    m.d.comb += enable.o.eq(supplies.enable)
