"""Bench of pins and carry chains with their clock start: pulses over a wire, with a chain that takes no time.

Without delays in the chain every edge is found by the first capture after it, so the place of a hit tells the capture
alone: that is what the latency of the channel counts from.
"""

import cocotb
from bench_phy_x2 import OSC_PS, SKEWS_PS, WORD_BINS, World, locked
from cocotb.clock import Clock

from qrelay_boards.ecp5_detectors import CHAIN_PIN_LATENCY, OFFSET_WORDS

PULSE_BINS = 25
HIT_BITS = 9
SLOTS_PER_WORD = 4


class PulseWorld(World):
    """Pin 0 sends pulses of 12.5 slots, farther apart than the latency; its wire goes to detector 0."""

    def __init__(self, dut, skew_ps, seed):
        super().__init__(dut, skew_ps, seed)
        self.loopback = True
        self._stream = []

    def _word_data(self):
        while len(self._stream) < WORD_BINS:
            self._stream += [0] * self.random.randint(110, 140) + [1] * PULSE_BINS
        bins, self._stream = self._stream[:WORD_BINS], self._stream[WORD_BINS:]
        self.dut.words_out.value = sum(bit << n for n, bit in enumerate(bins))


async def start(dut, skew_ps, seed):
    for port in (dut.edge_clock, dut.word_clock, dut.pll_good, dut.words_out, dut.pads_in):
        port.value = 0
    world = PulseWorld(dut, skew_ps, seed)
    cocotb.start_soon(Clock(dut.osc_clock, OSC_PS, unit="ps").start())
    await world.run(64 + seed)
    dut.pll_good.value = 1
    await locked(world)
    return world


def edges(world):
    """Rising edges that were sent, in bins of the word stream."""
    before, found = 1, []
    for number, (_, word) in enumerate(world.sent):
        for n in range(WORD_BINS):
            bit = word >> n & 1
            if bit and not before:
                found.append(WORD_BINS * number + n)
            before = bit
    return found


def hits(world):
    """Slots of the hits, counted from the first word."""
    return [
        SLOTS_PER_WORD * number + lane
        for number, (_, word) in enumerate(world.received)
        for lane in range(SLOTS_PER_WORD)
        if word >> HIT_BITS * lane & 1
    ]


def lags(world):
    """Bins from an edge to the begin of the capture that found it, by the edge's place in the capture."""
    sent, found = edges(world), hits(world)
    capture_bins = WORD_BINS // 2
    by_place = {}
    for edge in sent[1:-4]:
        after = [2 * slot - edge for slot in found if 2 * slot > edge]
        by_place.setdefault(edge % capture_bins, set()).add(min(after))
    return by_place


@cocotb.test()
async def one_latency_whatever_the_start(dut):
    """Every edge is one hit; its capture follows the edge by the same time in every start and for every clock skew."""
    seen = []
    for number, skew_ps in enumerate(SKEWS_PS * 2):
        world = await start(dut, skew_ps, number)
        world.clear()
        await world.run(8000)
        # Hits of edges before the first word and edges whose hit comes after the last: a few.
        assert abs(len(hits(world)) - len(edges(world))) <= 2
        seen.append(lags(world))
    dut._log.info("lags in bins by place of the edge: %s", seen)
    assert all(lag == seen[0] for lag in seen)
    # Over a chain without delays the latency is whole words, and hits are early by all that the detector's delay makes
    # up for.
    latency = WORD_BINS * (CHAIN_PIN_LATENCY - OFFSET_WORDS)
    assert seen[0] == {place: {latency - place} for place in range(4)}
