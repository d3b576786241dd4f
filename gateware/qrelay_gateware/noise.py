"""From the level of a noise source to raw samples, and their health."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .health import HealthTests
from .layouts import config_layout, status_layout

__all__ = ["NoiseSampler"]


class NoiseSampler(wiring.Component):
    """Take a raw sample of the noise source every `config.sample_words` words and put it through the health tests.

    Without a source nothing is sampled, tested or failed.

    A change of `config.sample_words` acts after the next sample, or with `config.restart`.

    Latency: a sample is at `valid` and `sample` a word after its level was at `noise`; the tests know it
    `HealthTests.latency` words later.
    Reset: start-up test begins.  Overflow: none.

    Parameters
    ----------
    present : bool
        There is a source.
    timer_domain : str
        Clock domain of the sampling times, where the block's own clock may stop `rest_words` after `tick`.

    Ports
    -----
    config, status : group ``entropy``
        Of the status the part that concerns samples and tests.
    noise : In(1)
        Level of the source, in the timer's domain.
    tick : Out(1)
        A sample is taken in this word.
    valid, sample : Out(1)
        A raw sample, in the block's own domain.
    healthy : Out(1)
        Start-up test passed and nothing failed since.
    failed : Out(1)
        One word: a test failed for the first time since the restart.
    """

    config: In(config_layout("entropy"))
    status: Out(status_layout("entropy"))
    noise: In(1)
    tick: Out(1)
    valid: Out(1)
    sample: Out(1)
    healthy: Out(1)
    failed: Out(1)

    rest_words = 2 + HealthTests.latency

    def __init__(self, present: bool, timer_domain: str = "sync"):
        self._present = present
        self._timer_domain = timer_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        if not self._present:
            return m
        m.submodules.tests = tests = HealthTests()
        timer = m.d[self._timer_domain]
        left = Signal(16)
        timer += self.tick.eq(~self.tick & (left <= 1))
        with m.If(self.tick):
            timer += left.eq(self.config.sample_words - 1)
        with m.Elif(left != 0):
            timer += left.eq(left - 1)
        with m.If(self.config.restart):
            timer += left.eq(0)

        known = Signal()
        bad = Signal()
        m.d.comb += bad.eq(tests.repetition_failed | tests.proportion_failed)
        m.d.sync += [
            self.valid.eq(self.tick),
            self.sample.eq(self.noise),
            known.eq(bad),
            self.failed.eq(bad & ~known),
        ]
        m.d.comb += [
            tests.valid.eq(self.valid),
            tests.sample.eq(self.sample),
            tests.repetition_cutoff.eq(self.config.repetition_cutoff),
            tests.proportion_cutoff.eq(self.config.proportion_cutoff),
            tests.restart.eq(self.config.restart),
            self.healthy.eq(tests.healthy),
            self.status.health.eq(Cat(Const(1, 1), tests.healthy, tests.repetition_failed, tests.proportion_failed)),
            self.status.samples.eq(tests.samples),
            self.status.failed_at.eq(tests.failed_at),
            self.status.longest_run.eq(tests.longest_run),
            self.status.largest_count.eq(tests.largest_count),
        ]
        return m
