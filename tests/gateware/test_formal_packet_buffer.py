"""Proof: the buffers between the blocks of the link hand on every byte once, unaltered and in order, by induction."""

import pytest
from amaranth.hdl import Assert, Signal
from formal import Harness, mutant, proves, refutes

from qrelay_gateware.packet_stream import PacketBuffer, PacketByte


class BufferHarness(Harness):
    """Any bytes, with pauses on both sides, against a queue of two."""

    def __init__(self, buffer=PacketBuffer):
        super().__init__()
        self.buffer = buffer

    def elaborate(self, platform):
        m = self.module()
        m.submodules.dut = dut = self.buffer()
        valid = self.free(1, "valid")
        item = self.free(PacketByte, "item")
        ready = self.free(1, "ready")
        m.d.comb += [dut.packets.valid.eq(valid), dut.packets.payload.eq(item), dut.out.ready.eq(ready)]
        put = Signal()
        got = Signal()
        m.d.comb += [put.eq(valid & dut.packets.ready), got.eq(dut.out.valid & ready)]
        fill = Signal(range(3))
        queue = [Signal(PacketByte, name=f"queue_{n}") for n in range(2)]
        m.d.sync += fill.eq(fill + put - got)
        with m.If(got):
            m.d.sync += queue[0].eq(queue[1])
        for number, entry in enumerate(queue):
            with m.If(put & (fill == number + got)):
                m.d.sync += entry.eq(item)
        m.d.comb += [
            Assert(dut.out.valid == (fill != 0)),
            Assert(dut.packets.ready == (fill != 2)),
            Assert(~dut.out.valid | (dut.out.payload.as_value() == queue[0].as_value())),
        ]
        spare = self.peek(9, "dut.spare")
        has_spare = self.peek(1, "dut.has_spare")
        self.invariant(m, fill == dut.out.valid + has_spare)
        self.invariant(m, ~has_spare | (spare == queue[1].as_value()))
        return m


def test_packet_buffer(tmp_path):
    proves(BufferHarness(), tmp_path, clocks=2, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A byte is given twice, one is lost when the output is taken, one takes the place of the spare one.
        ("m.d.sync += has_spare.eq(0)", "pass"),
        ("self.out.valid.eq(has_spare | self.packets.valid)", "self.out.valid.eq(self.packets.valid)"),
        ("self.packets.ready.eq(~has_spare)", "self.packets.ready.eq(1)"),
    ],
)
def test_packet_buffer_mutants(tmp_path, old, new):
    refutes(BufferHarness(mutant(PacketBuffer, old, new)), tmp_path, clocks=6)
