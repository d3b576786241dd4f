"""The pins' gearboxes: eight bins per word and pin, the bin with index 0 earliest.

IDDRX2F and ODDRX2F move four bins per gear clock (FPGA-TN-02035: index 0 is the first on the pin); the gearing here
joins two of these to a word. Data cross between word clock and gear clock held for a whole word and are captured in its
middle.
"""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay_gateware.fine_delay import FineDelayPort
from qrelay_gateware.layouts import LINE_BINS

__all__ = ["OUTPUT_LATENCY", "PIN_LATENCY", "InputGear", "InputPins", "OutputGear", "OutputPins", "pass_along"]

GEAR_BINS = 4
"""Bins per gear clock."""
INPUT_SHIFT_BINS = 1
"""Bins by which received words are moved so that output and input together take whole words: an input takes each bin at
the edge that ends it."""
OUTPUT_LATENCY = 3
"""Words from `OutputPins.words` to the pads, with the models' gearboxes (tests)."""
PIN_LATENCY = 6
"""Words from `OutputPins.words` over a wire shorter than a bin to `InputPins.words`, with the models' gearboxes
(tests). The delays of real pads and gearboxes are measured by a loop from the start output to the start input."""


APPROACH_HOPS = 4
"""Registers on the way of the word phase to the first pin."""


def pass_along(m, capture, users, *, approach=APPROACH_HOPS, between=1, init=0):
    """A copy of the word phase for each of `users`, and that which is passed on behind the last.

    The phase alternates, so that its complement one gear clock later is the phase again. Passed on from user to user,
    by `between` registers each time and `approach` before the first, it never has to cross the die within one gear
    clock, and everyone takes the same half of the word. A user's copy is a register of its own beside that which passes
    on, so that it is placed with its loads, and the longest ways are those between two registers.

    Registers of the same value start from different levels, or synthesis would merge them: copies from the complement
    of `init`, all others from `init`; two chains from one source need different ones.
    """

    def complement(phase, name, init):
        later = Signal(name=name, init=init, reset_less=True)
        m.d.gear += later.eq(~phase)
        return later

    for hop in range(approach):
        capture = complement(capture, f"capture_{hop}", init)
    copies = []
    for user in users:
        copies.append(complement(capture, f"capture_of_{user}", 1 - init))
        for hop in range(between):
            capture = complement(capture, f"capture_{user}_{hop}", init)
    return copies, capture


