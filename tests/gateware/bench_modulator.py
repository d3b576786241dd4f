"""cocotb: the exported modulator against its golden model."""

import cocotb
import numpy as np
from clocked import clocked_words
from modulator_cases import CONFIG, LATENCY, TABLE_WORDS, Case, pins, random_lines

from benches import pack
from qrelay.protocol.registers import LINE_MODES


@cocotb.test()
@cocotb.parametrize(seed=list(range(6)))
async def random_runs_and_lines(dut, seed):
    random = np.random.default_rng(50 + seed)
    ready = (random.random(1500) > 0.01 * (seed % 2)).astype(int)
    runs = [(10, 400, 0), (400 + int(random.integers(1, 70)), 900, int(random.integers(1 << 46))), (920, 1490, 5)]
    lines = random_lines(random, LINE_MODES if seed % 3 == 0 else ("normal",))
    case = Case(1500, runs, lines, seed=seed, ready=ready, pattern_slots=4 * int(random.integers(1, 40)))
    tables = {"table": case.table}
    seen = await clocked_words(dut, case.columns(), ["lines"], config=pack(CONFIG, case.config()), tables=tables)
    result = pins(seen["lines"])[LATENCY:]
    np.testing.assert_array_equal(result, case.model(TABLE_WORDS)[: len(result)])
