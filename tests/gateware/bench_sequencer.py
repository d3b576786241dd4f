"""cocotb: the exported sequencer against its golden model."""

import cocotb
import numpy as np
from amaranth.lib import data
from clocked import clocked_words

from benches import pack, unpack
from qrelay_gateware.layouts import Tick, config_layout
from qrelay_gateware.sequencer import Sequencer
from qrelay_sim.golden.sequencer import TICKS, ticks

CONFIG = data.Layout.cast(config_layout("sequencer"))
TICK = data.Layout.cast(Tick)


@cocotb.test()
@cocotb.parametrize(seed=list(range(8)))
async def random_frames(dut, seed):
    random = np.random.default_rng(100 + seed)
    segments = [(int(random.integers(4)), int(random.integers(0, 40))) for _ in range(seed + 1)]
    steps = [(int(random.integers(8)), int(random.integers(16))) for _ in range(random.integers(1, 65))]
    step_words = int(random.integers(0, 6))
    begin, end, start = 5, 1500, int(random.integers(1 << 46))
    word_of_run = np.arange(1510) - begin
    word_of_run[end:] = -1
    running = word_of_run >= 0
    slot_word = np.where(running, (start + word_of_run) % (1 << 46), 7)
    seen = await clocked_words(
        dut,
        {"running": running, "slot_word": slot_word},
        ["tick"],
        config=pack(CONFIG, {"segments": len(segments), "steps": len(steps), "step_words": step_words}),
        tables={
            "segments": [kind | length << 2 for kind, length in segments],
            "steps": [setting | phase << 3 for setting, phase in steps],
        },
    )
    model = ticks(np.maximum(word_of_run, -1), segments, steps, step_words, start)
    late = [unpack(TICK, bits) for bits in seen["tick"][Sequencer.latency :]]
    for name in TICKS.names:
        np.testing.assert_array_equal([getattr(word, name) for word in late], model[name][: len(late)], name)
