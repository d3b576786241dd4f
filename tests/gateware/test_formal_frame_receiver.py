"""Proof: the receiving side of the link presents a frame iff it is whole and sound.

By induction over frames of any length: a frame is presented iff it came from zero byte to zero byte with right
stuffing, length and CRC, and then byte for byte as it was on the wire; every other frame is counted as what it is.
"""

import zlib

import pytest
from amaranth.hdl import Array, Assert, Cat, Mux, Signal
from amaranth.sim import Simulator
from formal import Harness, mutant, proves
from unstuffed import Unstuffed

from qrelay.protocol.packets import MAX_PACKET_BYTES, cobs_encode, frame_packet
from qrelay_gateware import frame_receiver
from qrelay_gateware.cobs import CobsDecoder
from qrelay_gateware.crc import CRC_BYTES, CRC_INIT, CRC_RESIDUE, crc32_next
from qrelay_gateware.frame_receiver import FrameReceiver

MIN_PACKET_BYTES = 2 + CRC_BYTES
SOUND = frame_packet(1, 0)
DAMAGED = SOUND[:3] + b"\x55" + SOUND[4:]
CUT = frame_packet(0x81, 0x82)
CUT = bytes((CUT[0] + 1,)) + CUT[1:]
"""Its only block lacks a byte; what is there has the right CRC."""
SHORT = cobs_encode(b"\x81" + zlib.crc32(b"\x81").to_bytes(4, "little")) + b"\0"
FULL = bytes(range(1, MAX_PACKET_BYTES - CRC_BYTES + 1))
FULL += zlib.crc32(FULL).to_bytes(4, "little")
LONG = b"\xff" + FULL + b"\x02\x81\0"
"""One byte too many; what fits has the right CRC."""
assert 0 not in FULL
assert cobs_encode(FULL) == LONG[: len(FULL) + 1]
assert 0 not in CUT[:-1]
assert CUT[0] == len(CUT)


