"""A first-in first-out buffer in block RAM whose fill is exact."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .slow_read import ANY_ON_COLLISION, word_read

__all__ = ["BlockFifo"]


class BlockFifo(wiring.Component):
    """Buffer of `depth` entries with a registered output, for memories that need one to be fast.

    Latency: an entry written into the empty buffer is at `head` 3 clocks later. Throughput: one entry per clock.
    Reset: empty.  Overflow: a write while `full` is ignored; the writer counts what it loses.

    Parameters
    ----------
    shape : ShapeLike
        One entry.
    depth : int
        Number of entries, a power of two.

    Ports
    -----
    write_enable, write_value : In(1), In(shape)
        Entry to store.
    full : Out(1)
        `depth` entries are waiting.
    head : Out(stream.Signature(shape))
        The oldest entry.
    level : Out(range(depth + 1))
        Entries written and not yet taken from `head`.
    clear : In(1)
        Forget all entries; wins over a write in the same clock.
    """

    def __init__(self, shape, depth: int):
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"FIFO depth {depth} is no power of two; give 2, 4, 8, ...")
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "write_enable": In(1),
                "write_value": In(shape),
                "full": Out(1),
                "head": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._shape, depth=self._depth, init=[], attrs=ANY_ON_COLLISION)
        write = memory.write_port()
        written = Signal()
        taken = Signal()
        fetch = Signal()
        fetch_place = Signal(range(self._depth))
        fetched = Signal()
        stored = Signal(range(self._depth + 1))
        """Entries in the memory that were not yet fetched for the head."""
        some_stored = Signal()
        """There are any: from a register, because it begins the longest way."""
        m.d.comb += self.full.eq(self.level[-1])
        m.d.comb += written.eq(self.write_enable & ~self.full)
        m.d.comb += taken.eq(self.head.valid & self.head.ready)
        m.d.comb += write.en.eq(written)
        m.d.comb += write.data.eq(self.write_value)
        with m.If(written):
            m.d.sync += write.addr.eq(write.addr + 1)

        head_free = Signal()
        m.d.comb += head_free.eq(~self.head.valid | self.head.ready)
        m.d.comb += fetch.eq(some_stored & (~fetched | head_free))
        found = word_read(m, memory, fetch_place, name="fetched", enable=fetch)
        payload = Signal(len(found), reset_less=True)
        m.d.comb += self.head.payload.eq(payload)
        with m.If(fetch):
            m.d.sync += fetch_place.eq(fetch_place + 1)
            m.d.sync += fetched.eq(1)
        with m.Elif(head_free):
            m.d.sync += fetched.eq(0)
        with m.If(head_free):
            m.d.sync += self.head.valid.eq(fetched)
            with m.If(fetched):
                m.d.sync += payload.eq(found)

        with m.If(written != taken):
            m.d.sync += self.level.eq(self.level + written - taken)
        with m.If(written != fetch):
            m.d.sync += stored.eq(stored + written - fetch)
            m.d.sync += some_stored.eq(written | (stored != 1))
        with m.If(self.clear):
            for state in (write.addr, fetch_place, fetched, self.head.valid, self.level, stored, some_stored):
                m.d.sync += state.eq(0)
        return m
