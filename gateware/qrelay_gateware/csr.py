"""The register bank: every register and window of `qrelay.protocol.registers` on one bus, generated from it."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from qrelay.protocol.registers import ADDRESS_BITS, GROUPS, WINDOWS, Register, Window

from .layouts import config_layout, status_layout, table_write

__all__ = ["QUERY_LATENCY", "READ_LATENCY", "WRITE_LATENCY", "BusSignature", "RegisterBank"]

QUERY_LATENCY = 2
"""Clocks from `query` to `mapped` and `writable`."""
READ_LATENCY = 6
"""Clocks from `read` to `read_value`."""
WRITE_LATENCY = 2
"""Clocks from `write` to the changed configuration or the table write."""

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

_CHUNK = 8
"""Registers per first-stage read multiplexer."""


@dataclass(frozen=True)
class _Place:
    """One readable register: where its first word is and which input of which read multiplexer shows it."""

    group: str
    register: Register
    chunk: int
    index: int


def _places() -> list[_Place]:
    """Readable registers in the order of their addresses, so that a multiplexer sits near the blocks it reads."""
    readable = [(g.name, r) for g in GROUPS for r in g.registers if r.access in ("rw", "ro", "w1c")]
    return [_Place(group, r, n // _CHUNK, n % _CHUNK) for n, (group, r) in enumerate(readable)]


def _words(register: Register) -> int:
    return -(-register.width // 32)


def _copied(window: Window) -> bool:
    """Whether reads of the window are answered from the bank's own memory."""
    return window.access == "rw" or window.name == "identity"


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
    clocks after `read`.  Reset: registers at their documented reset values; tables keep their contents.  Overflow:
    none.

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
        State, and bits that set latched state (set wins over clear); for groups that have any.
    table_<window> : table_write(window).flip()
        Writes to a window, for every writable one.
    read_<window> : Out({"address": Out, "value": In(32)})
        For every read-only window but the identity: `value` is what stood at `address` two clocks before.
    """

    def __init__(self, identity_words):
        identity = next(window for window in WINDOWS if window.name == "identity")
        if len(identity_words) > identity.depth:
            raise ValueError(
                f"identity of {len(identity_words)} words exceeds its window; give at most {identity.depth}"
            )
        self._identity_words = identity_words
        members = {"bus": In(BusSignature)}
        for group in GROUPS:
            settings = {r.name: r.reset for r in group.registers if r.access != "ro"}
            if settings:
                members[f"config_{group.name}"] = Out(config_layout(group.name), init=settings)
            if any(r.access in ("ro", "w1c") for r in group.registers):
                members[f"status_{group.name}"] = In(status_layout(group.name))
        for window in WINDOWS:
            _check(window)
            if window.access != "ro":
                members[f"table_{window.name}"] = table_write(window.name).flip()
            elif not _copied(window):
                members[f"read_{window.name}"] = Out(
                    wiring.Signature({"address": Out(range(window.depth)), "value": In(32)})
                )
        super().__init__(members)

    def _config(self, group: str, register: Register):
        return getattr(self, f"config_{group}")[register.name]

    def elaborate(self, platform):
        m = Module()
        self._write_path(m)
        self._read_path(m)
        return m

    def _write_path(self, m) -> None:
        enable = Signal()
        address = Signal(ADDRESS_BITS)
        value = Signal(32)
        m.d.sync += enable.eq(self.bus.write)
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
        with m.If(enable):
            with m.Switch(address):
                for group in GROUPS:
                    for base, register in group.addressed():
                        for word in range(_words(register)):
                            bits = slice(32 * word, min(32 * word + 32, register.width))
                            if register.access == "w1c":
                                with m.Case(base + word):
                                    m.d.comb += clears[group.name, register.name][bits].eq(value)
                            elif register.access != "ro":
                                with m.Case(base + word):
                                    m.d.sync += self._config(group.name, register)[bits].eq(value)
        for window in WINDOWS:
            if window.access != "ro":
                table = getattr(self, f"table_{window.name}")
                hit = enable & (address >> ceil_log2(window.depth) == window.base // window.depth)
                m.d.sync += table.enable.eq(hit)
                with m.If(hit):
                    m.d.sync += table.address.eq(address)
                    m.d.sync += table.value.eq(value)

    def _decoder(self, entry_layout: data.StructLayout, places: list[_Place]) -> list[dict[str, int]]:
        """One entry per register word, looked up by address."""
        by_name = {(p.group, p.register.name): p for p in places}
        entries = [dict.fromkeys(entry_layout.members, 0) for _ in range(max(g.base + g.words for g in GROUPS))]
        for group in GROUPS:
            for base, register in group.addressed():
                for word in range(_words(register)):
                    entry = entries[base + word]
                    entry["mapped"] = 1
                    entry["writable"] = int(register.access != "ro")
                    if place := by_name.get((group.name, register.name)):
                        entry["readable"] = 1
                        entry["chunk"] = place.chunk
                        entry["index"] = place.index
                        entry["later_word"] = int(word > 0)
                        entry["holds"] = int(word == 0 and register.access == "ro" and _words(register) > 1)
        return entries

    def _read_path(self, m) -> None:
        places = _places()
        chunks = places[-1].chunk + 1
        entry_layout = data.StructLayout(
            {
                "mapped": 1,
                "writable": 1,
                "readable": 1,
                "later_word": 1,
                "holds": 1,
                "index": range(_CHUNK),
                "chunk": range(chunks),
            }
        )
        entries = self._decoder(entry_layout, places)
        m.submodules.decoder = decoder = Memory(shape=entry_layout, depth=1 << ceil_log2(len(entries)), init=entries)
        lookup = decoder.read_port()
        asked = Signal()
        m.d.comb += asked.eq(self.bus.query | self.bus.read)
        m.d.comb += lookup.addr.eq(self.bus.address)
        m.d.comb += lookup.en.eq(asked)

        # Stage 1: the decoder's block RAM, window comparators, the bank's own tables.
        asked_1 = Signal()
        read_1 = Signal()
        address_1 = Signal(ADDRESS_BITS)
        is_register_1 = Signal()
        hits_1 = Signal(len(WINDOWS))
        m.d.sync += asked_1.eq(asked)
        m.d.sync += read_1.eq(self.bus.read)
        with m.If(asked):
            m.d.sync += address_1.eq(self.bus.address)
            m.d.sync += is_register_1.eq(self.bus.address >> len(lookup.addr) == 0)
            for n, window in enumerate(WINDOWS):
                m.d.sync += hits_1[n].eq(self.bus.address >> ceil_log2(window.depth) == window.base // window.depth)
        table_value_1, is_table = self._tables(m)

        # Stage 2: registered RAM outputs; the answer to a query.
        read_2 = Signal()
        address_2 = Signal(ADDRESS_BITS)
        entry_2 = Signal(entry_layout)
        table_value_2 = Signal(32)
        hits_2 = Signal(len(WINDOWS))
        m.d.sync += read_2.eq(read_1)
        writable_windows = Cat(Const(window.access != "ro", 1) for window in WINDOWS)
        with m.If(asked_1):
            m.d.sync += address_2.eq(address_1)
            m.d.sync += entry_2.eq(lookup.data)
            m.d.sync += table_value_2.eq(table_value_1)
            m.d.sync += hits_2.eq(hits_1)
            m.d.sync += self.bus.mapped.eq((is_register_1 & lookup.data.mapped) | hits_1.any())
            m.d.sync += self.bus.writable.eq((is_register_1 & lookup.data.writable) | (hits_1 & writable_windows).any())
            with m.If(~is_register_1):
                m.d.sync += entry_2.readable.eq(0)

        # Stage 3: every chunk has its own copy of the index (not merged, as each is only loaded for its own chunk):
        # one index for all would have to cross the die in the clock of the multiplexers.
        read_3 = Signal()
        address_3 = Signal(ADDRESS_BITS)
        entry_3 = Signal(entry_layout)
        window_value_3 = Signal(32)
        here_3 = Signal(chunks)
        m.d.sync += read_3.eq(read_2)
        m.d.sync += here_3.eq(0)
        with m.If(read_2):
            m.d.sync += entry_3.eq(entry_2)
            m.d.sync += address_3.eq(address_2)
            m.d.sync += window_value_3.eq(0)
            for n, window in enumerate(WINDOWS):
                if is_table[window.name]:
                    with m.If(hits_2[n]):
                        m.d.sync += window_value_3.eq(table_value_2)
                elif window.access == "ro":
                    with m.If(hits_2[n]):
                        m.d.sync += window_value_3.eq(getattr(self, f"read_{window.name}").value)

        # Stage 4: one multiplexer per chunk of registers.
        read_4 = Signal()
        address_4 = Signal(ADDRESS_BITS)
        entry_4 = Signal(entry_layout)
        window_value_4 = Signal(32)
        values_4 = []
        m.d.sync += read_4.eq(read_3)
        with m.If(read_3):
            m.d.sync += entry_4.eq(entry_3)
            m.d.sync += address_4.eq(address_3)
            m.d.sync += window_value_4.eq(window_value_3)
        for chunk in range(chunks):
            members = [place for place in places if place.chunk == chunk]
            index_3 = Signal(range(_CHUNK), name=f"index_{chunk}")
            value_4 = Signal(max(place.register.width for place in members), name=f"chunk_{chunk}")
            values_4.append(value_4)
            with m.If(read_2 & (entry_2.chunk == chunk)):
                m.d.sync += here_3[chunk].eq(1)
                m.d.sync += index_3.eq(entry_2.index)
            with m.If(here_3[chunk]):
                with m.Switch(index_3):
                    for place in members:
                        source = "status" if place.register.access == "ro" else "config"
                        with m.Case(place.index):
                            m.d.sync += value_4.eq(getattr(self, f"{source}_{place.group}")[place.register.name])

        # Stage 5: one multiplexer over the chunks.
        read_5 = Signal()
        address_5 = Signal(ADDRESS_BITS)
        entry_5 = Signal(entry_layout)
        value_5 = Signal(64)
        m.d.sync += read_5.eq(read_4)
        with m.If(read_4):
            m.d.sync += entry_5.eq(entry_4)
            m.d.sync += address_5.eq(address_4)
            m.d.sync += value_5.eq(window_value_4)
            with m.If(entry_4.readable):
                with m.Switch(entry_4.chunk):
                    for chunk, value_4 in enumerate(values_4):
                        with m.Case(chunk):
                            m.d.sync += value_5.eq(value_4)

        # Stage 6: the word, and what is held.
        held = Signal(32)
        held_address = Signal(ADDRESS_BITS)
        with m.If(read_5):
            m.d.sync += self.bus.read_value.eq(value_5[:32])
            with m.If(entry_5.readable & entry_5.later_word):
                m.d.sync += self.bus.read_value.eq(value_5[32:])
                with m.If(held_address == address_5):
                    m.d.sync += self.bus.read_value.eq(held)
            with m.If(entry_5.readable & entry_5.holds):
                m.d.sync += held.eq(value_5[32:])
                m.d.sync += held_address.eq(address_5 + 1)
            with m.Elif(held_address == address_5):
                # Used up: a second read of the later word alone is of its own instant.
                m.d.sync += held_address.eq(0)

    def _tables(self, m) -> tuple[Signal, dict[str, bool]]:
        """Memory that answers reads of the identity and of the writable tables that can be read."""
        copied = sorted((window for window in WINDOWS if _copied(window)), key=lambda window: -window.depth)
        offsets = {}
        size = 0
        for window in copied:
            offsets[window.name] = size
            size += window.depth
        depth = 1 << ceil_log2(size)
        init = [0] * depth
        init[offsets["identity"] : offsets["identity"] + len(self._identity_words)] = self._identity_words
        m.submodules.tables = tables = Memory(shape=unsigned(32), depth=depth, init=init)
        read = tables.read_port()
        write = tables.write_port()
        m.d.comb += read.en.eq(self.bus.read)
        for window in copied:
            bits = ceil_log2(window.depth)
            with m.If(self.bus.address >> bits == window.base // window.depth):
                m.d.comb += read.addr.eq(offsets[window.name] | self.bus.address[:bits])
            if window.access == "rw":
                table = getattr(self, f"table_{window.name}")
                with m.If(table.enable):
                    m.d.comb += write.en.eq(1)
                    m.d.comb += write.addr.eq(offsets[window.name] | table.address)
                    m.d.comb += write.data.eq(table.value)
        for window in WINDOWS:
            if window.access == "ro" and not _copied(window):
                m.d.comb += getattr(self, f"read_{window.name}").address.eq(self.bus.address)
        return read.data, {window.name: _copied(window) for window in WINDOWS}
