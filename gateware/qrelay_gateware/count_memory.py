"""Bins of a histogram in block RAM: one more in a bin, in every word if need be."""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .slow_read import ANY_ON_COLLISION

__all__ = ["CountMemory"]

_ATTRS = ANY_ON_COLLISION | {"ram_style": "block"}
"""What is read while it is written may be anything: the sum that is written then is passed on beside the memory."""
_IN_FLIGHT = 3
"""Operations before one whose sums are not in the memory when it reads."""


class CountMemory(wiring.Component):
    """Add one to a bin, or take a bin: read it and set it to zero.

    One operation per word. A bin that is taken must not be counted in the four words before and after.

    Latency: 3 words from `take` to `taken` and `value`, 5 words from an operation to the memory.
    Reset: bins keep their counts; operations under way are lost.  Overflow: modulo 2^`width`.

    Parameters
    ----------
    depth, width : int
        Bins, and bits of each.

    Ports
    -----
    address : In(range(depth))
    count, take : In(1), In(1)
        What to do with the bin; not both.
    taken : Out(1), value : Out(width)
        A bin was taken; its count.
    """

    latency = 3
    settled = 5
    """Words after which nothing is under way."""

    def __init__(self, depth: int, width: int):
        self._depth = depth
        self._width = width
        super().__init__(
            {
                "address": In(range(depth)),
                "count": In(1),
                "take": In(1),
                "taken": Out(1),
                "value": Out(width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bins = bins = Memory(shape=unsigned(self._width), depth=self._depth, init=[], attrs=_ATTRS)
        write = bins.write_port()
        read = bins.read_port(domain="comb")
        stages = range(_IN_FLIGHT + 2)
        address = [Signal(range(self._depth), name=f"address_{n}", reset_less=True) for n in stages]
        count = [Signal(name=f"count_{n}") for n in stages]
        take = [Signal(name=f"take_{n}") for n in stages]
        found = Signal(self._width, reset_less=True)
        stored = Signal(self._width, reset_less=True)
        sums = [Signal(self._width, name=f"sum_{n}", reset_less=True) for n in range(_IN_FLIGHT)]
        same = [Signal(name=f"same_{distance}") for distance in range(1, _IN_FLIGHT + 1)]

        # The sums of the two operations before are not made yet, but each adds one; that of the third is.
        present = Mux(same[2], sums[2], stored)
        more = Signal(2)
        matches = [(address[1] == address[1 + n]) & count[1 + n] for n in range(1, _IN_FLIGHT + 1)]
        asked = Signal()
        m.d.comb += [asked.eq(self.count | self.take), read.addr.eq(address[0])]
        m.d.sync += [
            Cat(count).eq(Cat(self.count, *count[:-1])),
            Cat(take).eq(Cat(self.take, *take[:-1])),
        ]
        with m.If(asked):
            m.d.sync += address[0].eq(self.address)
        with m.If(Cat(count, take).any()):
            m.d.sync += [
                *(later.eq(earlier) for earlier, later in pairwise(address)),
                found.eq(read.data),
                stored.eq(found),
                Cat(same).eq(Cat(matches)),
                more.eq(1 + matches[0] + matches[1]),
                *(later.eq(earlier) for earlier, later in pairwise(sums)),
                sums[0].eq(Mux(take[2], 0, present + more)),
            ]
        m.d.comb += [
            self.taken.eq(take[2]),
            self.value.eq(stored),
            write.addr.eq(address[3]),
            write.data.eq(sums[0]),
            write.en.eq(count[3] | take[3]),
        ]
        return m
