"""Reference and lock supervision, and the phase check, in Amaranth's simulator."""

from fractions import Fraction

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from qrelay_boards.ecp5_clocks import GearPhase, StartSequence
from qrelay_boards.ecp5_supervisor import LatchedEvent, ReferenceMonitor, Supervisor

OSCILLATOR_HZ = 25_000_000


def simulate(component, testbench, clocks, gated=()):
    """Run with a clock of given Hz for each domain; domains in `gated` are clocked by the testbench."""
    m = Module()
    m.submodules.dut = component
    for domain in (*clocks, *gated):
        m.domains += ClockDomain(domain, reset_less=domain != "gear")
    simulator = Simulator(m)
    for domain, hz in clocks.items():
        simulator.add_clock(1 / hz, domain=domain)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize(
    ("hz", "good"),
    [(76_130_000, 1), (77_500_000, 1), (70_000_000, 0), (82_000_000, 0), (38_065_000, 0), (1_000_000, 0)],
)
def test_reference_rate(hz, good):
    check_reference(OSCILLATOR_HZ, hz, good)


@pytest.mark.parametrize("oscillator_hz", [30_000_000, 48_000_000, 100_000_000])
def test_reference_rate_by_other_oscillators(oscillator_hz):
    check_reference(oscillator_hz, 77_500_000, 1)
    check_reference(oscillator_hz, 82_000_000, 0)


def check_reference(oscillator_hz, hz, good):
    monitor = ReferenceMonitor(Fraction(76_130_000), Fraction(oscillator_hz))
    window = monitor.window

    async def testbench(ctx):
        await ctx.tick("osc").repeat(3 * window)
        for _ in range(window):
            assert ctx.get(monitor.good) == good
            await ctx.tick("osc")

    simulate(monitor, testbench, {"osc": oscillator_hz, "reference": hz})


def test_reference_stops_and_comes_back():
    monitor = ReferenceMonitor(Fraction(76_130_000), Fraction(OSCILLATOR_HZ))
    m = Module()
    m.submodules.dut = monitor
    m.domains.osc = ClockDomain(reset_less=True)
    m.domains.reference = reference = ClockDomain(reset_less=True)
    simulator = Simulator(m)
    simulator.add_clock(1 / OSCILLATOR_HZ, domain="osc")

    async def run(ctx, periods):
        for _ in range(periods):
            ctx.set(reference.clk, 1)
            await ctx.delay(6568e-12)
            ctx.set(reference.clk, 0)
            await ctx.delay(6568e-12)

    async def testbench(ctx):
        await run(ctx, 8000)
        assert ctx.get(monitor.good) == 1
        await ctx.delay(5e-6)
        assert ctx.get(monitor.good) == 0, "missing for 5 us and not noticed"
        await run(ctx, 8000)
        assert ctx.get(monitor.good) == 1

    simulator.add_testbench(testbench)
    simulator.run()


def test_too_fast_a_reference():
    with pytest.raises(ValueError, match=r"too fast to be watched by an oscillator of 25 MHz; at most 266\.667 MHz"):
        ReferenceMonitor(Fraction(300_000_000), Fraction(OSCILLATOR_HZ))


def test_event_survives_a_standing_word_clock():
    """The event comes while the word clock stands; the station sees it when the clock is back, and once only."""
    event = LatchedEvent()
    m = Module()
    m.submodules.dut = event
    m.domains.osc = ClockDomain(reset_less=True)
    m.domains.sync = word = ClockDomain(reset_less=True)
    simulator = Simulator(m)
    simulator.add_clock(1 / OSCILLATOR_HZ, domain="osc")

    async def testbench(ctx):
        await ctx.tick("osc").repeat(4)
        ctx.set(event.event, 1)
        await ctx.tick("osc")
        ctx.set(event.event, 0)
        await ctx.tick("osc").repeat(50)
        assert ctx.get(event.seen) == 0
        seen = []
        for _ in range(100):
            ctx.set(word.clk, 1)
            await ctx.delay(6e-9)
            ctx.set(word.clk, 0)
            await ctx.delay(7e-9)
            seen.append(ctx.get(event.seen))
        rises = sum(b > a for a, b in zip([0, *seen], seen, strict=False))
        assert rises == 1
        assert seen[-1] == 0

    simulator.add_testbench(testbench)
    simulator.run()


def test_supervisor_reports_losses_and_resets_the_pll():
    supervisor = Supervisor(relock_clocks=600)
    clocks = {"osc": OSCILLATOR_HZ, "sync": 76_130_000}

    async def testbench(ctx):
        async def wait(clocks):
            seen = {"reference": 0, "lock": 0, "reset": 0}
            for _ in range(clocks):
                await ctx.tick("osc")
                seen["reference"] |= ctx.get(supervisor.reference_lost)
                seen["lock"] |= ctx.get(supervisor.lock_lost)
                seen["reset"] += ctx.get(supervisor.pll_reset)
            return seen

        # No reference at first: no loss, no reset.
        assert await wait(2000) == {"reference": 0, "lock": 0, "reset": 0}
        assert ctx.get(supervisor.started) == 0
        # Reference but no lock: a reset of 16 clocks after each wait.
        ctx.set(supervisor.reference_good, 1)
        assert (await wait(616 * 3))["reset"] == 3 * 16
        await wait(100)
        ctx.set(supervisor.pll_lock, 1)
        assert await wait(200) == {"reference": 0, "lock": 0, "reset": 0}
        assert ctx.get(supervisor.pll_good) == 0
        await wait(100)
        assert ctx.get(supervisor.pll_good) == 1
        assert ctx.get(supervisor.started) == 1
        # One short loss of lock.
        ctx.set(supervisor.pll_lock, 0)
        await ctx.tick("osc").repeat(2)
        ctx.set(supervisor.pll_lock, 1)
        assert await wait(20) == {"reference": 0, "lock": 1, "reset": 0}
        assert ctx.get(supervisor.pll_good) == 0
        await wait(300)
        assert ctx.get(supervisor.pll_good) == 1
        # Loss of the reference.
        ctx.set(supervisor.reference_good, 0)
        assert (await wait(20))["reference"] == 1
        assert ctx.get(supervisor.pll_good) == 0
        ctx.set(supervisor.reference_good, 1)
        await wait(300)
        assert await wait(20) == {"reference": 0, "lock": 0, "reset": 0}
        assert ctx.get(supervisor.pll_good) == 1

    simulate(supervisor, testbench, clocks)


