"""Draws of given slots once more, for the station's own host, from keys that it keeps and nobody can read."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.choice import BLOCK_BITS, DRAW_BITS
from qrelay.protocol.entropy import KEY_PLACES
from qrelay.protocol.units import SLOT_BITS, SLOTS_PER_BLOCK
from qrelay.protocol.windows import window

from .aes_core import CoreCommand
from .keys import CoreUser
from .keystream import BLOCK_PLACE_BITS, swapped
from .layouts import bit_layout, config_layout, table_write
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["Regenerator"]

_DEPTH = window("offsets").depth


class Regenerator(wiring.Component):
    """Answer a list of slots with their draws.

    `config.regenerate` n takes the first n offsets, adds each to `config.regenerate_base`, and writes the draw of that
    slot under `regenerate_nonce` and `regenerate_stream` with the key at `regenerate_place` to the same entry of the
    answers, bit 16 set; an entry is 0 where that place holds no key. The counter block is that of
    `qrelay.protocol.choice`. Settings and offsets must rest until `answered` is n.

    Latency: about 120 words per slot, more while a key is being made.  Reset: nothing answered; answers keep what they
    hold.  Overflow: `regenerate` while busy begins anew.

    Ports
    -----
    config : In(config_layout("entropy"))
    offsets : table_write("offsets")
    address, value : In(8), Out(32)
        Answers; `value` is what stood at `address` two clocks before.
    keys : In(KEY_PLACES)
        Places that hold a key.
    core : Out(CoreUser)
    answered : Out(9)
        Entries answered since `regenerate`.
    busy : Out(1)
    """

    config: In(config_layout("entropy"))
    offsets: table_write("offsets")
    address: In(range(_DEPTH))
    value: Out(32)
    keys: In(KEY_PLACES)
    core: Out(CoreUser)
    answered: Out(range(_DEPTH + 1))
    busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.questions = questions = Memory(shape=32, depth=_DEPTH, init=[], attrs=ANY_ON_COLLISION)
        m.submodules.answers = answers = Memory(
            shape=bit_layout(window("draws").entry), depth=_DEPTH, init=[], attrs=ANY_ON_COLLISION
        )
        question_write, answer_write = questions.write_port(), answers.write_port()
        left = Signal(range(_DEPTH + 1))
        slot = Signal(SLOT_BITS)
        m.d.comb += [
            question_write.addr.eq(self.offsets.address),
            question_write.data.eq(self.offsets.value),
            question_write.en.eq(self.offsets.enable),
            answer_write.addr.eq(self.answered),
            self.core.command.eq(CoreCommand.ENCRYPT),
            self.core.place.eq(self.config.regenerate_place),
            self.busy.eq(left.any() | self.config.regenerate.any()),
        ]
        question = slow_read(m, questions, self.answered, name="question")
        m.d.comb += self.value.eq(slow_read(m, answers, self.address, name="answer"))
        block = slot[BLOCK_PLACE_BITS:]
        m.d.comb += self.core.plain.as_value().eq(
            swapped(
                Cat(
                    block,
                    Const(0, BLOCK_BITS - len(block)),
                    self.config.regenerate_stream,
                    self.config.regenerate_nonce,
                )
            )
        )
        draws = data.View(data.ArrayLayout(DRAW_BITS, SLOTS_PER_BLOCK), self.core.cipher)
        draw = Array(draws[n] for n in range(SLOTS_PER_BLOCK))[slot[:BLOCK_PLACE_BITS]]
        known = Signal()
        m.d.sync += known.eq(Array(self.keys)[self.config.regenerate_place])
        # `regenerate` in the middle of an answer: that answer is one to a question of before, and counts for nothing.
        stale = Signal()
        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If((left != 0) & ~self.config.regenerate.any()):
                    m.next = "READ"
            with m.State("READ"):  # the offset is there in the clock that follows
                m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += slot.eq(self.config.regenerate_base + question)
                m.next = "ENCRYPT"
            with m.State("ENCRYPT"):
                m.d.comb += self.core.request.eq(1)
                with m.If(self.core.taken):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(self.core.done):
                    m.d.sync += [answer_write.data.draw.eq(Mux(known, draw, 0)), answer_write.data.answered.eq(known)]
                    m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(~stale):
                    m.d.comb += answer_write.en.eq(1)
                    m.d.sync += [self.answered.eq(self.answered + 1), left.eq(left - 1)]
                m.d.sync += stale.eq(0)
                m.next = "IDLE"
        with m.If(self.config.regenerate.any()):
            m.d.sync += [
                left.eq(self.config.regenerate),
                self.answered.eq(0),
                stale.eq(~(fsm.ongoing("IDLE") | fsm.ongoing("WRITE"))),
            ]
        return m
