"""AES-256 (FIPS 197): a pipeline that encrypts one block every two clocks, and its key expansion.

A round is three clocks: table read, table output register, MixColumns with round key. Three is odd, so an engine that
takes a new block every second clock finds its table free for that block's second round: seven engines of two rounds
each serve a block every two clocks with every table busy in every clock.

Words are columns of the state, 32 bits, row 0 in bits 7:0, so that a block of 16 bytes is four little-endian words.
"""

from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["SBOX", "Aes256Pipeline", "Columns", "KeyExpansion", "RoundKeys"]

ROUNDS = 14
KEY_WORDS = 8
ROUND_KEY_WORDS = 4 * (ROUNDS + 1)
ENGINES = ROUNDS // 2
ROUND_CLOCKS = 3

Columns = data.ArrayLayout(32, 4)
"""A block: four columns, byte 4 * column + row."""
RoundKeys = data.ArrayLayout(Columns, ROUNDS + 1)

BLOCK_RAM = {"rom_style": "block", "ram_style": "block"}
"""Without these the tables become 28 k look-up tables."""
LUT_RAM = {"ram_style": "distributed"}
"""Without this memories of two rows become registers."""


def _times_x(byte: int) -> int:
    """Product with x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197, 4.2)."""
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


_REDUCED = (1, 3, 4)
"""Bits of a product with x that depend on two bits of the byte, where the polynomial 0x11B was subtracted or not."""


def _pick(byte: int, bits: tuple[int, ...]) -> int:
    return sum((byte >> bit & 1) << place for place, bit in enumerate(bits))


def _twice(column, reduced):
    """Product of the four bytes of `column` with x; `reduced` has bits `_REDUCED` of each, three a byte."""
    products = []
    for row in range(4):
        byte = column.word_select(row, 8)
        bits = [byte[7], *byte[:7]]
        for place, bit in enumerate(_REDUCED):
            bits[bit] = reduced[3 * row + place]
        products += bits
    return Cat(products)


def _make_sbox() -> tuple[int, ...]:
    """Inverse in GF(2^8), then the affine map (FIPS 197, 5.1.1)."""
    powers = [1]
    while len(powers) < 255:  # powers of x + 1, which generates the multiplicative group
        powers.append(powers[-1] ^ _times_x(powers[-1]))
    inverse = {power: powers[-exponent % 255] for exponent, power in enumerate(powers)} | {0: 0}
    sbox = []
    for byte in range(256):
        b = inverse[byte] * 0x101  # twice in a row: a right shift is then a rotation
        sbox.append((b ^ b >> 4 ^ b >> 5 ^ b >> 6 ^ b >> 7) & 0xFF ^ 0x63)
    return tuple(sbox)


SBOX = _make_sbox()


class Aes256Pipeline(wiring.Component):
    """Encrypt one block every two clocks.

    Latency: in a clock with `phase` 0 the block at `plain` enters; its ciphertext is at `cipher` `latency` clocks
    later, for that one clock (a clock with `phase` 0 again).
    Reset: the state registers keep what they hold; the contents mean nothing until a block has passed.
    Overflow: none; with `enable` 0 no table is read, so that all registers come to rest within three clocks. They have
    no clock enable: it would have three thousand loads all over the die.

    The table holds S(x) and, beside it, the three bits of 2 S(x) that are not bits of S(x): a block RAM with two ports
    of 18 bits has room for them, and MixColumns is then only XOR.

    Ports
    -----
    enable : In(1)
        Read enable of all tables; a pause loses the blocks under way.
    phase : In(1)
        Must alternate while enabled.
    keys : In(RoundKeys)
        Round keys; may change only while not enabled.
    plain : In(Columns)
    cipher : Out(Columns)
        Not registered: one level of XOR behind a register.
    """

    enable: In(1)
    phase: In(1)
    keys: In(RoundKeys)
    plain: In(Columns)
    cipher: Out(Columns)

    latency = ENGINES * 2 * ROUND_CLOCKS

    def elaborate(self, platform):
        m = Module()
        entries = [s | _pick(_times_x(s), _REDUCED) << 8 for s in SBOX]

        # Every engine has its own phase, one clock behind that of the engine before: one register would have to reach
        # a thousand multiplexers.
        phases = [self.phase, *(Signal(name=f"phase_{engine}") for engine in range(1, ENGINES))]
        with m.If(self.enable):
            m.d.sync += [late.eq(early) for early, late in pairwise(phases)]

        previous = [self.plain[c] ^ self.keys[0][c] for c in range(4)]
        for engine in range(ENGINES):
            state = [Signal(32, name=f"state_{engine}_{c}", reset_less=True) for c in range(4)]
            once = [Signal(32, name=f"once_{engine}_{c}", reset_less=True) for c in range(4)]
            reduced = [Signal(12, name=f"reduced_{engine}_{c}", reset_less=True) for c in range(4)]
            twice = [_twice(once[c], reduced[c]) for c in range(4)]
            mixed = [Signal(32, name=f"mixed_{engine}_{c}") for c in range(4)]
            key_a, key_b = self.keys[2 * engine + 1], self.keys[2 * engine + 2]
            second = ~phases[engine] if engine % 2 else phases[engine]
            last = engine == ENGINES - 1
            for c in range(4):
                found = []
                for row in range(4):
                    if row % 2 == 0:
                        table = Memory(shape=11, depth=256, init=entries, attrs=BLOCK_RAM)
                        m.submodules[f"table_{engine}_{c}_{row}"] = table
                    port = table.read_port()
                    # ShiftRows: row r of column c comes from column c + r.
                    m.d.comb += [
                        port.addr.eq(state[(c + row) % 4][8 * row : 8 * row + 8]),
                        port.en.eq(self.enable),
                    ]
                    found.append(port.data)
                m.d.comb += mixed[c].eq(
                    twice[c]
                    ^ (once[c] ^ twice[c]).rotate_right(8)
                    ^ once[c].rotate_right(16)
                    ^ once[c].rotate_right(24)
                )
                m.d.sync += [
                    once[c].eq(Cat(entry[:8] for entry in found)),
                    reduced[c].eq(Cat(entry[8:] for entry in found)),
                    state[c].eq(Mux(second, mixed[c] ^ key_a[c], previous[c])),
                ]
            if last:  # no MixColumns in the last round
                m.d.comb += [self.cipher[c].eq(once[c] ^ key_b[c]) for c in range(4)]
            else:
                previous = [mixed[c] ^ key_b[c] for c in range(4)]
        return m


