"""Bench of the x2 pins and their clock start on models of the primitives.

The bench makes the two clocks that the PLL makes, and watches and drives the pads bin by bin: bin n of the world is the
n-th half period of the edge clock. Pads are read and driven in the middle of a bin.
"""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Timer

from qrelay_boards.ecp5_x2 import OUTPUT_LATENCY

HALF_EDGE_PS = 1640
"""Half a period of the edge clock: one bin."""
WORD_BINS = 8
PINS = 2
OUTPUT_BINS = WORD_BINS * OUTPUT_LATENCY
INPUT_BINS = 24
"""Latencies in bins, from the word clock period of a word to its bins on the pad and back, of the models."""
SKEWS_PS = (700, 1640, 2600)
"""Word clock after edge clock: the clocks come from one PLL by different ways, so any place within one edge-clock
period must give the same latency."""


class World:
    """Clocks, pads and words over time; time is counted in bins from the first rise of the edge clock."""

    def __init__(self, dut, skew_ps, seed):
        self.dut = dut
        self.skew_ps = skew_ps
        self.random = random.Random(seed)
        self.bin = 0
        self.loopback = False
        self.sent = []
        """(bin at which the word clock period of the word begins, words of all pins)"""
        self.received = []
        self.pads_out = []
        self.pads_in = []

    async def run(self, bins):
        """Advance; the edge clock rises at even bins, the word clock `skew_ps` after every fourth rise."""
        dut = self.dut
        quarter = HALF_EDGE_PS // 2
        for _ in range(bins):
            steps = [(0, self._edge), (quarter, self._pads)]
            word_bin, offset = divmod(self.skew_ps, HALF_EDGE_PS)
            phase = (self.bin - word_bin) % WORD_BINS
            if phase == 0:
                steps.append((offset, self._word_rise))
            elif phase == 4:
                steps.append((offset, self._word_fall))
            elif phase == 6:
                steps.append((offset, self._word_data))
            now = 0
            for at, action in sorted(steps, key=lambda step: step[0]):
                if at > now:
                    await Timer(at - now, unit="ps")
                    now = at
                action()
            await Timer(HALF_EDGE_PS - now, unit="ps")
            self.bin += 1
        assert dut.word_clock.value in (0, 1)

    def _edge(self):
        self.dut.edge_clock.value = 1 - self.bin % 2

    def _word_rise(self):
        self.dut.word_clock.value = 1
        # What the ports hold through this rising edge belongs to the word clock period that it ends. That period is
        # counted from the rise of the edge clock before it.
        began = self.bin - self.skew_ps // HALF_EDGE_PS - WORD_BINS
        self.received.append((began, int(self.dut.words_in.value)))
        self.sent.append((began, int(self.dut.words_out.value)))

    def _word_fall(self):
        self.dut.word_clock.value = 0

    def _word_data(self):
        self.dut.words_out.value = self.random.getrandbits(WORD_BINS * PINS)

    def _pads(self):
        out = int(self.dut.pads_out.value)
        self.pads_out.append(out)
        level = out if self.loopback else self.random.getrandbits(PINS)
        self.dut.pads_in.value = level
        self.pads_in.append(level)

    def clear(self):
        for record in (self.sent, self.received, self.pads_out, self.pads_in):
            record.clear()
        self.first_bin = self.bin


def bins_of(words, pin):
    """The bits of a pin in a list of (bin, words), as a dict from the bin in which they would stand at no latency."""
    return {start + i: (value >> (WORD_BINS * pin + i)) & 1 for start, value in words for i in range(WORD_BINS)}


def latency(earlier, later, limit=80):
    """The one delay in bins at which `later` repeats `earlier`."""
    fits = []
    for delay in range(-8, limit):
        pairs = [(bit, later[at + delay]) for at, bit in earlier.items() if at + delay in later]
        if len(pairs) > 200 and all(a == b for a, b in pairs):
            fits.append(delay)
    assert len(fits) == 1, f"delays that fit: {fits}"
    return fits[0]


OSC_PS = 39_970
"""The oscillator has no common measure with the slot grid, as on the board with an external reference."""


