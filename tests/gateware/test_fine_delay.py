"""Fine delay of the lines: elements that know single steps end at their settings."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator

from qrelay.protocol.registers import FINE_DELAY_TAPS, LINES
from qrelay_gateware.fine_delay import TURN_WORDS, FineDelay, FineDelayPort
from qrelay_sim.golden.fine_delay import DelayElements

ROUND_WORDS = LINES * TURN_WORDS


def run(script):
    """Steps `FineDelay` by `script`, an async function of (set registers, elements, status, words to pass)."""
    block = FineDelay()
    elements = DelayElements(LINES)
    seen = []

    async def bench(ctx):
        async def pass_words(words):
            for _ in range(words):
                port = ctx.get(block.pins)
                seen.append((port.load_n, port.direction, port.move))
                elements.word(port.load_n, port.direction, port.move)
                await ctx.tick()

        async def home():
            ctx.set(block.config.home, 1)
            await pass_words(1)
            ctx.set(block.config.home, 0)

        def put(taps):
            for line, value in enumerate(taps):
                ctx.set(block.config[f"taps_{line}"], value)

        await script(put, home, pass_words, elements, lambda: ctx.get(block.status.moving))

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return np.array(seen)


def test_elements_reach_their_settings():
    """From any state after power-up, up and down, several lines at once, and again after `home`."""
    choose = random.Random(5)

    async def script(put, home, pass_words, elements, moving):
        elements.taps[:] = [choose.randrange(FINE_DELAY_TAPS) for _ in range(LINES)]
        await pass_words(3 * ROUND_WORDS)
        assert elements.taps == [0] * LINES
        assert not moving()
        present = [0] * LINES
        for wanted in ([127, 0, 1, 2, 3, 64, 5, 126], [0, 127, 2, 2, 0, 63, 9, 127], [127] * LINES, [0] * LINES):
            put(wanted)
            await pass_words(ROUND_WORDS)
            assert moving()
            farthest = max(abs(a - b) for a, b in zip(present, wanted, strict=True))
            await pass_words(farthest * ROUND_WORDS)
            assert elements.taps == wanted
            await pass_words(2 * ROUND_WORDS)
            assert not moving()
            present = wanted
        put([3, 1, 4, 1, 5, 9, 2, 6])
        # A disturbed element is put right by `home`, whenever it comes.
        await pass_words(20 * ROUND_WORDS + 11)
        elements.taps[2] += 7
        await home()
        await pass_words(1 + 3 * ROUND_WORDS)
        assert moving()
        await pass_words(12 * ROUND_WORDS)
        assert elements.taps == [3, 1, 4, 1, 5, 9, 2, 6]

    seen = run(script)
    assert_slow_steps(seen)


@pytest.mark.parametrize("at", range(0, TURN_WORDS, 5))
def test_home_in_the_middle_of_a_move(at):
    """No step is counted that an element did not make."""

    async def script(put, home, pass_words, elements, moving):
        await pass_words(2 * ROUND_WORDS)
        put([40] * LINES)
        await pass_words(5 * ROUND_WORDS + at)
        await home()
        await pass_words(44 * ROUND_WORDS)
        assert elements.taps == [40] * LINES

    run(script)


def assert_slow_steps(seen):
    """Pulses one line at a time, at least eight words high; direction steady four words around them."""
    moves = seen[:, 2]
    assert all(int(move).bit_count() <= 1 for move in moves)
    edges = np.flatnonzero(np.diff(moves))
    assert np.diff(edges).min() >= 8
    turns = np.flatnonzero(np.diff(seen[:, 1]))
    for turn in turns:
        assert not moves[max(turn - 4, 0) : turn + 5].any()


def test_port_is_what_the_pins_take():
    assert FineDelayPort.as_shape().size == 2 + LINES