class OutputGear(wiring.Component):
    """Words to pairs of four bins.

    Latency: a word presented in a word clock period is registered by its end and captured by the gear clock half a
    word later.  Reset: none; once the clocks run and the word phase is found, the stream is in order after one word per
    two pins and hops.

    Ports
    -----
    words : In(ArrayLayout(8, pins))
        Domain ``sync``.
    capture : In(1)
        Word phase of `GearPhase`, domain ``gear``.
    bins : Out(ArrayLayout(4, pins))
        Domain ``gear``.
    capture_onward : Out(1)
        Word phase behind the last pin. Inputs take it from here.
    """

    def __init__(self, pins: int):
        super().__init__(
            {
                "words": In(data.ArrayLayout(LINE_BINS, pins)),
                "capture": In(1),
                "capture_onward": Out(1),
                "bins": Out(data.ArrayLayout(GEAR_BINS, pins)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        captures, onward = pass_along(m, self.capture, range(len(self.words)))
        m.d.comb += self.capture_onward.eq(onward)
        for pin, capture in enumerate(captures):
            held = Signal(LINE_BINS, name=f"held_{pin}", reset_less=True)
            pending = Signal(LINE_BINS, name=f"pending_{pin}", reset_less=True)
            bins = Signal(GEAR_BINS, name=f"bins_{pin}", reset_less=True)
            m.d.sync += held.eq(self.words[pin])
            with m.If(capture):
                m.d.gear += pending.eq(held)
            # Where `capture` is high the capture before is one gear clock old twice over: its second half is due.
            m.d.gear += bins.eq(Mux(capture, pending[GEAR_BINS:], pending[:GEAR_BINS]))
            m.d.comb += self.bins[pin].eq(bins)
        return m


class InputGear(wiring.Component):
    """Pairs of four bins to words.

    Latency: constant; `shift` moves the word boundary by bins (0..7), for which the word before is kept.
    Reset: none.

    Ports
    -----
    bins : In(ArrayLayout(4, pins))
        Domain ``gear``.
    capture : In(1)
        Word phase of `GearPhase`, domain ``gear``.
    words : Out(ArrayLayout(8, pins))
        Domain ``sync``.
    """

    def __init__(self, pins: int, shift: int = INPUT_SHIFT_BINS):
        if not 0 <= shift < LINE_BINS:
            raise ValueError(f"shift {shift}: the word boundary can be moved by 0 to {LINE_BINS - 1} bins")
        self._shift = shift
        super().__init__(
            {
                "bins": In(data.ArrayLayout(GEAR_BINS, pins)),
                "capture": In(1),
                "words": Out(data.ArrayLayout(LINE_BINS, pins)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        captures, _ = pass_along(m, self.capture, range(len(self.words)))
        for pin, capture in enumerate(captures):
            first = Signal(GEAR_BINS, name=f"first_{pin}", reset_less=True)
            held = Signal(LINE_BINS, name=f"held_{pin}", reset_less=True)
            now = Signal(LINE_BINS, name=f"now_{pin}", reset_less=True)
            m.d.gear += first.eq(self.bins[pin])
            with m.If(capture):
                m.d.gear += held.eq(Cat(first, self.bins[pin]))
            m.d.sync += now.eq(held)
            if self._shift:
                before = Signal(LINE_BINS, name=f"before_{pin}", reset_less=True)
                m.d.sync += before.eq(now)
                stream = Cat(before, now)
                m.d.comb += self.words[pin].eq(stream[self._shift : self._shift + LINE_BINS])
            else:
                m.d.comb += self.words[pin].eq(now)
        return m


class OutputPins(wiring.Component):
    """Words of bins to pads, by ODDRX2F and a delay element (DELAYF).

    Every pin has a delay element, so that all have the same way to their pads; those that are not lines stay at 0 taps.

    Ports
    -----
    words : In(ArrayLayout(8, pins))
        Domain ``sync``.
    edge, reset, capture : In(1)
        From `EdgeClockTree`.
    capture_onward : Out(1)
        For `InputPins.capture`, see `OutputGear`.
    fine_delay : In(FineDelayPort)
        Controls of the delay elements of the lines.
    pads : Out(pins)
        To output buffers; low until the gearboxes are released.

    Parameters
    ----------
    pins : int
        Number of pins.
    lines : int
        The first pins that are lines.
    """

    def __init__(self, pins: int, lines: int = 0):
        self._pins = pins
        self._lines = lines
        super().__init__(
            {
                "words": In(data.ArrayLayout(LINE_BINS, pins)),
                "edge": In(1),
                "reset": In(1),
                "capture": In(1),
                "capture_onward": Out(1),
                "fine_delay": In(FineDelayPort),
                "pads": Out(pins),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.gear = gear = OutputGear(self._pins)
        m.d.comb += gear.words.eq(self.words)
        m.d.comb += gear.capture.eq(self.capture)
        m.d.comb += self.capture_onward.eq(gear.capture_onward)
        for pin in range(self._pins):
            adjustable = pin < self._lines
            geared = Signal(name=f"geared_{pin}")
            m.submodules[f"oddr_{pin}"] = Instance(
                "ODDRX2F",
                i_SCLK=ClockSignal("gear"),
                i_ECLK=self.edge,
                i_RST=self.reset,
                **{f"i_D{i}": gear.bins[pin][i] for i in range(GEAR_BINS)},
                o_Q=geared,
            )
            # FPGA-TN-02035: LOADN low returns to DEL_VALUE, a pulse of MOVE is a step, DIRECTION 1 takes a tap away.
            m.submodules[f"delay_{pin}"] = Instance(
                "DELAYF",
                p_DEL_MODE="USER_DEFINED",
                p_DEL_VALUE=0,
                i_A=geared,
                i_LOADN=self.fine_delay.load_n if adjustable else Const(0),
                i_MOVE=self.fine_delay.move[pin] if adjustable else Const(0),
                i_DIRECTION=self.fine_delay.direction if adjustable else Const(0),
                o_Z=self.pads[pin],
            )
        return m


class InputPins(wiring.Component):
    """Pads to words of bins, by IDDRX2F.

    Ports
    -----
    pads : In(pins)
        From input buffers; they feed nothing else.
    edge, reset : In(1)
        From `EdgeClockTree`.
    capture : In(1)
        From `OutputPins.capture_onward`, or from `EdgeClockTree` where there are no outputs.
    words : Out(ArrayLayout(8, pins))
        Domain ``sync``.
    """

    def __init__(self, pins: int):
        self._pins = pins
        super().__init__(
            {
                "pads": In(pins),
                "edge": In(1),
                "reset": In(1),
                "capture": In(1),
                "words": Out(data.ArrayLayout(LINE_BINS, pins)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.gear = gear = InputGear(self._pins)
        m.d.comb += self.words.eq(gear.words)
        m.d.comb += gear.capture.eq(self.capture)
        for pin in range(self._pins):
            m.submodules[f"iddr_{pin}"] = Instance(
                "IDDRX2F",
                i_SCLK=ClockSignal("gear"),
                i_ECLK=self.edge,
                i_RST=self.reset,
                i_D=self.pads[pin],
                **{f"o_Q{i}": gear.bins[pin][i] for i in range(GEAR_BINS)},
            )
        return m
