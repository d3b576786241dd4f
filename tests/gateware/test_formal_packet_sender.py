"""Proof: the sending side of the link puts whole packets on the wire, with their CRC, one after the other.

By induction over packets of any length and any pauses: the arbiter does not let packets interleave, the appender adds
the CRC of its packet, and the encoder sends exactly the stuffing of a packet, from its first byte to its zero byte, and
begins with it only when the packet is complete.
"""

import pytest
from amaranth.hdl import Array, Assert, Assume, C, Cat, Module, Mux, Signal
from amaranth.lib import data
from formal import Harness, mutant, proves, refutes

from qrelay_gateware.cobs import CobsEncoder
from qrelay_gateware.crc import CRC_BYTES, CRC_INIT, CrcAppender, crc32_next
from qrelay_gateware.packet_stream import PacketArbiter, PacketByte

POLYNOMIAL = 0x04C11DB7
"""Of IEEE 802.3."""


def serial_crc(m: Module, register, byte):
    """CRC register after one more byte, bit by bit as the standard has it: bit 31 leaves first."""
    for place in range(8):
        after = Signal(32, name=f"crc_{place}")
        m.d.comb += after.eq(Cat(0, register[:31]) ^ Mux(register[31] ^ byte[place], POLYNOMIAL, 0))
        register = after
    return register


class CrcHarness(Harness):
    """Any register, any byte; the gateware keeps the register with its bits reversed."""

    def elaborate(self, platform):
        m = self.module()
        register = self.free(32, "register")
        byte = self.free(8, "byte")
        stepped = serial_crc(m, register, byte)
        m.d.comb += Assert(crc32_next(register[::-1], byte) == stepped[::-1])
        return m


def test_crc_step_is_that_of_the_standard(tmp_path):
    proves(CrcHarness(), tmp_path, clocks=1, induction=False)


class _Tag(data.Struct):
    """What a byte on its way to the wire is: its place in its frame, the half of the buffer, and what it must be."""

    place: 8
    half: 1
    last: 1
    value: 8


