"""Fine delay of the output lines: steps delay elements in the pins to their settings, tap by tap."""

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import FINE_DELAY_TAPS, LINES

from .layouts import config_layout, status_layout

__all__ = ["TURN_WORDS", "FineDelay", "FineDelayPort"]

TURN_WORDS = 32
"""Words that one step of one line takes."""
_DECIDED, _MOVE_FROM, _MOVE_TO = 2, 8, 20
"""Words of a turn after which the direction is set, and in which the move pulse is high."""


class FineDelayPort(data.Struct):
    """Controls of the delay elements, all levels from registers."""

    load_n: 1
    """Low: all elements return to 0 taps."""
    direction: 1
    """0: a move adds a tap, 1: it takes one away."""
    move: LINES
    """A pulse on bit i moves line i by one tap."""


class FineDelay(wiring.Component):
    """Keep the delay element of each line at its setting.

    An element knows single steps only, so this block counts where each one is. The lines take turns of `TURN_WORDS`
    words; in its turn a line that is off its setting moves by one tap: the direction is there six words before and
    eleven after the pulse, which is high for twelve words, so an element may act at either edge of it. Reset and
    `home` hold `load_n` low for a round of all lines, in which all counts return to 0, and the lines then step to their
    settings again.

    Latency: a change of n taps takes at most (n + 1) * LINES * TURN_WORDS words, 0.43 ms for all taps at 76.13 MHz.
    `moving` is high while an element moves or has moved in the last round; it follows a new setting within a round.
    Reset: all elements return to 0 taps.  Overflow: none, a setting is never beyond the element's last tap.

    Ports
    -----
    config, status
        Registers of group `fine_delay`.
    pins : Out(FineDelayPort)
    """

    config: In(config_layout("fine_delay"))
    status: Out(status_layout("fine_delay"))
    pins: Out(FineDelayPort)

    def elaborate(self, platform):
        m = Module()
        m.submodules.taps = taps = Memory(shape=range(FINE_DELAY_TAPS), depth=LINES, init=[])
        write = taps.write_port()
        read = taps.read_port(domain="comb")
        word = Signal(range(TURN_WORDS))
        line = Signal(range(LINES))
        last = Signal()
        m.d.sync += word.eq(word + 1)
        m.d.sync += last.eq(word == TURN_WORDS - 2)
        with m.If(last):
            m.d.sync += line.eq(line + 1)

        # A turn that has begun when `home` comes counts for nothing: one more.
        homing = Signal(range(LINES + 2), init=LINES + 1)
        with m.If(self.config.home):
            m.d.sync += homing.eq(LINES + 1)
        with m.Elif(last & (homing != 0)):
            m.d.sync += homing.eq(homing - 1)

        present = Signal(range(FINE_DELAY_TAPS))
        wanted = Signal.like(present)
        step = Signal()
        down = Signal()
        settings = Array(self.config[f"taps_{i}"] for i in range(LINES))
        m.d.comb += read.addr.eq(line)
        with m.If(word == 0):
            m.d.sync += [present.eq(read.data), wanted.eq(settings[line])]
        with m.If(word == _DECIDED - 1):
            m.d.sync += [step.eq((present != wanted) & (homing == 0)), down.eq(wanted < present)]
        with m.Elif(homing != 0):
            m.d.sync += step.eq(0)
        m.d.comb += [
            write.addr.eq(line),
            write.en.eq(last & (step | (homing != 0))),
            write.data.eq(Mux(homing != 0, 0, Mux(down, present - 1, present + 1))),
        ]
        pulse = Signal()
        m.d.sync += pulse.eq(step & (word >= _MOVE_FROM) & (word < _MOVE_TO))
        for i in range(LINES):
            m.d.sync += self.pins.move[i].eq(pulse & (line == i))
        m.d.sync += [self.pins.direction.eq(down), self.pins.load_n.eq(homing == 0)]

        # Turns since the last move.
        quiet = Signal(range(LINES + 1))
        with m.If(step | (homing != 0)):
            m.d.sync += quiet.eq(0)
        with m.Elif(last & (quiet != LINES)):
            m.d.sync += quiet.eq(quiet + 1)
        m.d.sync += self.status.moving.eq(quiet != LINES)
        return m
