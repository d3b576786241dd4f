"""The translator between ULPI and UTMI of `luna-usb`, with short ways to the pins."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from luna.gateware.interface.ulpi import UTMITranslator

__all__ = ["RegisteredTranslator", "TwoBytes"]


class TwoBytes(wiring.Component):
    """Room for two bytes: what it shows on either side comes from registers. Domain ``usb``.

    Latency: 1 clock.  Throughput: one byte per clock; given a byte in every clock it never runs dry.  Reset: empty.
    Overflow: none, back-pressure.

    Ports
    -----
    bytes_in : In(stream.Signature(8))
    bytes_out : Out(stream.Signature(8))
    """

    bytes_in: In(stream.Signature(8))
    bytes_out: Out(stream.Signature(8))

    def elaborate(self, platform):
        m = Module()
        spare = Signal(8)
        full = Signal()
        out = self.bytes_out
        m.d.comb += self.bytes_in.ready.eq(~full)
        free = ~out.valid | out.ready
        with m.If(free):
            m.d.usb += out.valid.eq(full | self.bytes_in.valid)
            m.d.usb += full.eq(0)
            with m.If(full):
                m.d.usb += out.payload.eq(spare)
            with m.Else():
                m.d.usb += out.payload.eq(self.bytes_in.payload)
        with m.Elif(self.bytes_in.valid & ~full):
            m.d.usb += full.eq(1)
            m.d.usb += spare.eq(self.bytes_in.payload)
        return m


class RegisteredTranslator(UTMITranslator):
    """`UTMITranslator` whose transmit side begins at registers.

    The transceiver's answers would otherwise go through the whole transmitter to the packets' memories within a clock,
    and their bytes the same way back to the pins: too long together with the delays of both chips.
    """

    def elaborate(self, platform):
        outer = self.tx_data, self.tx_valid, self.tx_ready
        # What the base class takes for its ports while it elaborates.
        self.tx_data, self.tx_valid, self.tx_ready = inner = Signal(8), Signal(), Signal()
        try:
            m = super().elaborate(platform)
        finally:
            self.tx_data, self.tx_valid, self.tx_ready = outer
        m.submodules.two_bytes = two_bytes = TwoBytes()
        m.d.comb += [
            two_bytes.bytes_in.payload.eq(outer[0]),
            two_bytes.bytes_in.valid.eq(outer[1]),
            outer[2].eq(two_bytes.bytes_in.ready),
            inner[0].eq(two_bytes.bytes_out.payload),
            inner[1].eq(two_bytes.bytes_out.valid),
            two_bytes.bytes_out.ready.eq(inner[2]),
        ]
        return m
