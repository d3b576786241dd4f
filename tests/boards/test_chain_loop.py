"""Pins and carry chains with the clock start of a board, under Verilator."""

from pathlib import Path

import pytest
from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benches import run_bench
from qrelay.protocol.registers import DETECTORS
from qrelay_boards.ecp5_clocks import EdgeClockTree
from qrelay_boards.ecp5_detectors import ChainDetectors
from qrelay_boards.ecp5_x2 import OutputPins
from qrelay_gateware.layouts import WordHits

PINS = 2
HERE = Path(__file__).parent


class ChainLoop(wiring.Component):
    """Edge clock tree, output pins and one detector with a chain; the PLL's two clocks as ports."""

    edge_clock: In(1)
    word_clock: In(1)
    osc_clock: In(1)
    pll_good: In(1)
    words_out: In(8 * PINS)
    words_in: Out(WordHits)
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
        m.submodules.chains = chains = ChainDetectors([0])
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
            output.edge.eq(tree.edge),
            output.reset.eq(tree.gearbox_reset),
            output.capture.eq(tree.capture),
            self.pads_out.eq(output.pads),
            chains.capture.eq(output.capture_onward),
            chains.pads[0].eq(self.pads_in[0]),
            # Two slots: every group beyond a capture is known, and all times of the table are 0.
            *(chains.station.config[d].high_from.eq(24) for d in range(DETECTORS)),
            *(chains.station.config[d].low_from.eq(25) for d in range(DETECTORS)),
            self.words_in.eq(chains.hits[0]),
        ]
        return m


@pytest.mark.cocotb
def test_chain_over_a_wire_under_verilator(tmp_path):
    models = (HERE / "ecp5_primitives.v", HERE / "carry_without_delay.v")
    run_bench(ChainLoop(), "bench_chain_loop", tmp_path, extra_sources=models)
