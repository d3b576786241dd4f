"""A histogram that is over, kept for the host."""

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .slow_read import ANY_ON_COLLISION

__all__ = ["Readout"]

_ATTRS = ANY_ON_COLLISION | {"ram_style": "block"}


class Readout(wiring.Component):
    """Entries of 32 bits, written by a block and read through a window of the register bank.

    Latency: 2 words from `address` to `value`; an entry can be read 3 words after it was written, and may read as
    anything in the word in which it is written.  Reset: entries keep their values.  Overflow: none.

    Parameters
    ----------
    depth : int
    read_domain : str
        Clock domain of `address` and `value`: any that is clocked when the host reads.

    Ports
    -----
    write_enable, write_address, write_value : In(1), In(range(depth)), In(32)
    address : In(range(depth)), value : Out(32)
    """

    latency = 2

    def __init__(self, depth: int, *, read_domain: str = "sync"):
        self._depth = depth
        self._read_domain = read_domain
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(range(depth)),
                "write_value": In(32),
                "address": In(range(depth)),
                "value": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.entries = entries = Memory(shape=unsigned(32), depth=self._depth, init=[], attrs=_ATTRS)
        write = entries.write_port()
        read = entries.read_port(domain="comb")
        m.d.sync += write.en.eq(self.write_enable)
        with m.If(self.write_enable):
            m.d.sync += [write.addr.eq(self.write_address), write.data.eq(self.write_value)]
        found = Signal(32, reset_less=True)
        m.d.comb += read.addr.eq(self.address)
        m.d[self._read_domain] += [found.eq(read.data), self.value.eq(found)]
        return m
