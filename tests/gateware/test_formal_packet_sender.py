"""Proof: the sending side of the link puts whole packets on the wire, with their CRC, one after the other.

The arbiter does not let packets interleave and the appender adds the CRC of its packet, both by induction over packets
of any length. Between two zero bytes the encoder puts exactly one packet as it came in, and begins it only when it is
complete; this is bounded: packets of up to 4 bytes, any pauses, for as long as three packets need.
"""

import pytest
from amaranth.hdl import Array, Assert, Assume, Cat, Module, Mux, Signal
from formal import Harness, mutant, proves, refutes
from unstuffed import Unstuffed

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


class EncoderHarness(Harness):
    """Packets of up to 4 bytes with pauses on both sides; one arbitrary byte of one of the first three is followed."""

    max_bytes = 4
    packets = 3

    def __init__(self, encoder=CobsEncoder):
        super().__init__()
        self.encoder = encoder

    def elaborate(self, platform):
        m = self.module()
        m.submodules.dut = dut = self.encoder()
        valid = self.free(1, "valid")
        item = self.free(PacketByte, "item")
        ready = self.free(1, "ready")
        followed = self.constant(m, range(self.packets + 1), "followed")
        place = self.constant(m, range(self.max_bytes), "place")
        m.d.comb += [dut.packets.valid.eq(valid), dut.packets.payload.eq(item), dut.out.ready.eq(ready)]

        put = Signal()
        bytes_in = Signal(range(self.max_bytes + 1))
        whole_packets = Signal(4)
        mark = Signal(8)
        marked = Signal()
        length = Signal(range(self.max_bytes + 1))
        """Of the followed packet, once it is whole."""
        m.d.comb += [
            put.eq(valid & dut.packets.ready),
            Assume(~put | item.last | (bytes_in < self.max_bytes - 1)),
            Assume(whole_packets <= self.packets),
        ]
        with m.If(put):
            m.d.sync += [bytes_in.eq(Mux(item.last, 0, bytes_in + 1)), whole_packets.eq(whole_packets + item.last)]
            with m.If(whole_packets == followed):
                with m.If(bytes_in == place):
                    m.d.sync += [mark.eq(item.value), marked.eq(1)]
                with m.If(item.last):
                    m.d.sync += length.eq(bytes_in + 1)

        sent = Signal()
        number = Signal(4)
        bytes_out = Signal(range(self.max_bytes + 2))
        m.d.comb += sent.eq(dut.out.valid & ready)
        frame = Unstuffed(m, sent, dut.out.payload, "frame")
        is_followed = number == followed
        with m.If(frame.emit):
            m.d.sync += bytes_out.eq(bytes_out + 1)
            m.d.comb += Assert(~(is_followed & (bytes_out == place)) | (marked & (frame.value == mark)))
            m.d.comb += Assert(~is_followed | (bytes_out < length))
        with m.If(frame.ends):
            m.d.sync += [bytes_out.eq(0), number.eq(number + 1)]
            m.d.comb += Assert(frame.remaining == 0)
            m.d.comb += Assert(~is_followed | (bytes_out == length))
            m.d.comb += Assert(bytes_out != 0)
        m.d.comb += Assert(~dut.out.valid | (number < whole_packets))
        waits = self.register(m, dut.out.valid & ~ready, "waits")
        shown = self.register(m, dut.out.payload, "shown")
        m.d.comb += Assert(~waits | (dut.out.valid & (dut.out.payload == shown)))
        return m


def test_encoder(tmp_path):
    proves(EncoderHarness(), tmp_path, clocks=26, induction=False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m.d.comb += self.packets.ready.eq(~full.bit_select(fill_half, 1))", "m.d.comb += self.packets.ready.eq(1)"),
        ("m.d.comb += read.en.eq(full.bit_select(send_half, 1) & ", "m.d.comb += read.en.eq("),
        ("m.d.sync += code_place.eq(place)\n", "pass\n"),
        ("with m.If(send_place == last_place[send_half]):", "with m.If(send_place + 1 == last_place[send_half]):"),
    ],
)
def test_encoder_mutants(tmp_path, old, new):
    refutes(EncoderHarness(mutant(CobsEncoder, old, new)), tmp_path, clocks=26)


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
