"""Gearbox pins and clock start on behavioural models of the primitives."""

from pathlib import Path

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benches import run_bench
from qrelay_boards.ecp5_clocks import EdgeClockTree
from qrelay_boards.ecp5_x2 import InputPins, OutputPins

PINS = 2


class PinLoop(wiring.Component):
    """Edge clock tree, output pins and input pins, with the PLL's two clocks as ports."""

    edge_clock: In(1)
    word_clock: In(1)
    osc_clock: In(1)
    pll_good: In(1)
    words_out: In(8 * PINS)
    words_in: Out(8 * PINS)
    pads_out: Out(PINS)
    pads_in: In(PINS)
    locked: Out(1)
    phase_lost: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        m.domains.osc = ClockDomain(reset_less=True)
        m.domains.gear = ClockDomain(async_reset=True)
        m.domains.gear_n = ClockDomain(async_reset=True, clk_edge="neg")
        m.submodules.tree = tree = EdgeClockTree()
        m.submodules.output = output = OutputPins(PINS)
        m.submodules.input = inputs = InputPins(PINS)
        m.d.comb += [
            ClockSignal("sync").eq(self.word_clock),
            ClockSignal("osc").eq(self.osc_clock),
            ClockSignal("gear").eq(tree.gear_clock),
            ClockSignal("gear_n").eq(tree.gear_clock),
            ResetSignal("gear").eq(tree.gearbox_reset),
            ResetSignal("gear_n").eq(tree.gearbox_reset),
            tree.pll_good.eq(self.pll_good),
            tree.edge_in.eq(self.edge_clock),
            self.locked.eq(tree.locked),
            self.phase_lost.eq(tree.phase_lost),
            output.words.as_value().eq(self.words_out),
            self.words_in.eq(inputs.words.as_value()),
            self.pads_out.eq(output.pads),
            inputs.pads.eq(self.pads_in),
        ]
        m.d.comb += output.capture.eq(tree.capture)
        m.d.comb += inputs.capture.eq(output.capture_onward)
        for pins in (output, inputs):
            m.d.comb += pins.edge.eq(tree.edge)
            m.d.comb += pins.reset.eq(tree.gearbox_reset)
        return m


@pytest.mark.cocotb
def test_pins_under_verilator(tmp_path):
    run_bench(PinLoop(), "bench_phy_x2", tmp_path, extra_sources=(Path(__file__).parent / "ecp5_primitives.v",))
