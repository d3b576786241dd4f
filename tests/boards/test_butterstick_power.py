"""Supplies of the ButterStick's ports: pulse widths against nodal analysis, start in the simulator."""

from fractions import Fraction

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from qrelay_boards.butterstick_power import PORT_V, PortSupplies, pulse_volts

OSCILLATOR_HZ = 30_000_000


@pytest.mark.parametrize("volts", [1.2, 1.8, 2.5, 3.3])
def test_pulses_make_the_supply(volts):
    """The feedback node between three resistors: solve for its supply with the pulses that are made."""
    pulses = float(pulse_volts(Fraction(str(volts))))
    # Unknown: output. Node held at 0.6 V: (output - 0.6) / Rf + (pulses - 0.6) / Ri = 0.6 / Rs.
    matrix = np.array([[1 / 53_600, 1 / 68_000], [0, 1]])
    right = np.array([0.6 / 13_000 + 0.6 / 53_600 + 0.6 / 68_000, pulses])
    assert np.linalg.solve(matrix, right)[0] == pytest.approx(volts)


@pytest.mark.parametrize("volts", [0.7, 3.7])
def test_supplies_that_cannot_be_made(volts):
    with pytest.raises(ValueError, match=r"cannot be made; 1.0 V to 3.3 V can"):
        pulse_volts(Fraction(str(volts)))


def test_start():
    supplies = PortSupplies(Fraction(OSCILLATOR_HZ, 400))
    m = Module()
    m.submodules.dut = supplies
    m.domains.osc = ClockDomain(reset_less=True)
    simulator = Simulator(m)
    simulator.add_clock(400 / OSCILLATOR_HZ, domain="osc")
    seen = []

    async def testbench(ctx):
        for _ in range(2500):
            await ctx.tick("osc")
            seen.append((ctx.get(supplies.pulses), ctx.get(supplies.enable), ctx.get(supplies.good)))

    simulator.add_testbench(testbench)
    simulator.run()
    # Two periods of 1024; four time constants of 6.8 ms at 75 kHz are 2040 clocks, 1 ms more is 75.
    for port, volts in enumerate(PORT_V):
        share = np.mean([pulses >> port & 1 for pulses, _, _ in seen[: 2 * 1024]])
        assert share * 3.3 == pytest.approx(float(pulse_volts(volts)), abs=3.3 / 1024)
    assert next(i for i, (_, enable, _) in enumerate(seen) if enable) == pytest.approx(2040, abs=2)
    assert next(i for i, (_, _, good) in enumerate(seen) if good) == pytest.approx(2115, abs=2)
