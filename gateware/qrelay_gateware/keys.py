"""Keys made on board: from raw samples to the keystream, kept until told otherwise, then erased."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.entropy import CONDITIONING_BLOCKS, KEY_PLACES
from qrelay.protocol.windows import window

from .aes import Columns
from .aes_core import CONDITIONING_PLACE, CoreCommand
from .layouts import config_layout

__all__ = ["CoreUser", "KeyKeeper"]

_BLOCK_BITS = Columns.size
_KEY_WORDS = window("key").depth

CoreUser = wiring.Signature(
    {
        "request": Out(1),
        "command": Out(CoreCommand),
        "place": Out(3),
        "half": Out(1),
        "plain": Out(Columns),
        "taken": In(1),
        "done": In(1),
        "cipher": In(Columns),
    }
)
"""A user of the small AES: holds `request` with its command until `taken`; `done` then tells the end of it."""


class KeyKeeper(wiring.Component):
    """Make keys from raw samples, hand them to the keystream, keep them and erase them.

    Conditioning (SP 800-90B 3.1.5.1.1 and appendix F): CBC-MAC with AES-256 over `CONDITIONING_BLOCKS` blocks of 128
    samples gives one half of a key; the other half takes as many new samples. Samples that arrive during an encryption
    are not used. The bit of sample n of a block is bit n of the block as a little-endian number.

    `config.make`, or `interval`, makes a key at a free place, which takes 2 * 16 * 128 samples and some, and hands it
    to the keystream with `prepare`. No key is made where the source is not healthy, no place is free, samples are
    being recorded, or `config.on_board` is 0; what was begun is then erased, and `not_made` tells.
    `config.erase` erases the keys of a mask, everywhere; that of the keystream only while nothing is armed or runs, and
    the keystream then holds none.

    Latency: a key takes its samples and about 4000 words.  Reset: no keys.  Overflow: commands while one of their kind
    is under way are joined to it.

    Ports
    -----
    config : In(config_layout("entropy"))
    valid, sample, healthy : In(1)
        Raw samples that may be used, and whether they may be trusted.
    interval : In(1)
        One word: make a key, if none is being made.
    in_use : In(1)
        The station is armed or running.
    host_load : In(1)
        The host loads a key of its own into the keystream.
    core : Out(CoreUser)
    prepare, scrub, unload : Out(1)
        To the keystream: see there.
    settled : In(1)
        Of the keystream.
    zero, zero_address : Out(1), Out(3)
        Overwrite this word of the keystream's key store with zero.
    on_board : Out(1)
        The keystream holds a key made here.
    keys : Out(KEY_PLACES)
        Places that hold a key.
    place, number : Out(3), Out(32)
        Of the key of the draws that the keystream reports (its `first`): place, and how many keys were made up to it.
    making, erase_refused, not_made : Out(1)
        A key is being made; the last `erase` named the key in use; one word: no key was made.
    busy : Out(1)
    """

    config: In(config_layout("entropy"))
    valid: In(1)
    sample: In(1)
    healthy: In(1)
    interval: In(1)
    in_use: In(1)
    host_load: In(1)
    core: Out(CoreUser)
    prepare: Out(1)
    scrub: Out(1)
    unload: Out(1)
    settled: In(1)
    zero: Out(1)
    zero_address: Out(range(_KEY_WORDS))
    on_board: Out(1)
    keys: Out(KEY_PLACES)
    place: Out(3)
    number: Out(32)
    making: Out(1)
    erase_refused: Out(1)
    not_made: Out(1)
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        core = self.core
        gathered = Signal(_BLOCK_BITS)
        bits = Signal(range(_BLOCK_BITS))
        blocks = Signal(range(CONDITIONING_BLOCKS))
        half = Signal()
        new = Signal(range(KEY_PLACES))
        current = Signal(range(KEY_PLACES))
        made = Signal(32)
        words = Signal(range(_KEY_WORDS))
        delivering = Signal()
        dropping = Signal()
        """The key that is being erased is one that was not finished."""
        emptied = Signal()
        """The keystream's own key is among those being erased."""
        m.d.comb += [
            core.plain.eq(gathered),
            core.half.eq(half),
            core.place.eq(new),
            self.place.eq(Mux(delivering & self.settled, new, current)),
            self.number.eq(Mux(delivering & self.settled, made + 1, made)),
        ]

        make = Signal()
        erase = Signal(KEY_PLACES)
        with m.If((self.config.make | self.interval) & ~self.making):
            m.d.sync += make.eq(1)
        # The key in use is spared, whether it was in use when its erasure was ordered or is by now.
        spared = Signal(KEY_PLACES)
        erased = Signal(KEY_PLACES)
        wanted = erase | self.config.erase
        m.d.comb += spared.eq(Mux(self.in_use & self.on_board, 1 << current, 0))
        m.d.sync += erase.eq(wanted & ~spared & ~erased)
        with m.If((wanted & spared).any()):
            m.d.sync += self.erase_refused.eq(1)
        with m.Elif(self.config.erase.any()):
            m.d.sync += self.erase_refused.eq(0)
        with m.If(self.host_load):
            m.d.sync += self.on_board.eq(0)
        usable = Signal()
        m.d.sync += [usable.eq(self.healthy & self.config.on_board & ~self.config.record), self.not_made.eq(0)]
        m.d.sync += [self.prepare.eq(0), self.scrub.eq(0), self.unload.eq(0)]

        def run(command, following, place=None):
            """States of one command of the core."""
            name = command.name
            with m.State(name):
                m.d.comb += [core.request.eq(1), core.command.eq(command)]
                if place is not None:
                    m.d.comb += core.place.eq(place)
                with m.If(core.taken):
                    m.next = f"{name}_WAIT"
            with m.State(f"{name}_WAIT"):
                with m.If(core.done):
                    following()

        def after_encrypt():
            m.d.sync += [gathered.eq(core.cipher), blocks.eq(blocks + 1)]
            with m.If(blocks == CONDITIONING_BLOCKS - 1):
                m.next = "STORE"
            with m.Else():
                m.next = "COLLECT"

        def after_store():
            m.d.sync += [gathered.eq(0), half.eq(~half)]
            with m.If(half):
                m.next = "EXPAND"
            with m.Else():
                m.next = "COLLECT"

        def after_expand():
            m.next = "COPY"

        def after_copy():
            with m.If(usable):
                m.d.sync += [self.prepare.eq(1), delivering.eq(1)]
                m.next = "PREPARE"
            with m.Else():
                m.d.sync += dropping.eq(1)
                m.next = "ZERO"

        def after_erase():
            m.d.comb += erased.eq(1 << new)
            m.d.sync += self.keys.eq(self.keys & ~(1 << new))
            with m.If(dropping):
                m.d.sync += [dropping.eq(0), self.making.eq(0), self.not_made.eq(1)]
                m.next = "IDLE"
            with m.Else():
                m.next = "SCRUB"

        m.d.comb += self.busy.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(make | erase.any() | self.config.make | self.config.erase.any())
                m.d.sync += [gathered.eq(0), bits.eq(0), blocks.eq(0), half.eq(0)]
                with m.If((erase & ~spared).any()):
                    for candidate in reversed(range(KEY_PLACES)):
                        with m.If(erase[candidate] & ~spared[candidate]):
                            m.d.sync += [
                                new.eq(candidate),
                                emptied.eq(self.on_board & (current == candidate)),
                            ]
                    m.next = "SELECTED"
                with m.Elif(make):
                    m.d.sync += make.eq(0)
                    for candidate in reversed(range(KEY_PLACES)):
                        with m.If(~self.keys[candidate]):
                            m.d.sync += new.eq(candidate)
                    with m.If(usable & ~self.keys.all()):
                        m.d.sync += self.making.eq(1)
                        m.next = "COLLECT"
                    with m.Else():
                        m.d.sync += self.not_made.eq(1)
            with m.State("COLLECT"):
                with m.If(~usable):
                    m.d.sync += dropping.eq(1)
                    m.next = "ERASE"
                with m.Elif(self.valid):
                    m.d.sync += [
                        gathered.eq(Cat(gathered[1:], gathered[0] ^ self.sample)),
                        bits.eq(bits + 1),
                    ]
                    with m.If(bits == _BLOCK_BITS - 1):
                        m.next = "ENCRYPT"
            run(CoreCommand.ENCRYPT, after_encrypt, CONDITIONING_PLACE)
            run(CoreCommand.STORE, after_store)
            run(CoreCommand.EXPAND, after_expand)
            run(CoreCommand.COPY, after_copy)
            with m.State("PREPARE"):  # the keystream hears of it in this clock
                m.next = "SETTLE"
            with m.State("SETTLE"):
                with m.If(self.settled):
                    m.d.sync += [
                        delivering.eq(0),
                        current.eq(new),
                        made.eq(made + 1),
                        self.keys.eq(self.keys | 1 << new),
                        self.on_board.eq(1),
                        self.making.eq(0),
                    ]
                    m.next = "ZERO"
            with m.State("ZERO"):
                m.d.comb += [self.zero.eq(1), self.zero_address.eq(words)]
                m.d.sync += words.eq(words + 1)
                with m.If(words == _KEY_WORDS - 1):
                    with m.If(dropping):
                        m.next = "ERASE"
                    with m.Else():
                        m.next = "IDLE"
            with m.State("SELECTED"):
                # Without a key on board the station does not arm; what was armed until that took effect keeps its key.
                m.d.sync += words.eq(words + 1)
                with m.If(emptied):
                    m.d.sync += self.on_board.eq(0)
                with m.If(words == _KEY_WORDS - 1):
                    m.next = "ERASE"
                    with m.If(emptied & self.in_use):
                        m.d.comb += erased.eq(1 << new)
                        m.d.sync += [self.on_board.eq(1), emptied.eq(0), self.erase_refused.eq(1)]
                        m.next = "IDLE"
            run(CoreCommand.ERASE, after_erase)
            with m.State("SCRUB"):
                m.d.sync += self.scrub.eq(1)
                m.next = "SCRUBBED"
            with m.State("SCRUBBED"):  # the keystream hears of it in this clock
                m.next = "UNLOAD"
            with m.State("UNLOAD"):
                with m.If(self.settled):
                    m.d.sync += [self.unload.eq(emptied), emptied.eq(0)]
                    m.next = "IDLE"
        return m
