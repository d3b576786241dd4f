"""The register bank: every register and window of `qrelay.protocol.registers` on one bus, generated from it."""

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from qrelay.protocol.registers import ADDRESS_BITS, GROUPS, Register
from qrelay.protocol.windows import WINDOWS, Window

from .csr_read import QUERY_LATENCY, READ_LATENCY, is_copied, read_path, register_words
from .layouts import config_layout, status_layout, stored_read, table_write

__all__ = ["QUERY_LATENCY", "READ_LATENCY", "WRITE_LATENCY", "BusSignature", "RegisterBank"]

WRITE_LATENCY = 3
"""Clocks from `write` to the changed configuration; a table write is one clock earlier."""

BusSignature = wiring.Signature(
    {
        "address": Out(ADDRESS_BITS),
        "query": Out(1),
        "mapped": In(1),
        "writable": In(1),
        "read": Out(1),
        "read_value": In(32),
        "write": Out(1),
        "write_value": Out(32),
    }
)
"""Bus of the register bank: at most one of `query`, `read` and `write` per clock, each with its `address`."""


_PAGE = 16
"""Addresses per page of the write decoder; no two groups share a page."""


def _check_pages() -> None:
    owners: dict[int, str] = {}
    for group in GROUPS:
        for page in range(group.base // _PAGE, (group.base + group.words - 1) // _PAGE + 1):
            if owners.setdefault(page, group.name) != group.name:
                raise ValueError(
                    f"groups {owners[page]} and {group.name} share the addresses from {page * _PAGE:#x} on; "
                    f"start each group at a free multiple of {_PAGE}"
                )


def _check(window: Window) -> None:
    if window.depth & (window.depth - 1) or window.base % window.depth:
        raise ValueError(
            f"window {window.name}: base {window.base:#x} and depth {window.depth} do not fit the address decoder; "
            f"give a power of two as depth and a multiple of it as base"
        )


class RegisterBank(wiring.Component):
    """Registers and windows of a station.

    Reading the first word of a wide `ro` register holds the rest: a read of the next word that follows any number of
    reads of narrow registers gives the held word, so that both are of the same instant. Other later words are read as
    they are. Write-only registers, strobes and write-only windows read as 0. Bits above the width of a register are
    not stored. A write to a read-only or unmapped address does nothing; `query` tells beforehand.

    Latency: `QUERY_LATENCY`, `READ_LATENCY`, `WRITE_LATENCY`; one request per clock. A `ro` register is sampled 4
    clocks after `read`.  Reset: registers at their documented reset values; tables keep their contents, and settings
    read back as last written until they are written again (after power-up both are at their reset values).
    Overflow: none.

    Parameters
    ----------
    identity_words : list of int
        Contents of the identity window (`Identity.to_words()`).

    Ports
    -----
    bus : In(BusSignature)
        Requests.
    config_<group> : Out(config_layout(group))
        Settings, strobes (one clock) and latched state; for groups that have any.
    status_<group> : In(status_layout(group))
        State, and bits that set latched state (set wins over clear); for groups that have any and are not stored.
    table_<window> : table_write(window).flip()
        Writes to a window, for every writable one.
    read_<window>, read_<group> : Out(stored_read(depth))
        For every read-only window but the identity, and every stored group.
    """

    def __init__(self, identity_words):
        identity = next(window for window in WINDOWS if window.name == "identity")
        if len(identity_words) > identity.depth:
            raise ValueError(
                f"identity of {len(identity_words)} words exceeds its window; give at most {identity.depth}"
            )
        self._identity_words = identity_words
        _check_pages()
        members = {"bus": In(BusSignature)}
        for group in GROUPS:
            settings = {r.name: r.reset for r in group.registers if r.access != "ro"}
            if settings:
                members[f"config_{group.name}"] = Out(config_layout(group.name), init=settings)
            if group.stored:
                members[f"read_{group.name}"] = Out(stored_read(group.depth))
            elif any(r.access in ("ro", "w1c") for r in group.registers):
                members[f"status_{group.name}"] = In(status_layout(group.name))
        for window in WINDOWS:
            _check(window)
            if window.access != "ro":
                members[f"table_{window.name}"] = table_write(window.name).flip()
            elif not is_copied(window):
                members[f"read_{window.name}"] = Out(stored_read(window.depth))
        super().__init__(members)

    def _config(self, group: str, register: Register):
        return getattr(self, f"config_{group}")[register.name]

    def elaborate(self, platform):
        m = Module()
        self._write_path(m)
        read_path(m, self, self._identity_words)
        return m

    def _write_path(self, m) -> None:
        address = Signal(ADDRESS_BITS)
        value = Signal(32)
        with m.If(self.bus.write):
            m.d.sync += address.eq(self.bus.address)
            m.d.sync += value.eq(self.bus.write_value)

        clears = {}
        for group in GROUPS:
            for register in group.registers:
                if register.access == "strobe":
                    m.d.sync += self._config(group.name, register).eq(0)
                elif register.access == "w1c":
                    clears[group.name, register.name] = clear = Signal(
                        register.width, name=f"clear_{group.name}_{register.name}"
                    )
                    latched = self._config(group.name, register)
                    set_bits = getattr(self, f"status_{group.name}")[register.name]
                    m.d.sync += latched.eq((latched & ~clear) | set_bits)
        for group in GROUPS:
            self._group_writes(m, group, address, value, clears)
        for window in WINDOWS:
            if window.access != "ro":
                table = getattr(self, f"table_{window.name}")
                hit = Signal(name=f"hit_{window.name}")
                m.d.sync += hit.eq(
                    self.bus.write & (self.bus.address >> ceil_log2(window.depth) == window.base // window.depth)
                )
                m.d.sync += table.enable.eq(hit)
                with m.If(hit):
                    m.d.sync += table.address.eq(address)
                    m.d.sync += table.value.eq(value)

    def _group_writes(self, m, group, address, value, clears) -> None:
        """Writes to one group, from its own copy of the request, which can sit near the group's block."""
        writable = [(base, r) for base, r in group.addressed() if r.access != "ro"]
        if not writable:
            return
        pages = range(group.base // _PAGE, (group.base + group.words - 1) // _PAGE + 1)
        offset_bits = ceil_log2(len(pages) * _PAGE)
        hit = Signal(name=f"write_hit_{group.name}")
        here = Signal(name=f"write_{group.name}")
        offset = Signal(offset_bits, name=f"write_offset_{group.name}")
        own_value = Signal(min(32, max(r.width for _, r in writable)), name=f"write_value_{group.name}")
        page = self.bus.address >> ceil_log2(_PAGE)
        m.d.sync += hit.eq(self.bus.write & reduce(or_, (page == number for number in pages)))
        m.d.sync += here.eq(hit)
        with m.If(hit):
            m.d.sync += offset.eq(address)
            m.d.sync += own_value.eq(value)
        with m.If(here):
            with m.Switch(offset):
                for base, register in writable:
                    for word in range(register_words(register)):
                        bits = slice(32 * word, min(32 * word + 32, register.width))
                        with m.Case((base + word) % (1 << offset_bits)):
                            if register.access == "w1c":
                                m.d.comb += clears[group.name, register.name][bits].eq(own_value)
                            else:
                                m.d.sync += self._config(group.name, register)[bits].eq(own_value)
