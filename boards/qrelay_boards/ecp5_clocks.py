"""The clock tree of an ECP5 board: PLL, edge clock, gear clock, and how they are started in step.

Domains
-------
``sync``
    The word clock, from the PLL, without reset: state lasts from configuration on, so that alarms survive a lost
    reference.
``gear``, ``gear_n``
    The gear clock, two periods per word, and its falling edge; in (asynchronous) reset together with the gearboxes.
``osc``
    The board's oscillator: supervision and start.
"""

from fractions import Fraction
from math import ceil

from amaranth.hdl import Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .clock_plan import ClockPlan

__all__ = ["ClockPll", "EdgeClockTree", "GearPhase", "StartSequence"]


class ClockPll(wiring.Component):
    """EHXPLLL set up by a clock plan (FPGA-TN-02200).

    Ports
    -----
    reference : In(1), reset : In(1)
    edge : Out(1)
        One period per slot; goes to the edge clock tree only.
    word : Out(1)
        One period per word; the feedback clock where the plan allows it.
    lock : Out(1)
        Asynchronous.
    """

    reference: In(1)
    reset: In(1)
    edge: Out(1)
    word: Out(1)
    lock: Out(1)

    def __init__(self, plan: ClockPlan):
        self._plan = plan
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        plan = self._plan
        feedback = Signal()
        parameters = {
            "CLKI_DIV": plan.reference_divider,
            "CLKFB_DIV": plan.feedback_divider,
            "CLKOP_ENABLE": "ENABLED",
            "CLKOP_DIV": plan.vco_per_slot,
            # Phases are given in VCO periods from the divider's end: DIV - 1 puts the edge at phase zero.
            "CLKOP_CPHASE": plan.vco_per_slot - 1,
            "CLKOS_ENABLE": "ENABLED",
            "CLKOS_DIV": plan.word_divider,
            "CLKOS_CPHASE": plan.word_divider - 1,
            "FEEDBK_PATH": "CLKOS" if plan.word_is_feedback else "CLKOS2",
            "PLLRST_ENA": "ENABLED",
            "INT_LOCK_STICKY": "DISABLED",
        }
        outputs = {}
        if plan.word_is_feedback:
            m.d.comb += feedback.eq(self.word)
        else:
            parameters |= {
                "CLKOS2_ENABLE": "ENABLED",
                "CLKOS2_DIV": plan.feedback_output_divider,
                "CLKOS2_CPHASE": plan.feedback_output_divider - 1,
            }
            outputs["o_CLKOS2"] = feedback
        m.submodules.pll = Instance(
            "EHXPLLL",
            **{f"p_{name}": value for name, value in parameters.items()},
            # The analogue settings that the open tools' own PLL generator writes.
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            i_CLKI=self.reference,
            i_CLKFB=feedback,
            i_RST=self.reset,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            i_ENCLKOS=0,
            i_ENCLKOS2=0,
            o_CLKOP=self.edge,
            o_CLKOS=self.word,
            o_LOCK=self.lock,
            **outputs,
        )
        return m


