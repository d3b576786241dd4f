"""The engine that carries out requests and answers them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.packets import MAX_WORDS, ErrorCode, PacketKind

from .crc import CRC_BYTES
from .csr import QUERY_LATENCY, READ_LATENCY, BusSignature
from .frame_receiver import RequestHeader
from .packet_stream import PacketByte

__all__ = ["SETTLE_CLOCKS", "CommandEngine"]

_WORDS_OFFSET = 4
"""Place of the first word in a WRITE packet: behind kind, sequence and address."""
SETTLE_CLOCKS = 64
"""Clocks from the last word of a WRITE to its answer, so that all effects of the write come before the answer: the
longest is the copying of counters."""


class CommandEngine(wiring.Component):
    """Carry out READ and WRITE requests, one at a time, and answer each.

    All addresses of a request are checked before any of its words acts. A WRITE is answered when it has taken effect.

    Latency: a READ of n words is answered within about 13 n clocks if the answers are taken as they come.
    Reset: idle.  Overflow: none; a request waits while answers are not taken.

    Ports
    -----
    valid, header, address, value, done
        The packet, from `FrameReceiver`.
    bus : Out(BusSignature)
        To the register bank.
    answers : Out(stream.Signature(PacketByte))
        Answers, without CRC.
    refused : Out(1)
        One clock for each request answered with ERROR.
    """

    valid: In(1)
    header: In(RequestHeader)
    address: Out(8)
    value: In(8)
    done: Out(1)
    bus: Out(BusSignature)
    answers: Out(stream.Signature(PacketByte))
    refused: Out(1)

    def elaborate(self, platform):
        m = Module()
        header = self.header
        is_write = Signal()
        is_read = Signal()
        bad_length = Signal()
        words = Signal(range(MAX_WORDS + 1))
        left = Signal(range(MAX_WORDS + 1))
        cursor = Signal(16)
        answer_kind = Signal(8)
        body_byte = Signal(8)
        word = Signal(32)
        step = Signal(range(max(SETTLE_CLOCKS, READ_LATENCY, 8)))
        accepted = Signal()
        m.d.comb += accepted.eq(self.answers.valid & self.answers.ready)
        m.d.comb += self.bus.address.eq(cursor)
        m.d.comb += self.bus.write_value.eq(word)

        write_bytes = Signal(9)
        write_words = Signal(7)
        m.d.comb += write_bytes.eq(header.length - (_WORDS_OFFSET + CRC_BYTES))
        m.d.comb += write_words.eq(write_bytes >> 2)

        queried = Signal(QUERY_LATENCY)
        bad_address = Signal()

        def refuse(code: ErrorCode) -> None:
            m.d.sync += answer_kind.eq(PacketKind.ERROR)
            m.d.sync += body_byte.eq(code)
            m.d.comb += self.refused.eq(1)
            m.next = "ANSWER_KIND"

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += is_write.eq(header.kind == PacketKind.WRITE)
                m.d.sync += cursor.eq(header.address)
                m.d.sync += bad_address.eq(0)
                with m.If(self.valid):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                # The sums of the lengths take a clock of their own.
                m.d.sync += is_read.eq(header.kind == PacketKind.READ)
                with m.If(is_write):
                    m.d.sync += words.eq(write_words)
                    m.d.sync += left.eq(write_words)
                    # A borrow (fewer bytes than an address) sets the top bit and so fails the upper limit.
                    m.d.sync += bad_length.eq((write_bytes[:2] != 0) | (write_words == 0) | (write_words > MAX_WORDS))
                with m.Else():
                    m.d.sync += words.eq(header.count)
                    m.d.sync += left.eq(header.count)
                    m.d.sync += bad_length.eq(
                        (header.length != 5 + CRC_BYTES) | (header.count == 0) | (header.count > MAX_WORDS)
                    )
                m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "QUERY"
                with m.If(~is_write & ~is_read):
                    refuse(ErrorCode.UNKNOWN_KIND)
                with m.Elif(bad_length):
                    refuse(ErrorCode.BAD_LENGTH)
            with m.State("QUERY"):
                m.d.comb += self.bus.query.eq(left != 0)
                m.d.sync += queried.eq(Cat(self.bus.query, queried[:-1]))
                with m.If(left != 0):
                    m.d.sync += left.eq(left - 1)
                    m.d.sync += cursor.eq(cursor + 1)
                    with m.If(cursor[len(self.bus.address) :].any()):
                        m.d.sync += bad_address.eq(1)
                with m.If(queried[-1] & ~Mux(is_write, self.bus.writable, self.bus.mapped)):
                    m.d.sync += bad_address.eq(1)
                with m.If((left == 0) & ~queried.any()):
                    m.d.sync += left.eq(words)
                    m.d.sync += cursor.eq(header.address)
                    m.d.sync += step.eq(0)
                    with m.If(bad_address):
                        refuse(ErrorCode.BAD_ADDRESS)
                    with m.Elif(is_write):
                        m.d.sync += self.address.eq(_WORDS_OFFSET)
                        m.d.sync += answer_kind.eq(PacketKind.WRITE_DONE)
                        m.d.sync += body_byte.eq(words)
                        m.next = "FETCH"
                    with m.Else():
                        m.d.sync += answer_kind.eq(PacketKind.READ_DATA)
                        m.next = "ANSWER_KIND"

            with m.State("FETCH"):
                # Four bytes, addressed in steps 0 to 3, arrive in steps 2 to 5.
                m.d.sync += step.eq(step + 1)
                with m.If(step < 4):
                    m.d.sync += self.address.eq(self.address + 1)
                m.d.sync += word.eq(Cat(word[8:], self.value))
                with m.If(step == 5):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += self.bus.write.eq(1)
                m.d.sync += cursor.eq(cursor + 1)
                m.d.sync += left.eq(left - 1)
                m.d.sync += step.eq(0)
                with m.If(left == 1):
                    m.next = "SETTLE"
                with m.Else():
                    m.next = "FETCH"
            with m.State("SETTLE"):
                m.d.sync += step.eq(step + 1)
                with m.If(step == SETTLE_CLOCKS - 1):
                    m.next = "ANSWER_KIND"

            with m.State("ANSWER_KIND"):
                m.d.comb += self.answers.valid.eq(1)
                m.d.comb += self.answers.payload.value.eq(answer_kind)
                with m.If(accepted):
                    m.next = "ANSWER_SEQUENCE"
            with m.State("ANSWER_SEQUENCE"):
                m.d.comb += self.answers.valid.eq(1)
                m.d.comb += self.answers.payload.value.eq(header.sequence)
                with m.If(accepted):
                    with m.If(answer_kind == PacketKind.READ_DATA):
                        m.next = "READ"
                    with m.Else():
                        m.next = "ANSWER_BODY"
            with m.State("ANSWER_BODY"):
                m.d.comb += self.answers.valid.eq(1)
                m.d.comb += self.answers.payload.value.eq(body_byte)
                m.d.comb += self.answers.payload.last.eq(1)
                with m.If(accepted):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"

            with m.State("READ"):
                m.d.comb += self.bus.read.eq(1)
                m.d.sync += cursor.eq(cursor + 1)
                m.d.sync += left.eq(left - 1)
                m.d.sync += step.eq(0)
                m.next = "READ_WAIT"
            with m.State("READ_WAIT"):
                m.d.sync += step.eq(step + 1)
                with m.If(step == READ_LATENCY - 1):
                    m.d.sync += word.eq(self.bus.read_value)
                    m.d.sync += step.eq(0)
                    m.next = "ANSWER_WORD"
            with m.State("ANSWER_WORD"):
                m.d.comb += self.answers.valid.eq(1)
                m.d.comb += self.answers.payload.value.eq(word[:8])
                m.d.comb += self.answers.payload.last.eq((step == 3) & (left == 0))
                with m.If(accepted):
                    m.d.sync += word.eq(word >> 8)
                    m.d.sync += step.eq(step + 1)
                    with m.If((step == 3) & (left == 0)):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
                    with m.Elif(step == 3):
                        m.next = "READ"
        return m
