"""Health tests of a noise source: they see every raw sample, before anything is made of it."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from qrelay.protocol.entropy import PROPORTION_WINDOW

__all__ = ["RUN_BITS", "HealthTests"]

RUN_BITS = 10
"""Runs of equal samples are counted up to 2^10 - 1."""


class HealthTests(wiring.Component):
    """Repetition count test and adaptive proportion test of one-bit samples (NIST SP 800-90B, 4.4.1 and 4.4.2).

    A run of `repetition_cutoff` equal samples fails the first. Windows of `window` samples follow each other without
    overlap; `proportion_cutoff` samples in one that equal its first sample, itself counted, fail the second. The
    start-up test (4.3) is the first window after reset or `restart`, with both tests at work: `healthy` rises at its
    end. A failure lowers `healthy` until `restart`; the tests go on.

    Latency: `latency` clocks from a sample to everything that depends on it.
    Reset: as after `restart`; no sample seen.
    Overflow: runs are counted up to 2^10 - 1; a cutoff of 0 fails with the first sample, as does 1.

    Parameters
    ----------
    window : int
        Samples of a window, a power of two; other than 1024 only to see many of them in a test.

    Ports
    -----
    valid, sample : In(1)
        A raw sample.
    repetition_cutoff, proportion_cutoff : In(10), In(11)
    restart : In(1)
        Forget all; a sample of this clock is not seen, those of the clocks before may not be.
    healthy : Out(1)
        Start-up test passed and nothing failed since.
    repetition_failed, proportion_failed : Out(1)
        Failed since `restart`.
    samples : Out(48)
        Samples seen since `restart`.
    failed_at : Out(48)
        Number of the first sample (from 1) with which a test failed since `restart`; 0 for none.
    longest_run, largest_count : Out(10), Out(11)
        Longest run, and largest number of samples equal to the first of their window, since `restart`.
    """

    valid: In(1)
    sample: In(1)
    repetition_cutoff: In(RUN_BITS)
    proportion_cutoff: In(ceil_log2(PROPORTION_WINDOW) + 1)
    restart: In(1)
    healthy: Out(1)
    repetition_failed: Out(1)
    proportion_failed: Out(1)
    samples: Out(48)
    failed_at: Out(48)
    longest_run: Out(RUN_BITS)
    largest_count: Out(ceil_log2(PROPORTION_WINDOW) + 1)

    latency = 3

    def __init__(self, window: int = PROPORTION_WINDOW):
        if window & (window - 1) or not 2 <= window <= PROPORTION_WINDOW:
            raise ValueError(f"window {window}; give a power of two, 2 to {PROPORTION_WINDOW}")
        self._window = window
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        # First clock: how long is the run, how many equal the first of their window.
        counted = Signal()
        last = Signal()
        run = Signal(RUN_BITS)
        first = Signal()
        place = Signal(range(self._window))
        count = Signal.like(self.largest_count)
        at_end = Signal()
        m.d.sync += counted.eq(self.valid & ~self.restart)
        with m.If(self.valid):
            m.d.sync += [last.eq(self.sample), place.eq(place + 1), at_end.eq(place == self._window - 1)]
            m.d.sync += self.samples.eq(self.samples + 1)
            with m.If((self.sample != last) | (run == 0)):
                m.d.sync += run.eq(1)
            with m.Elif(~run.all()):
                m.d.sync += run.eq(run + 1)
            with m.If(place == 0):
                m.d.sync += [first.eq(self.sample), count.eq(1)]
            with m.Elif(self.sample == first):
                m.d.sync += count.eq(count + 1)

        # Second clock: comparisons. Samples can follow each other in every clock: the number goes with them.
        compared = Signal()
        too_long = Signal()
        too_many = Signal()
        ended = Signal()
        run_2 = Signal.like(run)
        count_2 = Signal.like(count)
        number_2 = Signal.like(self.samples)
        m.d.sync += [
            compared.eq(counted & ~self.restart),
            too_long.eq(run >= self.repetition_cutoff),
            too_many.eq(count >= self.proportion_cutoff),
            ended.eq(at_end),
            run_2.eq(run),
            count_2.eq(count),
            number_2.eq(self.samples),
        ]

        # Third clock: verdicts.
        started = Signal()
        failed = Signal()
        m.d.comb += failed.eq(self.repetition_failed | self.proportion_failed)
        with m.If(compared):
            m.d.sync += [
                self.repetition_failed.eq(self.repetition_failed | too_long),
                self.proportion_failed.eq(self.proportion_failed | too_many),
                started.eq(started | ended),
                self.healthy.eq((started | ended) & ~failed & ~too_long & ~too_many),
            ]
            with m.If(run_2 > self.longest_run):
                m.d.sync += self.longest_run.eq(run_2)
            with m.If(count_2 > self.largest_count):
                m.d.sync += self.largest_count.eq(count_2)
            with m.If(~failed & (too_long | too_many)):
                m.d.sync += self.failed_at.eq(number_2)
        with m.If(self.restart):
            m.d.sync += [
                run.eq(0),
                place.eq(0),
                started.eq(0),
                self.samples.eq(0),
                self.healthy.eq(0),
                self.repetition_failed.eq(0),
                self.proportion_failed.eq(0),
                self.failed_at.eq(0),
                self.longest_run.eq(0),
                self.largest_count.eq(0),
            ]
        return m