@pytest.mark.parametrize("oscillator_hz", [25_000_000, 100_000_000])
def test_pll_has_time_to_lock(oscillator_hz):
    """The data sheet gives a PLL 15 ms."""
    assert Supervisor(True, Fraction(oscillator_hz)).relock_clocks > 0.015 * oscillator_hz


def phase_verdicts(skew_ps, words=64, skip=None):
    """Verdicts after `words` words, gear clock edges `skew_ps` after word clock edges; `skip` drops a gear period."""
    phase = GearPhase()
    m = Module()
    m.submodules.dut = phase
    m.domains.sync = word = ClockDomain(reset_less=True)
    m.domains.gear = gear = ClockDomain()
    m.domains.gear_n = gear_n = ClockDomain(clk_edge="neg")
    simulator = Simulator(m)
    quarter = 3284
    verdicts = []

    async def testbench(ctx):
        def tick_word(level):
            ctx.set(word.clk, level)

        def tick_gear(level):
            ctx.set(gear.clk, level)
            ctx.set(gear_n.clk, level)

        events = []
        for n in range(words):
            start = 20_000 + 4 * quarter * n
            events += [(start, tick_word, 1), (start + 2 * quarter, tick_word, 0)]
            for half in range(2):
                rise = start + skew_ps + 2 * quarter * half
                if skip is None or 2 * n + half != skip:
                    events += [(rise, tick_gear, 1), (rise + quarter, tick_gear, 0)]
        ctx.set(phase.follow, 1)
        now = 0
        for at, tick, level in sorted(events, key=lambda event: event[0]):
            if at > now:
                await ctx.delay((at - now) * 1e-12)
                now = at
            tick(level)
        verdicts.append((ctx.get(phase.in_step), ctx.get(phase.off_step)))

    simulator.add_testbench(testbench)
    simulator.run()
    return verdicts[0]


@pytest.mark.parametrize("skew_ps", [-3000, -1600, -300])
def test_gear_clock_in_step(skew_ps):
    assert phase_verdicts(skew_ps) == (1, 0)


@pytest.mark.parametrize("skew_ps", [300, 1600, 3000])
def test_gear_clock_off_step(skew_ps):
    assert phase_verdicts(skew_ps) == (0, 1)


def test_no_verdict_soon_after_a_lost_edge():
    assert phase_verdicts(-1600, words=64, skip=120) == (0, 0)
    assert phase_verdicts(-1600, words=64, skip=80) == (1, 0)


@pytest.mark.parametrize("oscillator_hz", [25_000_000, 30_000_000, 48_000_000, 100_000_000])
def test_start_waits_for_a_verdict(oscillator_hz):
    """From the running edge clock to the judgement there are 84 words, with an oscillator of any board."""
    sequence = StartSequence(Fraction(oscillator_hz))

    async def testbench(ctx):
        ctx.set(sequence.pll_good, 1)
        waited = 0
        while ctx.get(sequence.stop):
            await ctx.tick("osc")
            waited += 1
        assert waited >= 3 * 16
        ctx.set(sequence.in_step, 1)
        waited = 0
        while not ctx.get(sequence.locked):
            await ctx.tick("osc")
            waited += 1
        assert 84 <= waited * 76_130_000 / oscillator_hz < 250

    simulate(sequence, testbench, {"osc": oscillator_hz})


def test_start_repeats_until_in_step():
    sequence = StartSequence()

    async def testbench(ctx):
        ctx.set(sequence.pll_good, 1)
        ctx.set(sequence.off_step, 1)
        releases = 0
        reset_before = stop_before = 1
        for _ in range(1200):
            await ctx.tick("osc")
            reset = ctx.get(sequence.reset)
            stop = ctx.get(sequence.stop)
            if reset != reset_before:
                assert stop, "gearboxes reset or released while the edge clock runs"
                releases += not reset
            if reset:
                assert stop
            reset_before, stop_before = reset, stop
            assert not ctx.get(sequence.locked)
        assert stop_before in (0, 1)
        assert releases > 6
        ctx.set(sequence.off_step, 0)
        ctx.set(sequence.in_step, 1)
        await ctx.tick("osc").repeat(300)
        assert ctx.get(sequence.locked)
        assert not ctx.get(sequence.stop)
        assert not ctx.get(sequence.follow)
        # A single word without a verdict is no loss, a longer time is.
        ctx.set(sequence.in_step, 0)
        await ctx.tick("osc").repeat(20)
        ctx.set(sequence.in_step, 1)
        await ctx.tick("osc").repeat(20)
        assert ctx.get(sequence.locked)
        ctx.set(sequence.in_step, 0)
        lost = 0
        for _ in range(80):
            await ctx.tick("osc")
            lost += ctx.get(sequence.phase_lost)
        assert lost == 1
        assert not ctx.get(sequence.locked)

    simulate(sequence, testbench, {"osc": OSCILLATOR_HZ})
