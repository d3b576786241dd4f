"""cocotb: the exported audit behind a modulator, against its golden model."""

import cocotb
import numpy as np
from clocked import clocked_words
from modulator_cases import CONFIG, Case, random_lines
from test_audit import AUDIT_CONFIG, AUDIT_WORDS, model

from benches import pack


@cocotb.test()
@cocotb.parametrize(seed=[0, 1, 2])
async def capture_of_random_words(dut, seed):
    random = np.random.default_rng(30 + seed)
    start = int(random.integers(1 << 46))
    skipped = int(random.integers(0, 300))
    case = Case(700, [(20, 690, start)], random_lines(random), seed=seed)
    reading = 4 * AUDIT_WORDS
    columns = {name: [*column, *[0] * (reading + 2)] for name, column in case.columns().items()}
    first_slot = 4 * (start + skipped) % (1 << 48)
    columns["audit_config"] = [
        pack(AUDIT_CONFIG, {"first_slot": first_slot, "arm": int(word == 3)})
        for word in range(case.words + reading + 2)
    ]
    columns["address"] = [0] * case.words + [*range(reading), 0, 0]
    tables = {"table": case.table}
    seen = await clocked_words(dut, columns, ["done", "value"], config=pack(CONFIG, case.config()), tables=tables)
    assert seen["done"][case.words] == 1
    np.testing.assert_array_equal(seen["value"][case.words + 2 :], model(case, 20 + skipped))
