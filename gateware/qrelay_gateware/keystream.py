"""The random choices of a station: 16 bits per slot from AES-256 in counter mode, without gaps."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.choice import BLOCK_BITS, DRAW_BITS
from qrelay.protocol.units import SLOT_BITS, SLOTS_PER_BLOCK, SLOTS_PER_WORD
from qrelay.protocol.windows import window

from .aes import ROUND_CLOCKS, ROUNDS, Aes256Pipeline, KeyExpansion
from .layouts import config_layout, table_write

__all__ = ["BLOCK_PLACE_BITS", "Draws", "Keystream", "swapped"]

BLOCK_PLACE_BITS = (SLOTS_PER_BLOCK - 1).bit_length()
"""Bits of a slot index that tell its place in a block."""
FULL_BLOCK_BITS = SLOT_BITS - BLOCK_PLACE_BITS
"""A slot index divided by 8."""
KEY_TRAVEL = ROUND_CLOCKS * ROUNDS
"""Clocks from the first round key of a block to its last."""

Draws = data.ArrayLayout(DRAW_BITS, SLOTS_PER_WORD)
"""draws[lane]: bits 3:0 phase, bits 15:4 threshold draw."""


def swapped(value):
    """Bytes of `value` in reverse order: the counter block is big-endian, columns are little-endian."""
    return Cat(reversed([value[i : i + 8] for i in range(0, len(value), 8)]))


class Keystream(wiring.Component):
    """Draw 16 bits for every slot; the draws of a slot follow from key, nonce, stream and slot index alone.

    The counter block is that of `qrelay.protocol.choice`. Its block index is slot index / 8 modulo 2^45, so that it
    wraps where the 48-bit slot index wraps. A run that would come back to its first block (2^48 slots, 10.7 days)
    stops shortly before that instead of using a block twice.

    Latency: `latency` words. `go` in word t: the draws of slots start_slot to start_slot + 3 are at `draws` in word
    t + latency, and each later word brings the next four. `draws` is zero while `valid` is 0.
    Reset: no key, stopped.
    Overflow: none.

    Key. Words written to the key window take effect with `config.load`: it stops the stream, drops `ready`, and
    `expansion_latency` words later `ready` is back. They should not be written in the first eight words after `load`.
    Nothing leads from the key to an output, except through the cipher.

    A second key. `prepare` expands the words of the key window beside the key in use, which goes on; the change comes
    with the first block after `expansion_latency` words, or at once where nothing runs. In a run no slot is lost: the
    run goes on with the same nonce and stream, and the nonce counts as used under the new key too. Without a run the
    new key takes any nonce. `scrub` expands beside the key in use without a change, to overwrite what was there. Until
    `settled` neither may be given again; `config.load` ends both.

    No key. `unload` acts like `config.load` on what the key window then holds, but that is no key: the stream stops,
    and `ready` stays low until the next `config.load` or change, as after reset.

    Freshness. `fresh` says that `go` may be given: key expanded, `config.enable` set, and `config.nonce` larger than
    the last nonce that a `go` used under this key; a newly loaded key takes any nonce. It follows nonce and enable by
    one word and falls in the word after `go`. `go` without `fresh` starts nothing, and stops what runs. `go` with
    `fresh` uses up the nonce that was found fresh, that of the word before, and starts anew even while running; stream
    and start slot are taken as they are in the word of `go`. Later changes act at the next `go`.

    Parameters
    ----------
    block_bits : int
        Width of the block index; less than 45 only to see it wrap in a test.

    Ports
    -----
    config : In(config_layout("keystream"))
    key : table_write("key")
    go : In(1)
        One word, the word of the start.
    halt : In(1)
        Stop at once; also wins over a `go` in the same word. A stopped keystream soon toggles nothing.
    start_slot : In(48)
        A multiple of 8 (bits 2:0 are ignored).
    prepare, scrub, unload : In(1)
        One word.
    settled : Out(1)
        Nothing is being prepared or scrubbed.
    first, first_slot : Out(1), Out(48)
        One word: the draws from this slot on are those of the key in use, at a start and at a change in a run.
    draws : Out(Draws)
    valid : Out(1)
    ready : Out(1)
        Key expanded.
    fresh : Out(1)
        Nonce usable.
    """

    config: In(config_layout("keystream"))
    key: table_write("key")
    go: In(1)
    halt: In(1)
    start_slot: In(SLOT_BITS)
    prepare: In(1)
    scrub: In(1)
    unload: In(1)
    settled: Out(1)
    first: Out(1)
    first_slot: Out(SLOT_BITS)
    draws: Out(Draws)
    valid: Out(1)
    ready: Out(1)
    fresh: Out(1)

    latency = 2 + Aes256Pipeline.latency
    expansion_latency = KeyExpansion.latency

    def __init__(self, block_bits: int = FULL_BLOCK_BITS):
        self._block_bits = block_bits
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.expansion = expansion = KeyExpansion()
        m.submodules.pipeline = pipeline = Aes256Pipeline()
        m.submodules.key_store = key_store = Memory(shape=32, depth=window("key").depth, init=[])
        key_write = key_store.write_port()
        key_read = key_store.read_port(domain="comb")
        load = Signal()
        has_key = Signal()
        m.d.comb += [
            key_write.addr.eq(self.key.address),
            key_write.data.eq(self.key.value),
            key_write.en.eq(self.key.enable),
            key_read.addr.eq(expansion.key_index),
            expansion.key_word.eq(key_read.data),
            load.eq(self.config.load | self.unload),
            expansion.load.eq(load | self.prepare | self.scrub),
            pipeline.keys.eq(expansion.keys),
        ]
        # A block needs round key n three clocks after round key n - 1: its bank travels along with it.
        bank = Signal()
        travelling = Signal(KEY_TRAVEL)
        beside = Signal()
        changing = Signal()
        was_ready = Signal()
        change = Signal()
        m.d.sync += travelling.eq(Cat(bank, travelling))
        m.d.comb += [
            expansion.bank.eq(bank ^ beside),
            expansion.shown.eq(Cat(bank, travelling)[::ROUND_CLOCKS]),
            self.ready.eq(has_key & Mux(beside, was_ready, expansion.ready)),
            self.settled.eq(~beside),
        ]

        active = Signal()
        phase = Signal()
        filling = Signal(range(Aes256Pipeline.latency))
        full = Signal()
        starting = Signal()
        m.d.comb += starting.eq(self.go & self.fresh & ~self.halt & ~load)

        # The nonce that was found fresh is the one that is used, whatever is written in between.
        nonce = Signal(64)
        nonce_used = Signal(64)
        any_used = Signal()
        m.d.sync += [
            nonce.eq(self.config.nonce),
            self.fresh.eq(
                self.ready & self.config.enable & (~any_used | (self.config.nonce > nonce_used)) & ~starting & ~load
            ),
        ]
        with m.If(load | (change & ~active)):
            m.d.sync += any_used.eq(0)
        with m.Elif(starting):
            m.d.sync += [nonce_used.eq(nonce), any_used.eq(1)]

        block = Signal(self._block_bits)
        last_block = Signal(self._block_bits)
        run_nonce = Signal(64)
        run_stream = Signal(16)
        counter_block = swapped(Cat(block, Const(0, BLOCK_BITS - self._block_bits), run_stream, run_nonce))
        m.d.comb += [
            pipeline.enable.eq(active),
            pipeline.phase.eq(phase),
            pipeline.plain.as_value().eq(counter_block),
        ]
        second_half = Signal(64, reset_less=True)
        with m.If(active):
            m.d.sync += phase.eq(~phase)
            with m.If(full):
                m.d.sync += [
                    self.valid.eq(1),
                    self.draws.as_value().eq(Mux(phase, second_half, pipeline.cipher.as_value()[:64])),
                ]
            with m.Else():
                m.d.sync += [
                    filling.eq(filling + 1),
                    full.eq(filling == Aes256Pipeline.latency - 1),
                ]
            with m.If(phase):
                m.d.sync += block.eq(block + 1)
            with m.Else():
                m.d.sync += second_half.eq(pipeline.cipher.as_value()[64:])

        first_block = self.start_slot[SLOT_BITS - FULL_BLOCK_BITS :][: self._block_bits]
        at_last = Signal()
        m.d.sync += at_last.eq(block == last_block)
        stopping = self.go | self.halt | load | (active & phase & at_last)
        # Row 14 is written in the clock after `ready` rises, and read 42 clocks after a change.
        may_change = ~self.go & ~load & (~active | (phase & ~stopping))
        m.d.comb += change.eq(changing & expansion.ready & may_change)
        with m.If(load):
            m.d.sync += [beside.eq(0), changing.eq(0), has_key.eq(~self.unload)]
        with m.Elif(self.prepare | self.scrub):
            m.d.sync += [beside.eq(1), changing.eq(self.prepare), was_ready.eq(self.ready)]
        with m.Elif(beside & expansion.ready & (change | ~changing)):
            m.d.sync += [beside.eq(0), changing.eq(0), bank.eq(bank ^ changing), has_key.eq(has_key | changing)]
        m.d.sync += [
            self.first.eq(starting | (change & active)),
            self.first_slot[BLOCK_PLACE_BITS:].eq(Mux(starting, first_block, block + 1)),
        ]

        with m.If(stopping):
            m.d.sync += [
                active.eq(0),
                self.valid.eq(0),
                self.draws.as_value().eq(0),
            ]
        with m.If(starting):
            m.d.sync += [
                active.eq(1),
                phase.eq(0),
                filling.eq(0),
                full.eq(0),
                block.eq(first_block),
                last_block.eq(first_block - 1),
                run_nonce.eq(nonce),
                run_stream.eq(self.config.stream),
            ]
        return m