class KeyExpansion(wiring.Component):
    """Expand a 256-bit key into the 15 round keys (FIPS 197, 5.2).

    The last eight words are a shift register into which each new word enters at the top, so the words that the
    recurrence needs are always at the same place. Whole round keys go into 15 memories of two banks that are all read
    at once: they map to LUT RAM, and a simulation has nothing to copy while the keys rest. While one bank is in use the
    other can be filled.

    Latency: `ready` rises `latency` clocks after `load`.
    Reset: no key, `ready` 0, round keys all zero.
    Overflow: `load` during an expansion starts it anew with the key of that moment.

    Ports
    -----
    load : In(1)
        Start; `ready` is 0 from the next clock.
    key_index : Out(3), key_word : In(32)
        Read side of the key store: `key_word` must be word `key_index` in the same clock.
    bank : In(1)
        Bank to fill; must not change from `load` to the clock after `ready` rises.
    shown : In(15)
        Bank of each round key at `keys`.
    keys : Out(RoundKeys)
        Those of a filled bank are complete from the clock after `ready` rises, until `load`.
    ready : Out(1)
    """

    load: In(1)
    key_index: Out(3)
    key_word: In(32)
    bank: In(1)
    shown: In(ROUNDS + 1)
    keys: Out(RoundKeys)
    ready: Out(1)

    # 8 words of the key, 52 computed; every fourth of these waits three clocks for its S-boxes.
    latency = 1 + ROUND_KEY_WORDS + 3 * (ROUND_KEY_WORDS - KEY_WORDS) // 4

    def elaborate(self, platform):
        m = Module()
        m.submodules.sbox = sbox = Memory(shape=8, depth=256, init=SBOX, attrs=BLOCK_RAM)
        ports = [sbox.read_port(), sbox.read_port()]

        busy = Signal()
        index = Signal(range(ROUND_KEY_WORDS))
        wait = Signal(2)
        substituted = Signal(32)
        round_constant = Signal(8)
        words = Signal(data.ArrayLayout(32, KEY_WORDS))
        # From registers, because the rows are spread over the die.
        row_complete = Signal(ROUNDS + 1)
        m.d.sync += row_complete.eq(0)
        for row in range(ROUNDS + 1):
            m.submodules[f"row_{row}"] = banks = Memory(shape=128, depth=2, init=[], attrs=LUT_RAM)
            write = banks.write_port()
            read = banks.read_port(domain="comb")
            m.d.comb += [
                write.addr.eq(self.bank),
                write.en.eq(row_complete[row]),
                write.data.eq(Cat(words[-4], words[-3], words[-2], words[-1])),
                read.addr.eq(self.shown[row]),
                self.keys[row].as_value().eq(read.data),
            ]
        m.d.comb += self.key_index.eq(index)

        newest = words[-1]
        oldest = words[0]
        # RotWord in every eighth word: bytes 1, 2, 3, 0. The table takes two bytes per clock.
        turned = Mux(index[2], newest, newest.rotate_right(8))
        new = Signal(32)
        shift = Signal()
        with m.If(busy):
            for k, port in enumerate(ports):
                m.d.comb += [
                    port.en.eq(1),
                    port.addr.eq(Mux(wait[0], turned.word_select(2 + k, 8), turned.word_select(k, 8))),
                ]
            with m.If(index[3:] == 0):
                m.d.comb += [new.eq(self.key_word), shift.eq(1)]
            with m.Elif(index[:2] != 0):
                m.d.comb += [new.eq(oldest ^ newest), shift.eq(1)]
            with m.Else():
                m.d.comb += [
                    new.eq(oldest ^ substituted ^ Mux(index[2], 0, round_constant)),
                    shift.eq(wait == 3),
                ]
                m.d.sync += [
                    wait.eq(wait + 1),
                    # A register behind the block RAM; after two more clocks it holds both halves.
                    substituted.eq(Cat(substituted[16:], *(port.data for port in ports))),
                ]
            # The word that is new enters the shift register in the clock in which its row is marked complete.
            with m.If(shift & (index[:2] == 3)):
                m.d.sync += row_complete.eq(1 << index[2:])
            with m.If(shift):
                m.d.sync += [
                    words.as_value().eq(Cat(words.as_value()[32:], new)),
                    index.eq(index + 1),
                    wait.eq(0),
                ]
                with m.If((index[3:] != 0) & (index[:3] == 0)):
                    m.d.sync += round_constant.eq(round_constant << 1)
                with m.If(index == ROUND_KEY_WORDS - 1):
                    m.d.sync += [busy.eq(0), self.ready.eq(1)]
        with m.If(self.load):
            m.d.sync += [
                busy.eq(1),
                self.ready.eq(0),
                index.eq(0),
                wait.eq(0),
                round_constant.eq(1),
            ]
        return m