class GearPhase(wiring.Component):
    """Find where the word begins in the gear clock, and check that it stays there.

    A flip-flop toggles with every word clock. The gear clock samples it on both edges. Where the clocks are in step the
    new value is seen first by a falling edge and then by the rising edge in the middle of the word; with the gear clock
    half a period off it is the other way round.

    Latency: the verdicts follow after 15 equal words; neither is high while words differ. Reset (with the gearboxes):
    no verdict. `capture` follows the toggle as long as `follow` is high, and then runs on by itself, so that one
    metastable sample cannot move it.

    Ports
    -----
    follow : In(1)
        Take the word phase from the toggle (domain ``gear``).
    capture : Out(1)
        High in the gear period that ends in the middle of a word: data of the word domain are captured by its end
        (domain ``gear``).
    in_step, off_step : Out(1)
        The last 15 words or more had the right, the other phase (domain ``gear``).
    """

    follow: In(1)
    capture: Out(1)
    in_step: Out(1)
    off_step: Out(1)

    def elaborate(self, platform):
        m = Module()
        toggle = Signal(reset_less=True)
        rise = Signal()
        fall = Signal()
        m.d.sync += toggle.eq(~toggle)
        m.d.gear += rise.eq(toggle)
        m.d.gear_n += fall.eq(toggle)

        rise_before = Signal()
        fall_between = Signal()
        m.d.gear += rise_before.eq(rise)
        m.d.gear += fall_between.eq(fall)
        changed = Signal()
        changed_before = Signal()
        m.d.comb += changed.eq(rise ^ rise_before)
        m.d.gear += changed_before.eq(changed)
        m.d.gear += self.capture.eq(~self.capture)
        with m.If(self.follow):
            m.d.gear += self.capture.eq(changed)

        good = Signal(4)
        bad = Signal(4)
        irregular = Signal()
        right = Signal()
        wrong = Signal()
        falling_first = Signal()
        placed = Signal()
        m.d.comb += falling_first.eq(fall_between == rise)
        # `capture` is low in the period after the middle of a word, in which the change is seen.
        m.d.comb += placed.eq(self.follow | ~self.capture)
        # Each word has exactly one change, so of any two neighbouring gear periods exactly one has it.
        m.d.gear += irregular.eq(changed == changed_before)
        m.d.gear += right.eq(changed & ~changed_before & falling_first & placed)
        m.d.gear += wrong.eq(changed & ~changed_before & ~(falling_first & placed))
        with m.If(irregular | wrong):
            m.d.gear += good.eq(0)
        with m.Elif(right & (good != 15)):
            m.d.gear += good.eq(good + 1)
        with m.If(irregular | right):
            m.d.gear += bad.eq(0)
        with m.Elif(wrong & (bad != 15)):
            m.d.gear += bad.eq(bad + 1)
        # Registered, as they leave the domain.
        m.d.gear += self.in_step.eq(good == 15)
        m.d.gear += self.off_step.eq(bad == 15)
        return m


class StartSequence(wiring.Component):
    """Start edge clock, gear clock and gearboxes so that the pins come up with the same latency each time.

    The divider of the gear clock and all gearboxes share one reset, which ends while the edge clock stands still
    (ECLKSYNCB STOP): when the edge clock runs again they all begin on the same edge, so the grouping of bins stands
    still against the gear clock. The gear clock itself then has one of two phases against the word clock. The wrong one
    is not slipped by CLKDIVF ALIGNWD, because the output gearboxes cannot slip along; the start is repeated instead.
    STOP comes from the oscillator, whose edges lie anywhere against the edge clock, so each try has an even chance; the
    wait grows from try to try in case oscillator and slot grid have a common measure.

    Everything is in the domain ``osc``. One try takes about 4 us.

    Parameters
    ----------
    oscillator_hz : Fraction
        Frequency of ``osc``; faster ones than 25 MHz wait more clocks.

    Ports
    -----
    pll_good : In(1)
        Without it all is held in reset.
    in_step, off_step : In(1)
        From `GearPhase`, synchronised here.
    stop, reset : Out(1)
        To ECLKSYNCB; to CLKDIVF and the gearboxes.
    follow : Out(1)
        To `GearPhase` (synchronised there by the caller).
    locked : Out(1)
        Clocks and gearboxes run in step.
    phase_lost : Out(1)
        One clock: the phase was found wrong after `locked`; the start begins anew.
    """

    pll_good: In(1)
    in_step: In(1)
    off_step: In(1)
    stop: Out(1, init=1)
    reset: Out(1, init=1)
    follow: Out(1, init=1)
    locked: Out(1)
    phase_lost: Out(1)

    SETTLE_S = Fraction(64, 10**8)
    """Wait around each change of STOP and reset."""
    VERDICT_S = 4 * SETTLE_S
    """Wait for 15 equal words and the synchronisers: 84 words are enough."""

    def __init__(self, oscillator_hz: Fraction = Fraction(25_000_000)):
        self._settle_clocks = max(16, ceil(oscillator_hz * self.SETTLE_S))
        self._verdict_clocks = max(64, ceil(oscillator_hz * self.VERDICT_S))
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        in_step = Signal()
        off_step = Signal()
        m.submodules.in_step_sync = FFSynchronizer(self.in_step, in_step, o_domain="osc")
        m.submodules.off_step_sync = FFSynchronizer(self.off_step, off_step, o_domain="osc")

        wait = Signal(range(self._verdict_clocks))
        tries = Signal(4)
        settled = Signal()
        judged = Signal()
        m.d.comb += settled.eq(wait >= self._settle_clocks + tries)
        m.d.comb += judged.eq(wait == self._verdict_clocks - 1)
        m.d.osc += wait.eq(wait + 1)
        m.d.osc += self.phase_lost.eq(0)
        with m.FSM(domain="osc", init="HOLD"):
            with m.State("HOLD"):
                m.d.osc += self.stop.eq(1)
                m.d.osc += self.follow.eq(1)
                m.d.osc += self.locked.eq(0)
                with m.If(~self.pll_good):
                    # Without a clock STOP has no effect; the reset also acts on standing gearboxes.
                    m.d.osc += self.reset.eq(1)
                    m.d.osc += wait.eq(0)
                with m.Elif(settled):
                    m.d.osc += self.reset.eq(1)
                    m.d.osc += wait.eq(0)
                    m.next = "RESET"
            with m.State("RESET"):
                with m.If(settled):
                    m.d.osc += self.reset.eq(0)
                    m.d.osc += wait.eq(0)
                    m.next = "STAND"
            with m.State("STAND"):
                with m.If(settled):
                    m.d.osc += self.stop.eq(0)
                    m.d.osc += wait.eq(0)
                    m.next = "JUDGE"
            with m.State("JUDGE"):
                with m.If(judged):
                    m.d.osc += wait.eq(0)
                    with m.If(in_step):
                        m.d.osc += self.follow.eq(0)
                        m.d.osc += self.locked.eq(1)
                        m.next = "LOCKED"
                    with m.Else():
                        m.d.osc += tries.eq(tries + 1)
                        m.next = "HOLD"
            with m.State("LOCKED"):
                # One odd sample empties the count of equal words; only a longer time without a verdict is a loss.
                with m.If(in_step):
                    m.d.osc += wait.eq(0)
                with m.Elif(off_step | judged):
                    m.d.osc += wait.eq(0)
                    m.d.osc += self.phase_lost.eq(1)
                    m.next = "HOLD"
                with m.If(~self.pll_good):
                    m.d.osc += wait.eq(0)
                    m.next = "HOLD"
        return m


