"""The read side of the register bank: address decoder, copy of the settings, multiplexers of the state, tables."""

from dataclasses import dataclass
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Mux, Signal, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.utils import ceil_log2

from qrelay.protocol.registers import ADDRESS_BITS, GROUPS, Register
from qrelay.protocol.windows import WINDOWS, Window

from .slow_read import slow_read

__all__ = ["QUERY_LATENCY", "READ_LATENCY", "is_copied", "read_path", "register_words"]

QUERY_LATENCY = 3
"""Clocks from `query` to `mapped` and `writable`."""
READ_LATENCY = 7
"""Clocks from `read` to `read_value`."""
_PAGE = 256
"""Addresses that settings are known by: none of these pages has anything but registers."""
_ENTRY_BITS = ceil_log2(max(group.base + group.words for group in GROUPS))
"""Bits of an address by which the decoder knows a register."""
_CHUNK = 8
"""Registers per first-stage read multiplexer."""


@dataclass(frozen=True)
class _Place:
    """One register with state and which input of which read multiplexer shows it."""

    group: str
    register: Register
    chunk: int
    index: int


def _places() -> list[_Place]:
    """Registers with state in the order of their addresses, so that a multiplexer sits near the blocks it reads.

    Settings are not among them: what was written stands in a memory too.
    """
    readable = [(g.name, r) for g in GROUPS if not g.stored for r in g.registers if r.access in ("ro", "w1c")]
    return [_Place(group, r, n // _CHUNK, n % _CHUNK) for n, (group, r) in enumerate(readable)]


def register_words(register: Register) -> int:
    """Addresses that the register takes."""
    return -(-register.width // 32)


def is_copied(window: Window) -> bool:
    """Whether reads of the window are answered from the bank's own memory."""
    return window.access == "rw" or window.name == "identity"


def _asked_elsewhere() -> list[tuple[str, int, int]]:
    """Name, base and depth of windows and groups whose block has the memory that is read."""
    stored = [(group.name, group.base, group.depth) for group in GROUPS if group.stored]
    return stored + [(w.name, w.base, w.depth) for w in WINDOWS if w.access == "ro" and not is_copied(w)]


def _within(address, base: int, depth: int):
    return address >> ceil_log2(depth) == base // depth


def _decoder(entry_layout: data.StructLayout, places: list[_Place]) -> list[dict[str, int]]:
    """One entry per register word, looked up by address."""
    by_name = {(p.group, p.register.name): p for p in places}
    entries = [dict.fromkeys(entry_layout.members, 0) for _ in range(1 << _ENTRY_BITS)]
    for group in GROUPS:
        for base, register in group.addressed():
            for word in range(register_words(register)):
                entry = entries[base + word]
                entry["mapped"] = 1
                entry["writable"] = int(register.access != "ro")
                entry["setting"] = int(register.access == "rw")
                entry["top_bit"] = min(register.width - 32 * word, 32) - 1
                if place := by_name.get((group.name, register.name)):
                    entry["readable"] = 1
                    entry["chunk"] = place.chunk
                    entry["index"] = place.index
                    entry["later_word"] = int(word > 0)
                    entry["holds"] = int(word == 0 and register.access == "ro" and register_words(register) > 1)
    return entries


def read_path(m, bank, identity_words) -> None:
    """Add to module `m` all logic of `bank` that answers queries and reads."""
    places = _places()
    chunks = places[-1].chunk + 1
    entry_layout = data.StructLayout(
        {
            "mapped": 1,
            "writable": 1,
            "readable": 1,
            "setting": 1,
            "top_bit": range(32),
            "later_word": 1,
            "holds": 1,
            "index": range(_CHUNK),
            "chunk": range(chunks),
        }
    )
    entries = _decoder(entry_layout, places)
    m.submodules.decoder = decoder = Memory(shape=entry_layout, depth=len(entries), init=entries)
    asked = Signal()
    m.d.comb += asked.eq(bank.bus.query | bank.bus.read)
    entry_2 = data.View(entry_layout, slow_read(m, decoder, bank.bus.address[:_ENTRY_BITS], name="entry", enable=asked))

    kept = _kept(m, bank, identity_words)
    copied = [(n, window) for n, window in enumerate(WINDOWS) if is_copied(window)]
    for name, _, _ in _asked_elsewhere():
        m.d.comb += getattr(bank, f"read_{name}").address.eq(bank.bus.address)

    # Stage 1: the decoder's block RAM, comparators of windows and stored groups, what the bank keeps itself.
    elsewhere = _asked_elsewhere()
    asked_1 = Signal()
    read_1 = Signal()
    address_1 = Signal(ADDRESS_BITS)
    is_register_1 = Signal()
    hits_1 = Signal(len(WINDOWS))
    elsewhere_1 = Signal(len(elsewhere))
    m.d.sync += asked_1.eq(asked)
    m.d.sync += read_1.eq(bank.bus.read)
    with m.If(asked):
        m.d.sync += address_1.eq(bank.bus.address)
        m.d.sync += is_register_1.eq(bank.bus.address >> _ENTRY_BITS == 0)
        for n, window in enumerate(WINDOWS):
            m.d.sync += hits_1[n].eq(_within(bank.bus.address, window.base, window.depth))
        for n, (_, base, depth) in enumerate(elsewhere):
            m.d.sync += elsewhere_1[n].eq(_within(bank.bus.address, base, depth))

    # Stage 2: registered RAM outputs.
    asked_2 = Signal()
    read_2 = Signal()
    address_2 = Signal(ADDRESS_BITS)
    is_register_2 = Signal()
    kept_2 = Signal(32)
    copied_2 = Signal(len(copied))
    elsewhere_2 = Signal(len(elsewhere))
    is_window_2 = Signal()
    is_written_window_2 = Signal()
    m.d.sync += asked_2.eq(asked_1)
    m.d.sync += read_2.eq(read_1)
    writable_windows = Cat(Const(window.access != "ro", 1) for window in WINDOWS)
    with m.If(asked_1):
        m.d.sync += address_2.eq(address_1)
        m.d.sync += kept_2.eq(kept)
        m.d.sync += copied_2.eq(Cat(hits_1[n] for n, _ in copied))
        m.d.sync += elsewhere_2.eq(elsewhere_1)
        m.d.sync += is_window_2.eq(hits_1.any())
        m.d.sync += is_written_window_2.eq((hits_1 & writable_windows).any())
        m.d.sync += is_register_2.eq(is_register_1)

    # The answer to a query.
    with m.If(asked_2):
        m.d.sync += bank.bus.mapped.eq((is_register_2 & entry_2.mapped) | is_window_2)
        m.d.sync += bank.bus.writable.eq((is_register_2 & entry_2.writable) | is_written_window_2)

    # Stage 3: which bits of what the bank keeps are shown, answers of blocks that have the memory. Every chunk has its
    # own copy of the index (not merged, as each is only loaded for its own chunk): one index for all would have to
    # cross the die in the clock of the multiplexers.
    read_3 = Signal()
    address_3 = Signal(ADDRESS_BITS)
    entry_3 = Signal(entry_layout)
    kept_3 = Signal(32)
    shown_3 = Signal(32)
    here_3 = Signal(chunks)
    m.d.sync += read_3.eq(read_2)
    m.d.sync += here_3.eq(0)
    with m.If(read_2):
        m.d.sync += entry_3.eq(entry_2)
        m.d.sync += entry_3.readable.eq(is_register_2 & entry_2.readable)
        m.d.sync += address_3.eq(address_2)
        m.d.sync += kept_3.eq(kept_2)
        for bit in range(32):
            of_setting = is_register_2 & entry_2.setting & (entry_2.top_bit >= bit)
            of_window = reduce(or_, (copied_2[n] for n, (_, window) in enumerate(copied) if bit < window.width))
            m.d.sync += shown_3[bit].eq(of_setting | of_window)
    # Two blocks to a register, so that it is one look-up table away from their memories, wherever those are.
    pairs_3 = []
    for first in range(0, len(elsewhere), 2):
        pairs_3.append(pair_3 := Signal(32, name=f"pair_{first // 2}"))
        answers = (
            Mux(elsewhere_2[n], getattr(bank, f"read_{elsewhere[n][0]}").value, 0)
            for n in range(first, min(first + 2, len(elsewhere)))
        )
        with m.If(read_2):
            m.d.sync += pair_3.eq(reduce(or_, answers))

    # Stage 4: one multiplexer per chunk of registers; zero where the chunk is not meant.
    read_4 = Signal()
    address_4 = Signal(ADDRESS_BITS)
    entry_4 = Signal(entry_layout)
    values_4 = [window_value_4 := Signal(32)]
    m.d.sync += read_4.eq(read_3)
    with m.If(read_3):
        m.d.sync += entry_4.eq(entry_3)
        m.d.sync += address_4.eq(address_3)
        m.d.sync += window_value_4.eq(reduce(or_, pairs_3, kept_3 & shown_3))
    for chunk in range(chunks):
        members = [place for place in places if place.chunk == chunk]
        index_3 = Signal(range(_CHUNK), name=f"index_{chunk}")
        value_4 = Signal(max(place.register.width for place in members), name=f"chunk_{chunk}")
        values_4.append(value_4)
        with m.If(read_2 & is_register_2 & entry_2.readable & (entry_2.chunk == chunk)):
            m.d.sync += here_3[chunk].eq(1)
            m.d.sync += index_3.eq(entry_2.index)
        with m.If(here_3[chunk]):
            with m.Switch(index_3):
                for place in members:
                    source = "status" if place.register.access == "ro" else "config"
                    with m.Case(place.index):
                        m.d.sync += value_4.eq(getattr(bank, f"{source}_{place.group}")[place.register.name])
        with m.Elif(read_3):
            m.d.sync += value_4.eq(0)

    # Stages 5 and 6: OR everything together.
    read_5 = Signal()
    address_5 = Signal(ADDRESS_BITS)
    entry_5 = Signal(entry_layout)
    read_6 = Signal()
    address_6 = Signal(ADDRESS_BITS)
    entry_6 = Signal(entry_layout)
    value_6 = Signal(64)
    m.d.sync += read_5.eq(read_4)
    m.d.sync += read_6.eq(read_5)
    parts_5 = []
    with m.If(read_4):
        m.d.sync += entry_5.eq(entry_4)
        m.d.sync += address_5.eq(address_4)
        for first in range(0, len(values_4), 4):
            parts_5.append(part_5 := Signal(64, name=f"part_{first // 4}"))
            m.d.sync += part_5.eq(reduce(or_, values_4[first : first + 4]))
    with m.If(read_5):
        m.d.sync += entry_6.eq(entry_5)
        m.d.sync += address_6.eq(address_5)
        m.d.sync += value_6.eq(reduce(or_, parts_5))

    # Stage 7: the word, and what is held.
    held = Signal(32)
    held_address = Signal(_ENTRY_BITS)
    is_held = Signal()
    m.d.comb += is_held.eq(held_address == address_6[: len(held_address)])
    with m.If(read_6):
        m.d.sync += bank.bus.read_value.eq(value_6[:32])
    with m.If(read_6 & entry_6.readable):
        with m.If(entry_6.later_word):
            m.d.sync += bank.bus.read_value.eq(Mux(is_held, held, value_6[32:]))
        with m.If(entry_6.holds):
            m.d.sync += held.eq(value_6[32:])
            m.d.sync += held_address.eq(address_6 + 1)
        with m.Elif(is_held):
            # Used up: a second read of the later word alone is of its own instant.
            m.d.sync += held_address.eq(0)


def _kept(m, bank, identity_words) -> Signal:
    """Memory of all that reads back as it was written, and of the identity, at the addresses of the register map.

    Multiplexers for the settings would be the larger part of the bank. Bits above the width of a register or window are
    in there too; keys are not.
    """
    written = [(window.base, window.depth) for window in WINDOWS if is_copied(window) and window.access == "rw"]
    init = [0] * (1 << ceil_log2(max(base + depth for base, depth in written)))
    init[: len(identity_words)] = identity_words
    pages: set[int] = set()
    for group in GROUPS:
        for base, register in group.addressed():
            if register.access == "rw":
                for word in range(register_words(register)):
                    init[base + word] = register.reset >> 32 * word & 0xFFFFFFFF
        pages.update(range(group.base // _PAGE, (group.base + group.words - 1) // _PAGE + 1))
    secret = [window.name for window in WINDOWS if window.access == "wo" and window.base // _PAGE in pages]
    if secret:
        raise ValueError(
            f"window {secret[0]} shares {_PAGE} addresses with registers; its words would be kept with theirs"
        )
    written += [(page * _PAGE, _PAGE) for page in sorted(pages)]
    m.submodules.kept = kept = Memory(shape=unsigned(32), depth=len(init), init=init)
    write = kept.write_port()
    read = kept.read_port()
    address = bank.bus.address
    m.d.comb += [
        write.en.eq(bank.bus.write & reduce(or_, (_within(address, base, depth) for base, depth in written))),
        write.addr.eq(address),
        write.data.eq(bank.bus.write_value),
        read.addr.eq(address),
        read.en.eq(bank.bus.read),
    ]
    return read.data
