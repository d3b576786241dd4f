"""Supervision of reference and PLL by the board's own oscillator, which runs whatever becomes of the reference."""

from fractions import Fraction
from math import ceil

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["LatchedEvent", "ReferenceMonitor", "Supervisor"]


class ReferenceMonitor(wiring.Component):
    """Tell whether the reference runs, and near its rate.

    The reference is divided by 64 in its own domain ``reference``; the oscillator (domain ``osc``) counts the changes
    of the divided clock in windows of 41 us or more. Good means a count within 5 % of the expected one; the reference
    is missed as soon as no change comes for twice its expected time, a few microseconds.

    Reset: not good. Latency: up to two windows until good.

    Ports
    -----
    good : Out(1)
        Domain ``osc``.
    """

    good: Out(1)

    DIVIDER = 64
    WINDOW_S = Fraction(4096, 10**8)
    TOLERANCE = Fraction(5, 100)

    def __init__(self, reference_hz: Fraction, oscillator_hz: Fraction):
        half_periods = reference_hz * 2 / self.DIVIDER / oscillator_hz
        if half_periods > Fraction(1, 3):
            raise ValueError(
                f"reference {float(reference_hz) / 1e6:g} MHz: too fast to be watched by an oscillator of "
                f"{float(oscillator_hz) / 1e6:g} MHz; at most {float(oscillator_hz * self.DIVIDER / 6) / 1e6:g} MHz"
            )
        self.window = 1 << (ceil(oscillator_hz * self.WINDOW_S) - 1).bit_length()
        expected = half_periods * self.window
        self.lowest = int(expected * (1 - self.TOLERANCE))
        self.highest = int(expected * (1 + self.TOLERANCE)) + 1
        self.longest_gap = int(2 / half_periods) + 2
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        divided = Signal(range(self.DIVIDER), reset_less=True)
        m.d.reference += divided.eq(divided + 1)
        level = Signal()
        m.submodules.level_sync = FFSynchronizer(divided[-1], level, o_domain="osc")

        before = Signal()
        changed = Signal()
        m.d.osc += before.eq(level)
        m.d.comb += changed.eq(level ^ before)
        gap = Signal(range(self.longest_gap + 1))
        window = Signal(range(self.window))
        count = Signal(range(self.window + 1))
        m.d.osc += window.eq(window + 1)
        m.d.osc += count.eq(count + changed)
        with m.If(window == self.window - 1):
            m.d.osc += count.eq(0)
            m.d.osc += self.good.eq((count >= self.lowest) & (count <= self.highest))
        with m.If(changed):
            m.d.osc += gap.eq(0)
        with m.Elif(gap != self.longest_gap):
            m.d.osc += gap.eq(gap + 1)
        with m.Else():
            m.d.osc += self.good.eq(0)
            # The window in which the gap fell would count too few and must not count afresh from here.
            m.d.osc += window.eq(0)
            m.d.osc += count.eq(0)
        return m


class LatchedEvent(wiring.Component):
    """Carry an event from ``osc`` to ``sync`` even if the word clock stands still meanwhile.

    The event is latched until ``sync`` has seen it. `seen` is high for as long as the latch is: at least one clock, and
    throughout a condition that lasts.

    Latency: two clocks of ``sync``.  Reset: nothing latched.  Overflow: events that come while `seen` is high are one
    with the first.

    Ports
    -----
    event : In(1)
        Domain ``osc``.
    seen : Out(1)
        Domain ``sync``.
    """

    event: In(1)
    seen: Out(1)

    def elaborate(self, platform):
        m = Module()
        latch = Signal()
        returned = Signal()
        m.submodules.there = FFSynchronizer(latch, self.seen, o_domain="sync")
        m.submodules.back = FFSynchronizer(self.seen, returned, o_domain="osc")
        with m.If(returned):
            m.d.osc += latch.eq(0)
        with m.If(self.event):
            m.d.osc += latch.eq(1)
        return m


class Supervisor(wiring.Component):
    """Decide when the PLL is fit for use, reset it where it does not lock, and report losses to the station.

    Latency: locked after 256 oscillator clocks of steady lock; a loss acts within four.
    Reset: not locked. A reference that is absent from the start is no loss; the station does not run yet.

    Parameters
    ----------
    external : bool
        There is a reference apart from the oscillator, which can be lost.
    oscillator_hz : Fraction
        Frequency of ``osc``.
    relock_clocks : int
        Wait for a lock before the PLL is reset, `RELOCK_S` by default.

    Ports
    -----
    reference_good : In(1)
        Domain ``osc``; constant 1 where the board runs free.
    pll_lock : In(1)
        Asynchronous.
    pll_reset : Out(1)
        A pulse of 16 oscillator clocks, where the reference is good and there is no lock for so long.
    pll_good : Out(1)
        Domain ``osc``: steady lock on a good reference.
    started : Out(1)
        Domain ``osc``: `pll_good` was high once.
    reference_lost, lock_lost : Out(1)
        Domain ``sync``, see `LatchedEvent`.
    """

    reference_good: In(1)
    pll_lock: In(1)
    pll_reset: Out(1)
    pll_good: Out(1)
    started: Out(1)
    reference_lost: Out(1)
    lock_lost: Out(1)

    STEADY_CLOCKS = 256
    RELOCK_S = Fraction(21, 1000)
    """A PLL locks within 15 ms at most, usually in well under one."""
    RESET_CLOCKS = 16

    def __init__(
        self,
        external: bool = True,
        oscillator_hz: Fraction = Fraction(25_000_000),
        relock_clocks: int | None = None,
    ):
        self._external = external
        self.relock_clocks = relock_clocks or ceil(oscillator_hz * self.RELOCK_S)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        lock = Signal()
        m.submodules.lock_sync = FFSynchronizer(self.pll_lock, lock, o_domain="osc")
        if self._external:
            m.submodules.reference_event = reference_event = LatchedEvent()
            m.d.comb += reference_event.event.eq(self.started & ~self.reference_good)
            m.d.comb += self.reference_lost.eq(reference_event.seen)
        m.submodules.lock_event = lock_event = LatchedEvent()
        m.d.comb += self.lock_lost.eq(lock_event.seen)

        steady = Signal(range(self.STEADY_CLOCKS))
        with m.If(~lock | ~self.reference_good | self.pll_reset):
            m.d.osc += steady.eq(0)
            m.d.osc += self.pll_good.eq(0)
        with m.Elif(steady != self.STEADY_CLOCKS - 1):
            m.d.osc += steady.eq(steady + 1)
        with m.Else():
            m.d.osc += self.pll_good.eq(1)
            m.d.osc += self.started.eq(1)
        m.d.comb += lock_event.event.eq(self.started & ~lock)

        waited = Signal(range(self.relock_clocks + self.RESET_CLOCKS))
        resetting = Signal()
        m.d.comb += resetting.eq(waited >= self.relock_clocks)
        # From a register: the PLL takes even the shortest pulse.
        m.d.osc += self.pll_reset.eq(resetting)
        with m.If(~self.reference_good | lock & ~resetting):
            m.d.osc += waited.eq(0)
        with m.Elif(waited == self.relock_clocks + self.RESET_CLOCKS - 1):
            m.d.osc += waited.eq(0)
        with m.Else():
            m.d.osc += waited.eq(waited + 1)
        return m