class EncoderHarness(Harness):
    """Packets of 1 to 254 bytes with pauses on both sides; one arbitrary place of one half of the buffer is followed.

    Byte `place` of a frame has to be the byte before it of the packet, or where that is 0 (and at place 0) the distance
    to the next zero of the packet or to its end, or 0 as the last one.
    """

    any_contents = True

    def __init__(self, encoder=CobsEncoder):
        super().__init__()
        self.encoder = encoder

    def elaborate(self, platform):
        m = self.module()
        dut = self.encoder()
        place = self.constant(m, 8, "place")
        half = self.constant(m, 1, "half")
        kept = self.add_watched(m, "dut", dut, Cat(place, half), 512)
        valid = self.free(1, "valid")
        item = self.free(PacketByte, "item")
        ready = self.free(1, "ready")
        m.d.comb += [dut.packets.valid.eq(valid), dut.packets.payload.eq(item), dut.out.ready.eq(ready)]
        full = self.peek(2, "dut.full")
        state = self.peek(2, "dut.fsm_state")
        filled = self.peek(8, "dut.place")
        code_place = self.peek(8, "dut.code_place")
        fill_half = self.peek(1, "dut.fill_half")
        send_half = self.peek(1, "dut.send_half")
        send_place = self.peek(8, "dut.send_place")
        fetched = self.peek(1, "dut.fetched")
        fetched_byte = self.peek(8, "dut.fetched_found")
        last_places = [self.peek(8, f"dut.last_place_{n}") for n in range(2)]
        last_sent = Mux(send_half, last_places[1], last_places[0])
        filling, delimiting = state == 0, state == 2

        # Packets as they come in, whatever the block makes of them: the place of each byte in its frame, which packets
        # are whole and not yet read to their end, and what the followed place has to hold.
        put = Signal()
        coming = Signal(8, init=1)
        coming_half = Signal()
        whole = Signal(2)
        byte = Signal(8)
        last_zero = Signal(8)
        next_zero = Signal(8)
        end = Signal(8)
        wanted = Signal(8)
        latest_zero = Mux(item.value == 0, coming, last_zero)
        m.d.comb += [
            put.eq(valid & dut.packets.ready),
            Assume(~put | item.last | (coming < 254)),
            wanted.eq(Mux((place == 0) | (byte == 0), next_zero - place, byte)),
            # No packet is taken in place of one that has not been read.
            Assert(~put | ~whole.bit_select(coming_half, 1)),
        ]
        with m.If(put):
            m.d.sync += coming.eq(Mux(item.last, 1, coming + 1))
            m.d.sync += last_zero.eq(Mux(item.last, 0, latest_zero))
            with m.If(item.last):
                m.d.sync += [coming_half.eq(~coming_half), whole.bit_select(coming_half, 1).eq(1)]
            with m.If(coming_half == half):
                with m.If(coming == place):
                    m.d.sync += byte.eq(item.value)
                with m.If((item.value == 0) & (last_zero == place)):
                    m.d.sync += next_zero.eq(coming)
                with m.If(item.last):
                    m.d.sync += end.eq(coming + 1)
                    with m.If(latest_zero == place):
                        m.d.sync += next_zero.eq(coming + 1)

        # Frames as they go out: byte after byte, half after half, and each byte what it has to be.
        tag = Signal(_Tag)
        ahead = Signal(_Tag)
        shown = Signal(_Tag)
        due = Signal(_Tag)
        """Place and half of the byte that must be the next on the wire."""
        free = ~dut.out.valid | ready
        fetch = full.bit_select(send_half, 1) & (~fetched | free)
        m.d.comb += [
            tag.place.eq(send_place),
            tag.half.eq(send_half),
            tag.last.eq(send_place == last_sent),
            tag.value.eq(Mux(place == end, 0, wanted)),
        ]
        with m.If(fetch):
            m.d.sync += ahead.eq(tag)
            with m.If(tag.last):
                m.d.sync += whole.bit_select(send_half, 1).eq(0)
        with m.If(free & fetched):
            m.d.sync += shown.eq(ahead)

        def after(tag):
            return Mux(tag.last, Cat(C(0, 8), ~tag.half), Cat((tag.place + 1)[:8], tag.half))

        def position(tag):
            return Cat(tag.place, tag.half)

        with m.If(dut.out.valid & ready):
            m.d.sync += [position(due).eq(after(shown))]
        is_followed = (shown.place == place) & (shown.half == half)
        m.d.comb += [
            Assert(~dut.out.valid | (position(shown) == position(due))),
            Assert(~(dut.out.valid & is_followed) | (dut.out.payload == shown.value)),
            # A frame begins when its packet is whole, and ends behind its last byte only, which alone is zero.
            Assert(~fetch | whole.bit_select(send_half, 1)),
            Assert(~(fetch & (send_half == half)) | (tag.last == (send_place == end))),
            Assert(~(dut.out.valid & is_followed) | ((dut.out.payload == 0) == shown.last)),
        ]

        self.invariant(m, state <= 2)
        self.invariant(m, coming_half == (fill_half ^ ~filling))
        self.invariant(m, whole == (full | Mux(filling, 0b00, Mux(fill_half, 0b10, 0b01))))
        self.invariant(m, Mux(filling, (filled == coming) & (code_place == last_zero), filled >= 2))
        self.invariant(m, filling | ((coming == 1) & (last_zero == 0)))
        self.invariant(m, (code_place < filled) & (coming >= 1) & (coming <= 254) & (last_zero < coming))
        self.invariant(m, ~full.bit_select(fill_half, 1) | (filling & (coming == 1)))
        self.invariant(m, (full == 0b11) | (full == 0) | (full.bit_select(send_half, 1) & (fill_half != send_half)))
        self.invariant(m, (full == 0b01) | (full == 0b10) | (fill_half == send_half))
        self.invariant(m, Mux(full.bit_select(send_half, 1), send_place <= last_sent, send_place == 0))
        # The followed half while it is filled and when it is full.
        of_half = (fill_half == half) & ~full.bit_select(half, 1)
        is_full = full.bit_select(half, 1)
        stuffed = (place == 0) | (byte == 0)
        is_open = place == code_place
        known = of_half & (place < filled)
        self.invariant(m, ~is_full | (Mux(half, last_places[1], last_places[0]) == end))
        self.invariant(m, ~of_half | filling | (end == filled))
        self.invariant(m, ~known | ~is_open | stuffed)
        self.invariant(m, ~known | (place <= code_place) | ~stuffed)
        self.invariant(m, ~known | is_open | (kept == wanted))
        self.invariant(m, ~known | is_open | ~stuffed | ((next_zero > place) & (next_zero < filled)))
        self.invariant(m, ~known | ~is_open | filling | (next_zero == filled))
        self.invariant(m, ~(known & delimiting) | (kept == wanted))
        self.invariant(m, ~is_full | (place > end) | (kept == Mux(place == end, 0, wanted)))
        self.invariant(m, ~is_full | (place >= end) | ~stuffed | ((next_zero > place) & (next_zero <= end)))
        in_ahead = (ahead.place == place) & (ahead.half == half)
        self.invariant(m, ~(fetched & in_ahead) | (fetched_byte == ahead.value))
        self.invariant(m, ~(fetched & in_ahead) | ((ahead.value == 0) == ahead.last))
        follows = Mux(dut.out.valid, after(shown), position(due))
        self.invariant(m, ~fetched | (position(ahead) == follows))
        self.invariant(m, Cat(send_place, send_half) == Mux(fetched, after(ahead), follows))
        return m