async def locked(world, limit=24 * 2400):
    """Wait for the lock; 24 tries all fail once in 2^24 starts."""
    for _ in range(limit // 64):
        await world.run(64)
        if world.dut.locked.value == 1:
            break
    else:
        raise AssertionError("never locked")
    await world.run(256)


async def start(dut, skew_ps, seed):
    dut.edge_clock.value = 0
    dut.word_clock.value = 0
    dut.pll_good.value = 0
    dut.words_out.value = 0
    dut.pads_in.value = 0
    world = World(dut, skew_ps, seed)
    cocotb.start_soon(Clock(dut.osc_clock, OSC_PS, unit="ps").start())
    await world.run(64 + seed)
    dut.pll_good.value = 1
    await locked(world)
    return world


def measure(world):
    pads = {pin: {world.first_bin + i: (v >> pin) & 1 for i, v in enumerate(world.pads_out)} for pin in range(PINS)}
    inputs = {pin: {world.first_bin + i: (v >> pin) & 1 for i, v in enumerate(world.pads_in)} for pin in range(PINS)}
    out = {latency(bins_of(world.sent, pin), pads[pin]) for pin in range(PINS)}
    back = {latency(inputs[pin], bins_of(world.received, pin)) for pin in range(PINS)}
    assert len(out) == 1, f"pins with different output latency {out}"
    assert len(back) == 1, f"pins with different input latency {back}"
    return out.pop(), back.pop()


@cocotb.test()
async def bit_order_and_latency(dut):
    """Random words in both directions: bit 0 first, one latency, over divider phases and clock skews."""
    seen = set()
    starts = set()
    for number, skew_ps in enumerate(SKEWS_PS * 3):
        world = await start(dut, skew_ps, number)
        starts.add(world.bin // 1200)
        world.clear()
        await world.run(1200)
        seen.add(measure(world))
    dut._log.info("output and input latency in bins: %s, starts in units of 1200 bins: %s", seen, starts)
    assert len(starts) > 1, "every start succeeded at once: the wrong phase of the gear clock was never met"
    assert seen == {(OUTPUT_BINS, INPUT_BINS)}, f"latency {seen}"


@cocotb.test()
async def loopback_takes_whole_words(dut):
    """A wire from an output to an input: words come back whole after `PIN_LATENCY` words."""
    from qrelay_boards.ecp5_x2 import PIN_LATENCY

    world = await start(dut, 1640, 5)
    world.loopback = True
    await world.run(256)
    world.clear()
    await world.run(1200)
    sent = [word for _, word in world.sent]
    received = [word for _, word in world.received]
    delays = [d for d in range(20) if sent[: 100 - d] == received[d:100]]
    assert delays == [PIN_LATENCY], f"words come back after {delays}, PIN_LATENCY is {PIN_LATENCY}"


@cocotb.test()
async def lost_lock_and_back(dut):
    """While the lock is lost the pads are low; afterwards everything is as before."""
    world = await start(dut, 700, 1)
    world.clear()
    await world.run(1200)
    before = measure(world)
    for _ in range(3):
        dut.pll_good.value = 0
        await world.run(160)
        assert dut.locked.value == 0
        world.clear()
        await world.run(64)
        assert set(world.pads_out) == {0}, "pads not low while the lock is lost"
        dut.pll_good.value = 1
        await locked(world)
        world.clear()
        await world.run(1200)
        assert measure(world) == before


@cocotb.test()
async def slipped_phase_is_reported_and_mended(dut):
    """The word clock jumps by one slot against the edge clock: reported, started again, latency as before."""
    world = await start(dut, 1640, 2)
    world.clear()
    await world.run(1200)
    before = measure(world)
    world.bin += 2  # the bench's own clocks: the edge clock is two bins ahead of the word clock now
    for _ in range(1000):
        await world.run(WORD_BINS)
        if dut.phase_lost.value == 1:
            break
    else:
        raise AssertionError("not reported")
    await world.run(64)
    assert dut.locked.value == 0
    await locked(world)
    world.clear()
    await world.run(1200)
    assert measure(world) == before