class EdgeClockTree(wiring.Component):
    """ECLKSYNCB and CLKDIVF with their start sequence: edge clock and gear clock from the PLL's edge clock.

    The top connects `gear_clock` and `gearbox_reset` to the domains ``gear`` (asynchronous reset) and ``gear_n``.

    Parameters
    ----------
    oscillator_hz : Fraction
        Frequency of ``osc``.

    Ports
    -----
    edge_in : In(1)
        One period per slot, from the PLL.
    pll_good : In(1)
        Domain ``osc``.
    edge, gear_clock, gearbox_reset : Out(1)
        To the gearboxes.
    capture : Out(1)
        Word phase in the domain ``gear``, see `GearPhase`.
    locked, phase_lost : Out(1)
        As of `StartSequence`, domain ``osc``.
    """

    edge_in: In(1)
    pll_good: In(1)
    edge: Out(1)
    gear_clock: Out(1)
    gearbox_reset: Out(1)
    capture: Out(1)
    locked: Out(1)
    phase_lost: Out(1)

    def __init__(self, oscillator_hz: Fraction = Fraction(25_000_000)):
        self._oscillator_hz = oscillator_hz
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.sequence = sequence = StartSequence(self._oscillator_hz)
        m.submodules.phase = phase = GearPhase()
        m.submodules.follow_sync = FFSynchronizer(sequence.follow, phase.follow, o_domain="gear", init=1)
        m.submodules.eclksync = Instance("ECLKSYNCB", i_ECLKI=self.edge_in, i_STOP=sequence.stop, o_ECLKO=self.edge)
        m.submodules.clkdiv = Instance(
            "CLKDIVF",
            p_DIV="2.0",
            i_CLKI=self.edge,
            i_RST=sequence.reset,
            i_ALIGNWD=0,
            o_CDIVX=self.gear_clock,
        )
        m.d.comb += [
            sequence.pll_good.eq(self.pll_good),
            sequence.in_step.eq(phase.in_step),
            sequence.off_step.eq(phase.off_step),
            self.gearbox_reset.eq(sequence.reset),
            self.capture.eq(phase.capture),
            self.locked.eq(sequence.locked),
            self.phase_lost.eq(sequence.phase_lost),
        ]
        return m
