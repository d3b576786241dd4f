"""Raw samples for assessment: consecutive, as they come from the source, for the host to keep."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.windows import window

from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["RawSamples"]

_DEPTH = window("raw").depth


class RawSamples(wiring.Component):
    """Write samples to a ring of words while `record` is set: 32 in a word, the first in bit 0.

    What the host reads must not become a key: no key is made meanwhile (see `keys.KeyKeeper`).

    Latency: a word is in the ring a clock after its last sample.  Reset: nothing recorded.
    Overflow: the ring is overwritten; the host compares `written` before and after it reads.

    Ports
    -----
    valid, sample : In(1)
    record : In(1)
        `written` is 0 while low.
    written : Out(32)
        Words written since `record` rose; word n is entry n modulo the depth of the window.
    address, value : In(9), Out(32)
        `value` is what stood at `address` two clocks before.
    """

    valid: In(1)
    sample: In(1)
    record: In(1)
    written: Out(32)
    address: In(range(_DEPTH))
    value: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = ring = Memory(shape=32, depth=_DEPTH, init=[], attrs=ANY_ON_COLLISION)
        write = ring.write_port()
        bits = Signal(32, reset_less=True)
        place = Signal(range(32))
        full = Signal()
        m.d.comb += [
            write.addr.eq(self.written),
            write.data.eq(bits),
            write.en.eq(full),
            self.value.eq(slow_read(m, ring, self.address, name="asked")),
        ]
        m.d.sync += full.eq(0)
        with m.If(full):
            m.d.sync += self.written.eq(self.written + 1)
        with m.If(~self.record):
            m.d.sync += [place.eq(0), full.eq(0), self.written.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [bits.eq(Cat(bits[1:], self.sample)), place.eq(place + 1), full.eq(place == 31)]
        return m