class ReceiverHarness(Harness):
    """Bytes from the wire at any time; one arbitrary byte of the packet is followed into the buffer."""

    def __init__(self, receiver=FrameReceiver, *, simulated=False):
        super().__init__()
        self.receiver = receiver
        self.simulated = simulated
        self.with_invariants = not simulated
        self.holds = Signal()

    def elaborate(self, platform):
        m = self.module()
        self.dut = dut = self.receiver()
        place = self.constant(m, 8, "place")
        kept = self.add_watched(m, "dut", dut, place, 256)
        rx_valid = self.free(1, "rx_valid")
        byte = self.free(8, "byte")
        done = self.free(1, "done")
        address = self.free(8, "address")
        m.d.comb += [
            dut.rx.valid.eq(rx_valid),
            dut.rx.payload.eq(byte),
            dut.done.eq(done),
            dut.address.eq(address),
        ]
        # The followed byte is read out: it was asked for one or two clocks ago, and the packet has been there since.
        asked = self.register(m, dut.valid & (address == place), "asked")
        read = self.register(m, dut.valid & asked, "read")
        taken = Signal()
        m.d.comb += taken.eq(rx_valid & dut.rx.ready)
        frame = Unstuffed(m, taken, byte, "frame")

        length = Signal(9)
        """Bytes of the packet so far; MAX_PACKET_BYTES + 1 stands for more."""
        crc = Signal(32, init=CRC_INIT)
        mark = Signal(8)
        started = Signal()
        cut = Signal()
        after_end = Signal(3)
        """Clocks since the frame's zero byte, up to 2; 3 while it is presented, 4 when it is forgotten."""
        fits = length < MAX_PACKET_BYTES
        with m.If(frame.emit):
            m.d.sync += length.eq(Mux(fits, length + 1, MAX_PACKET_BYTES + 1))
            with m.If(fits):
                m.d.sync += crc.eq(crc32_next(crc, frame.value))
            with m.If(fits & (length == place)):
                m.d.sync += mark.eq(frame.value)
        with m.If(taken):
            m.d.sync += started.eq(byte != 0)
        with m.If(frame.ends):
            m.d.sync += [cut.eq(frame.remaining != 0), after_end.eq(1)]
        was_frame = Signal()
        m.d.sync += was_frame.eq(started)
        whole = Signal()
        long = Signal()
        m.d.comb += [
            long.eq(length > MAX_PACKET_BYTES),
            whole.eq(~cut & ~long & (length >= MIN_PACKET_BYTES) & (crc == CRC_RESIDUE)),
        ]
        with m.Switch(after_end):
            with m.Case(1):
                m.d.sync += after_end.eq(Mux(was_frame, 2, 0))
            with m.Case(2):
                m.d.sync += after_end.eq(Mux(whole, 3, 4))
            with m.Case(3):
                with m.If(done):
                    m.d.sync += after_end.eq(4)
            with m.Case(4):
                m.d.sync += [after_end.eq(0), length.eq(0), crc.eq(CRC_INIT)]

        header = [
            dut.header.kind,
            dut.header.sequence,
            dut.header.address[:8],
            dut.header.address[8:],
            dut.header.count,
        ]
        claims = [
            (dut.received == ((after_end == 2) & whole)),
            (dut.overlong == ((after_end == 2) & long)),
            (dut.damaged == ((after_end == 2) & ~whole & ~long)),
            (dut.valid == (after_end == 3)),
            (dut.rx.ready == (after_end == 0)),
            (~dut.valid | (dut.header.length == length)),
            (~dut.valid | (place >= length) | (kept == mark)),
            (~(dut.valid & read) | (place >= length) | (dut.value == mark)),
            *(
                ~dut.valid | (place != n) | (place >= length) | (kept_byte == mark)
                for n, kept_byte in enumerate(header)
            ),
        ]
        m.d.comb += self.holds.eq(Cat(claims).all())
        if not self.simulated:
            m.d.comb += Assert(self.holds)

        # The decoder is one clock behind the wire, and the receiver's registers behind it.
        comes = self.peek(1, "dut.decoder.valid")
        value = self.peek(8, "dut.decoder.value")
        state = self.peek(3, "dut.fsm_state")
        own_crc = self.peek(32, "dut.crc")
        own_length = dut.header.length
        own_long = self.peek(1, "dut.too_long")
        stored = own_length < MAX_PACKET_BYTES
        self.invariant(m, after_end <= 4)
        self.invariant(m, state == Array([0, 1, 2, 4, 3])[after_end])
        self.invariant(m, self.peek(8, "dut.decoder.remaining") == frame.remaining)
        self.invariant(m, self.peek(1, "dut.decoder.zero_owed") == frame.owed)
        self.invariant(m, self.peek(1, "dut.decoder.started") == started)
        self.invariant(m, ~comes | (after_end == 0))
        self.invariant(m, (after_end == 0) | ~started)
        self.invariant(m, (after_end != 1) | (self.peek(1, "dut.decoder.end") == was_frame))
        self.invariant(m, (after_end != 1) | (self.peek(1, "dut.decoder.cut") == cut))
        self.invariant(m, own_length <= MAX_PACKET_BYTES)
        self.invariant(m, ~own_long | ~stored)
        self.invariant(m, length == Mux(own_long | (comes & ~stored), MAX_PACKET_BYTES + 1, own_length + comes))
        self.invariant(m, crc == Mux(comes & stored, crc32_next(own_crc, value), own_crc))
        self.invariant(m, (place >= own_length) | (kept == mark))
        self.invariant(m, (place != own_length) | ~comes | ~stored | (value == mark))
        for number, header_byte in enumerate(header):
            self.invariant(m, (place != number) | (own_length <= number) | (header_byte == mark))
        self.invariant(m, ~(dut.valid & asked) | (place >= length) | (self.peek(8, "dut.asked_found") == mark))
        sound = self.peek(1, "dut.sound")
        self.invariant(m, (after_end != 2) | long | (sound == whole))
        self.invariant(m, (after_end != 3) | whole)
        # Nothing has begun without a code byte, and a frame of nothing is no frame.
        self.invariant(m, started | (after_end != 0) | (length == 0))
        self.invariant(m, started | ((frame.remaining == 0) & ~frame.owed))
        self.invariant(m, (length != 0) | (after_end != 0) | (crc == CRC_INIT))
        self.invariant(m, (after_end != 1) | was_frame | (length == 0))
        return m