def test_encoder(tmp_path):
    proves(EncoderHarness(), tmp_path, clocks=2, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # A packet is closed before its last byte, or only with the end of the next one.
        ("with m.If(self.packets.payload.last):", "with m.If(self.packets.payload.last | (place == 3)):"),
        ("with m.If(self.packets.payload.last):", "with m.If(self.packets.payload.last & (place != 2)):"),
        # A packet overwrites one that is not sent; a half that is not full is sent; wrong stuffing; no zero byte.
        ("m.d.comb += self.packets.ready.eq(~full.bit_select(fill_half, 1))", "m.d.comb += self.packets.ready.eq(1)"),
        ("m.d.comb += fetch.eq(full.bit_select(send_half, 1) & ", "m.d.comb += fetch.eq("),
        ("m.d.sync += code_place.eq(place)\n", "pass\n"),
        ("with m.If(send_place == last_place[send_half]):", "with m.If(send_place + 1 == last_place[send_half]):"),
    ],
)
def test_encoder_mutants(tmp_path, old, new):
    refutes(EncoderHarness(mutant(CobsEncoder, old, new)), tmp_path, clocks=14)


class AppenderHarness(Harness):
    """Packets of any length: what leaves is what came, and then its CRC, before anything else is taken."""

    def __init__(self, appender=CrcAppender):
        super().__init__()
        self.appender = appender

    def elaborate(self, platform):
        m = self.module()
        m.submodules.dut = dut = self.appender()
        valid = self.free(1, "valid")
        item = self.free(PacketByte, "item")
        ready = self.free(1, "ready")
        m.d.comb += [dut.packets.valid.eq(valid), dut.packets.payload.eq(item), dut.out.ready.eq(ready)]
        # Traces of mutants are found sooner where the CRC depends on the packet's length alone.
        m.d.comb += Assume(self.with_invariants | (item.value == 0))
        crc = Signal(32, init=CRC_INIT)
        owed = Signal(range(CRC_BYTES + 1))
        """Bytes of the CRC that have to follow."""
        crc_bytes = [crc.word_select(n, 8) for n in range(CRC_BYTES)]
        with m.If(owed == 0):
            m.d.comb += [
                Assert(dut.out.valid == valid),
                Assert(dut.packets.ready == ready),
                Assert(~valid | ((dut.out.payload.value == item.value) & ~dut.out.payload.last)),
            ]
            with m.If(valid & ready):
                m.d.sync += [crc.eq(crc32_next(crc, item.value)), owed.eq(Mux(item.last, CRC_BYTES, 0))]
        with m.Else():
            m.d.comb += [
                Assert(dut.out.valid & ~dut.packets.ready),
                Assert(dut.out.payload.value == ~Array([*crc_bytes, crc_bytes[0]])[(CRC_BYTES - owed)[:3]]),
                Assert(dut.out.payload.last == (owed == 1)),
            ]
            with m.If(ready):
                m.d.sync += owed.eq(owed - 1)
                with m.If(owed == 1):
                    m.d.sync += crc.eq(CRC_INIT)
        self.invariant(m, owed <= CRC_BYTES)
        self.invariant(m, self.peek(1, "dut.appending") == (owed != 0))
        self.invariant(m, self.peek(2, "dut.place") == Mux(owed == 0, 0, CRC_BYTES - owed)[:2])
        own = self.peek(32, "dut.register")
        for left in range(CRC_BYTES + 1):
            done = CRC_BYTES - left if left else 0
            self.invariant(m, (owed != left) | (own[: 32 - 8 * done] == crc[8 * done :]))
        return m


