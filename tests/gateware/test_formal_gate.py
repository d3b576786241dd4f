"""Proof: a hit is early or late iff it lies inside the window, for every start and width."""

import pytest
from amaranth.hdl import Assert
from formal import Harness, mutant, proves, refutes

from qrelay.protocol.units import SLOTS_PER_WORD
from qrelay_gateware.gate import Gate
from qrelay_gateware.layouts import WordHits


class GateHarness(Harness):
    """Windows that hold still, hits that do not."""

    def __init__(self, gate=Gate):
        super().__init__()
        self.gate = gate

    def elaborate(self, platform):
        m = self.module()
        m.submodules.dut = dut = self.gate()
        hits = self.free(WordHits, "hits")
        m.d.comb += dut.hits.eq(hits)
        for name, inside in (("", dut.early), ("late_", dut.late)):
            start = self.constant(m, 8, f"{name}start")
            width = self.constant(m, 9, f"{name}width")
            m.d.comb += getattr(dut, f"{name}start").eq(start)
            m.d.comb += getattr(dut, f"{name}width").eq(width)
            for lane in range(SLOTS_PER_WORD):
                fine = hits[lane].fine
                # The window is start .. end - 1 of this slot; what passes the slot's end continues 256 fines lower.
                end = start + width
                expected = hits[lane].valid & (((fine >= start) & (fine < end)) | (fine + 256 < end))
                for stage in range(Gate.latency):
                    expected = self.register(m, expected, f"{name}expected_{lane}_{stage}")
                m.d.comb += Assert(inside[lane] == expected)
        return m


def test_gate(tmp_path):
    proves(GateHarness(), tmp_path, clocks=4, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(after_start[lane] < width)", "(after_start[lane] <= width)"),
        ("self.hits[lane].fine - start)", "self.hits[lane].fine - (start | 1))"),
        ("m.d.sync += inside.eq(0)", "pass"),
        ("(self.late_start, self.late_width, self.late)", "(self.late_start, self.width, self.late)"),
    ],
)
def test_gate_mutants(tmp_path, old, new):
    refutes(GateHarness(mutant(Gate, old, new)), tmp_path, clocks=6)