def test_receiver_presents_whole_frames_only(tmp_path):
    proves(ReceiverHarness(), tmp_path, clocks=3, induction=True)


def holds(receiver, wire, places=MIN_PACKET_BYTES):
    """Simulate the harness with these bytes on the wire, place after place; whether all claims hold in every clock.

    A solver takes very long to find a packet with its CRC, so the traces that break the mutants are given.
    """
    for place in range(places):
        harness = ReceiverHarness(receiver, simulated=True)
        sim = Simulator(harness.elaborate(None))
        sim.add_clock(1e-6)
        inputs = {signal.name: signal for signal in harness.inputs}

        held = []

        async def drive(ctx, harness=harness, inputs=inputs, place=place, held=held):
            ctx.set(inputs["place"], place)
            ctx.set(inputs["rx_valid"], 1)
            ctx.set(inputs["done"], 1)
            for byte in wire:
                ctx.set(inputs["byte"], byte)
                taken = False
                while not taken:
                    *_, taken, holds = await ctx.tick().sample(harness.dut.rx.ready, harness.holds)
                    held.append(holds)

        sim.add_testbench(drive)
        sim.run()
        if not all(held):
            return False
    return True


@pytest.mark.parametrize("wire", [SOUND, DAMAGED + SOUND, CUT + SOUND, SHORT + SOUND, b"\0" + SOUND + b"\0\0"])
def test_receiver_on_the_traces_of_the_mutants(wire):
    assert holds(FrameReceiver, wire)


def test_receiver_drops_and_counts_overlong_frames():
    assert holds(FrameReceiver, LONG + SOUND + b"\0", places=1)


@pytest.mark.parametrize(
    ("old", "new", "wire"),
    [
        ("~decoder.cut & ", "", CUT),
        ("& (crc == CRC_RESIDUE)", "", DAMAGED),
        ("(length >= 2 + CRC_BYTES)", "(length >= 1 + CRC_BYTES)", SHORT),
        # A packet cut to what fits; a frame that is too long spoils the next one.
        ("m.d.sync += too_long.eq(1)", "pass", LONG),
        ("m.d.sync += too_long.eq(0)", "pass", LONG + SOUND),
        ("m.d.sync += length.eq(0)", "pass", SOUND + SOUND),
        ("m.d.sync += crc.eq(CRC_INIT)", "pass", SOUND + SOUND),
        ("m.d.comb += write.data.eq(decoder.value)", "m.d.comb += write.data.eq(decoder.value & 0x7F)", SOUND),
    ],
)
def test_receiver_mutants(old, new, wire):
    assert not holds(mutant(FrameReceiver, old, new), wire + b"\0")


@pytest.mark.parametrize(
    ("old", "new", "wire"),
    [
        ("m.d.sync += self.cut.eq(remaining != 0)", "m.d.sync += self.cut.eq(0)", CUT),
        ("m.d.sync += self.valid.eq(zero_owed)", "m.d.sync += self.valid.eq(0)", SOUND),
    ],
)
def test_receiver_mutants_of_the_decoder(monkeypatch, old, new, wire):
    monkeypatch.setattr(frame_receiver, "CobsDecoder", mutant(CobsDecoder, old, new))
    assert not holds(FrameReceiver, wire + b"\0")