def test_appender(tmp_path):
    proves(AppenderHarness(), tmp_path, clocks=3, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.out.payload.last.eq(place == CRC_BYTES - 1)", "self.out.payload.last.eq(place == CRC_BYTES - 2)"),
        ("m.d.sync += register.eq(CRC_INIT)", "pass"),
        ("m.d.sync += appending.eq(self.packets.payload.last)", "m.d.sync += appending.eq(0)"),
    ],
)
def test_appender_mutants(tmp_path, old, new):
    refutes(AppenderHarness(mutant(CrcAppender, old, new)), tmp_path, clocks=8)


class ArbiterHarness(Harness):
    """Two streams of packets of any length with pauses: bytes of one packet follow each other."""

    def __init__(self, arbiter=PacketArbiter):
        super().__init__()
        self.arbiter = arbiter

    def elaborate(self, platform):
        m = self.module()
        m.submodules.dut = dut = self.arbiter()
        ready = self.free(1, "ready")
        m.d.comb += dut.out.ready.eq(ready)
        inside = []
        put = []
        for name, source in (("first", dut.first), ("second", dut.second)):
            valid = self.free(1, f"{name}_valid")
            item = self.free(PacketByte, f"{name}_item")
            m.d.comb += [source.valid.eq(valid), source.payload.eq(item)]
            # A byte that was offered stays until it is taken, as streams have it.
            waits = self.register(m, valid & ~source.ready, f"{name}_waits")
            offered = self.register(m, item.as_value(), f"{name}_offered")
            m.d.comb += Assume(~waits | (valid & (item.as_value() == offered)))
            taken = Signal(name=f"{name}_taken")
            m.d.comb += taken.eq(valid & source.ready)
            under_way = Signal(name=f"{name}_under_way")
            with m.If(taken):
                m.d.sync += under_way.eq(~item.last)
                m.d.comb += Assert(dut.out.valid & ready & (dut.out.payload.as_value() == item.as_value()))
            inside.append(under_way)
            put.append(taken)
        m.d.comb += [
            Assert(~(put[0] & put[1])),
            Assert(~(inside[0] & put[1])),
            Assert(~(inside[1] & put[0])),
            Assert((dut.out.valid & ready) == (put[0] | put[1])),
        ]
        busy = self.peek(1, "dut.busy")
        second = self.peek(1, "dut.chose_second")
        self.invariant(m, ~inside[0] | (busy & ~second))
        self.invariant(m, ~inside[1] | (busy & second))
        return m


def test_arbiter(tmp_path):
    proves(ArbiterHarness(), tmp_path, clocks=3, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("self.out.ready & self.out.payload.last)", "self.out.ready)"),
        ("with m.If(chose_second == code):", "with m.If((chose_second == code) | (code == 0)):"),
    ],
)
def test_arbiter_mutants(tmp_path, old, new):
    refutes(ArbiterHarness(mutant(PacketArbiter, old, new)), tmp_path, clocks=8)
