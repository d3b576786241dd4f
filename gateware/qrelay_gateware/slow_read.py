"""Reads of block RAMs that use the RAM's own output register."""

from amaranth.hdl import Signal, Value

__all__ = ["ANY_ON_COLLISION", "slow_read", "word_read"]

ANY_ON_COLLISION = {"no_rw_check": 1}
"""Attribute of a memory: what is read while it is written may be anything (nobody uses it). Otherwise Yosys puts a
bypass between the memory and its output register, which then cannot be the block RAM's own. It heeds this where it
joins a read without a clock and the register behind it itself."""


def word_read(m, memory, address, *, name, enable=1, domain="sync"):
    """What stood at `address` of a memory a clock before, or when `enable` was last high.

    A block RAM is slow to answer, so this goes to a register and to nothing else. The memory has the attribute
    `ANY_ON_COLLISION`.
    """
    port = memory.read_port(domain="comb")
    m.d.comb += port.addr.eq(address)
    word = Value.cast(port.data)
    found = Signal(len(word), name=f"{name}_found", reset_less=True)
    with m.If(enable):
        m.d[domain] += found.eq(word)
    return found


def slow_read(m, memory, address, *, name, enable=1, domain="sync"):
    """What stood at `address` of a memory two clocks before; it stays while `enable` was low then.

    The memory has the attribute `ANY_ON_COLLISION`.
    """
    enabled = Signal(name=f"{name}_enabled", init=1, reset_less=True)
    m.d[domain] += enabled.eq(enable)
    found = word_read(m, memory, address, name=name, enable=enable, domain=domain)
    value = Signal(len(found), name=f"{name}_value", reset_less=True)
    with m.If(enabled):
        m.d[domain] += value.eq(found)
    return value
