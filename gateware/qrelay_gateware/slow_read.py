"""Reads of block RAMs that use the RAM's own output register."""

from amaranth.hdl import Signal

__all__ = ["ANY_ON_COLLISION", "slow_read"]

ANY_ON_COLLISION = {"no_rw_check": 1}
"""Attribute of a memory: what is read while it is written may be anything (nobody uses it). Otherwise Yosys puts a
bypass between the memory and its output register, which then cannot be the block RAM's own. It heeds this where it
joins a read without a clock and the register behind it itself."""


def slow_read(m, memory, address, *, name):
    """What stood at `address` of a memory two clocks before.

    A block RAM is slow to answer, so nothing but a register is behind it. The memory has the attribute
    `ANY_ON_COLLISION`.
    """
    port = memory.read_port(domain="comb")
    found = Signal(len(port.data), name=f"{name}_found", reset_less=True)
    value = Signal(len(port.data), name=f"{name}_value", reset_less=True)
    m.d.comb += port.addr.eq(address)
    m.d.sync += [found.eq(port.data), value.eq(found)]
    return value
