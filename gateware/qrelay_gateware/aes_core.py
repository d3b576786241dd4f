"""A small AES-256: one block in about a hundred clocks, with a memory of expanded keys that nothing can read."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.entropy import CONDITIONING_KEY, KEY_PLACES

from .aes import BLOCK_RAM, KEY_WORDS, ROUND_KEY_WORDS, ROUNDS, SBOX, Columns
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["CONDITIONING_PLACE", "AesCore", "CoreCommand", "expanded"]

CONDITIONING_PLACE = KEY_PLACES
"""Place of the constant key with which raw samples are conditioned: behind those of the keys made here."""

_PLACE_WORDS = 64
_PLACE_BITS = 3
_ISSUE_TO_RESULT = 3
"""Clocks from the choice of what is looked up to what came of it: address, table, register behind the table."""
_ROUND_CLOCKS = 4 + _ISSUE_TO_RESULT
_WORD_CLOCKS = 1 + _ISSUE_TO_RESULT


class CoreCommand(enum.Enum, shape=3):
    """What the core is told to do."""

    ENCRYPT = 0
    """Encrypt `plain` with the key at `place`."""
    STORE = 1
    """Take `plain` as words 4 * half to 4 * half + 3 of the key at `place`."""
    EXPAND = 2
    """Expand the key at `place`."""
    COPY = 3
    """Give the eight words of the key at `place` to the keystream."""
    ERASE = 4
    """Overwrite the key at `place` with zeros."""


def expanded(key: bytes) -> list[int]:
    """The 60 round-key words of an AES-256 key (FIPS 197, 5.2), columns as little-endian words."""
    words = [int.from_bytes(key[4 * n : 4 * n + 4], "little") for n in range(KEY_WORDS)]
    constant = 1
    for n in range(KEY_WORDS, ROUND_KEY_WORDS):
        word = words[-1]
        if n % KEY_WORDS == 0:
            word = word >> 8 | word << 24 & 0xFFFFFFFF
        if n % 4 == 0:
            word = sum(SBOX[word >> 8 * row & 0xFF] << 8 * row for row in range(4))
        if n % KEY_WORDS == 0:
            word ^= constant
            constant <<= 1
        words.append(words[n - KEY_WORDS] ^ word)
    return words


def _times_x(byte):
    """Product of a byte with x in GF(2^8) (FIPS 197, 4.2)."""
    return Cat(byte[7], byte[0] ^ byte[7], byte[1], byte[2] ^ byte[7], byte[3] ^ byte[7], byte[4:7])


def _mixed(column):
    """MixColumns of one column (FIPS 197, 5.1.3)."""
    twice = Cat(_times_x(column.word_select(row, 8)) for row in range(4))
    return twice ^ (column ^ twice).rotate_right(8) ^ column.rotate_right(16) ^ column.rotate_right(24)


class AesCore(wiring.Component):
    """AES-256 (FIPS 197) a column at a time, and the keys that were made on board.

    One command at a time. Nothing leads from the key memory to an output but the cipher, and `key_word`, which goes
    to the keystream's own key store.

    Latency: `latency(command)` clocks from `start` to `done`.
    Reset: the key memory holds zeros and the conditioning key.
    Overflow: `start` while `busy` is not heard.

    Ports
    -----
    start, command, place : In(1), In(CoreCommand), In(3)
    half : In(1)
        For STORE.
    plain : In(Columns)
        For ENCRYPT and STORE; taken with `start`.
    cipher : Out(Columns)
        Of the last ENCRYPT, from `done` until the clock of the next `start`.
    key_valid, key_index, key_word : Out(1), Out(3), Out(32)
        Words of a key, at COPY.
    busy, done : Out(1)
        `done` for one clock, the first in which `busy` is low again.
    """

    start: In(1)
    command: In(CoreCommand)
    place: In(_PLACE_BITS)
    half: In(1)
    plain: In(Columns)
    cipher: Out(Columns)
    key_valid: Out(1)
    key_index: Out(3)
    key_word: Out(32)
    busy: Out(1)
    done: Out(1)

    @staticmethod
    def latency(command: CoreCommand) -> int:
        """Clocks from `start` to `done`."""
        return (
            1
            + {
                CoreCommand.ENCRYPT: (ROUNDS + 1) * _ROUND_CLOCKS,
                CoreCommand.STORE: 4,
                CoreCommand.EXPAND: (ROUND_KEY_WORDS - KEY_WORDS + 1) * _WORD_CLOCKS,
                CoreCommand.COPY: KEY_WORDS + _ISSUE_TO_RESULT,
                CoreCommand.ERASE: _PLACE_WORDS,
            }[command]
        )

    def elaborate(self, platform):
        m = Module()
        conditioning = CONDITIONING_PLACE * _PLACE_WORDS
        m.submodules.keys = keys = Memory(
            shape=32,
            depth=_PLACE_WORDS << _PLACE_BITS,
            init=[0] * conditioning + expanded(CONDITIONING_KEY),
            attrs=BLOCK_RAM | ANY_ON_COLLISION,
        )
        key_write = keys.write_port()
        m.submodules.sbox_low = low = Memory(shape=8, depth=256, init=SBOX, attrs=BLOCK_RAM)
        m.submodules.sbox_high = high = Memory(shape=8, depth=256, init=SBOX, attrs=BLOCK_RAM)
        sbox = [low.read_port(), low.read_port(), high.read_port(), high.read_port()]

        command = Signal(CoreCommand)
        place = Signal(_PLACE_BITS)
        half = Signal()
        step = Signal(range(_PLACE_WORDS))
        index = Signal(range(ROUND_KEY_WORDS))
        state = Signal(Columns)
        m.d.comb += self.cipher.eq(state)

        # What is looked up in this clock comes back three clocks later: address, table, register behind it.
        asked = Signal(32, reset_less=True)
        once = Signal(32, reset_less=True)
        key_offset = Signal(range(_PLACE_WORDS))
        key_place = Signal(_PLACE_BITS)
        # No word is read in the clock in which it is written.
        key = slow_read(m, keys, Cat(key_offset, key_place), name="key")
        m.d.comb += [port.addr.eq(asked.word_select(row, 8)) for row, port in enumerate(sbox)]
        m.d.sync += [key_place.eq(place), once.eq(Cat(port.data for port in sbox))]

        write = Signal()
        write_offset = Signal(range(_PLACE_WORDS))
        write_word = Signal(32, reset_less=True)
        m.d.comb += [
            key_write.en.eq(write),
            key_write.addr.eq(Cat(write_offset, key_place)),
            key_write.data.eq(write_word),
        ]
        m.d.sync += write.eq(0)

        last_step = Signal(range(_PLACE_WORDS))
        ends = Signal()
        m.d.comb += ends.eq(step == last_step)
        finishing = Signal()
        m.d.sync += self.done.eq(finishing)
        with m.If(self.busy):
            m.d.sync += step.eq(Mux(ends, 0, step + 1))
            with m.Switch(command):
                with m.Case(CoreCommand.ENCRYPT):
                    self._encrypt(m, step, ends, index, state, asked, once, key_offset, key)
                    m.d.comb += [last_step.eq(_ROUND_CLOCKS - 1), finishing.eq(ends & (index == ROUNDS))]
                with m.Case(CoreCommand.EXPAND):
                    self._expand(m, step, ends, index, state, asked, key_offset)
                    with m.If(ends & (index != KEY_WORDS - 1)):
                        m.d.sync += [write.eq(1), write_offset.eq(index)]
                    new = self._new_word(m, index, state, once, key)
                    m.d.sync += write_word.eq(new)
                    with m.If(ends):
                        m.d.sync += state[0].eq(new)
                    m.d.comb += [last_step.eq(_WORD_CLOCKS - 1), finishing.eq(ends & (index == ROUND_KEY_WORDS - 1))]
                with m.Case(CoreCommand.STORE):
                    m.d.sync += [write.eq(1), write_offset.eq(Cat(step[:2], half)), write_word.eq(state[step[:2]])]
                    m.d.comb += [last_step.eq(3), finishing.eq(ends)]
                with m.Case(CoreCommand.COPY):
                    m.d.sync += key_offset.eq(step)
                    m.d.comb += [
                        self.key_valid.eq(step >= _ISSUE_TO_RESULT),
                        self.key_index.eq(step - _ISSUE_TO_RESULT),
                        last_step.eq(KEY_WORDS + _ISSUE_TO_RESULT - 1),
                        finishing.eq(ends),
                    ]
                with m.Case(CoreCommand.ERASE):
                    m.d.sync += [write.eq(1), write_offset.eq(step), write_word.eq(0)]
                    m.d.comb += [last_step.eq(_PLACE_WORDS - 1), finishing.eq(ends)]
        m.d.comb += self.key_word.eq(key)
        with m.If(finishing):
            m.d.sync += self.busy.eq(0)
        with m.If(self.start & ~self.busy):
            m.d.sync += [
                self.busy.eq(1),
                command.eq(self.command),
                place.eq(self.place),
                half.eq(self.half),
                step.eq(0),
                index.eq(Mux(self.command == CoreCommand.EXPAND, KEY_WORDS - 1, 0)),
                state.eq(self.plain),
            ]
        return m

    def _encrypt(self, m, step, ends, index, state, asked, once, key_offset, key):
        """A round: four columns are looked up, then come back; round 0 only adds the key."""
        with m.If(ends):
            m.d.sync += index.eq(index + 1)
        m.d.sync += key_offset.eq(Cat(step[:2], index[:4]))
        with m.Switch(step):
            for column in range(4):
                with m.Case(column):
                    # ShiftRows: row r of column c comes from column c + r.
                    rows = [state[(column + row) % 4].word_select(row, 8) for row in range(4)]
                    m.d.sync += asked.eq(Cat(rows))
        substituted = Mux(index == ROUNDS, once, _mixed(once))
        with m.Switch(step):
            for column in range(4):
                with m.Case(column + _ISSUE_TO_RESULT):
                    m.d.sync += state[column].eq(Mux(index == 0, state[column], substituted) ^ key)

    def _expand(self, m, step, ends, index, state, asked, key_offset):
        """A word of the key: its predecessor in the key and the word before it, at first only the last given word."""
        with m.If(ends):
            m.d.sync += index.eq(index + 1)
        with m.If(step == 0):
            m.d.sync += key_offset.eq(Mux(index == KEY_WORDS - 1, index, index - KEY_WORDS))
            # RotWord in every eighth word.
            m.d.sync += asked.eq(Mux(index[2], state[0], state[0].rotate_right(8)))

    def _new_word(self, m, index, state, once, key):
        """The word that has come back: key word of eight words before, with what FIPS 197 adds to it."""
        constant = Signal(8)
        m.d.comb += constant.eq(Const(1) << index[3:] >> 1)
        added = Signal(32)
        with m.If(index == KEY_WORDS - 1):
            m.d.comb += added.eq(0)
        with m.Elif(index[:3] == 0):
            m.d.comb += added.eq(once ^ constant)
        with m.Elif(index[:3] == 4):
            m.d.comb += added.eq(once)
        with m.Else():
            m.d.comb += added.eq(state[0])
        return key ^ added
