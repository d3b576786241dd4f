"""Dead time, four slots per word."""

import numpy as np
import pytest
from receiver_cases import Case, assert_columns, group_by_word, split_bits
from stepping import step_words

from benches import run_bench
from qrelay_gateware.deadtime import DeadTime
from qrelay_sim.golden.deadtime import dead_time
from qrelay_sim.golden.delay import runs

DEAD_SLOTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 65535)
SETTLING = 4
"""Words before the first run: a new dead time acts two words later."""


def case(name, dead_slots, valid, running=None, enable=1, live=None, blind=None):
    """`live`, `blind`: slots, counted from the run's start, that are expected so."""
    words = len(valid) // 4
    running = np.ones(words, bool) if running is None else running
    inputs = {
        "running": [0] * SETTLING + running.astype(int).tolist() + [0],
        "enable": [enable] * (words + SETTLING + 1),
        "valid": [0] * SETTLING + group_by_word(valid, 1).tolist() + [15],
        "dead_slots": [dead_slots] * (words + SETTLING + 1),
    }

    def check(seen):
        model = np.zeros((2, 4 * words), bool)
        for run in runs(running & bool(enable)):
            inside = slice(4 * run.start, 4 * run.stop)
            model[:, inside] = dead_time(valid[inside], dead_slots)
        for port, column in zip(("live", "blind"), model, strict=True):
            by_word = split_bits(seen[port], 1, 4)
            assert_columns(by_word, column.reshape(-1, 4), DeadTime.latency + SETTLING, port)
            wanted = {"live": live, "blind": blind}[port]
            if wanted is not None:
                assert np.flatnonzero(by_word[DeadTime.latency + SETTLING :].ravel()).tolist() == list(wanted)

    return Case(name, inputs, ("live", "blind"), check)


def at(slots, words=12):
    valid = np.zeros(4 * words, bool)
    valid[list(slots)] = True
    return valid


def cases():
    random = np.random.default_rng(3)
    for dead_slots in DEAD_SLOTS:
        for probability in (0.03, 0.3, 1.0):
            valid = random.random(4 * 400) < probability
            running = np.repeat(random.random(20) < 0.8, 20)
            yield case(f"random_{dead_slots}_{probability}", dead_slots, valid, running)
        for lane in range(4):
            first = 4 + lane
            end = min(first + dead_slots, 47)
            name = f"one_hit_{dead_slots}_lane_{lane}"
            yield case(name, dead_slots, at([first]), live=[first], blind=range(first + 1, end + 1))
            if end < 47:
                # The last blind slot, and the first that sees again.
                live = [first, end + 1]
                blind = [s for s in (*range(first + 1, end + 1), *range(end + 2, end + 2 + dead_slots)) if s < 48]
                yield case(f"{name}_and_border", dead_slots, at({first, end, end + 1}), live=live, blind=blind)
    yield case("does_not_extend", 5, at([3, 6, 8, 9]), live=[3, 9], blind=[4, 5, 6, 7, 8, 10, 11, 12, 13, 14])
    yield case("disabled", 9, at(range(48)), enable=0, live=[], blind=[])
    long = np.zeros(4 * 16400, bool)
    long[[5, 5 + 65535, 5 + 65536, 65590]] = True
    yield case("longest", 65535, long, live=[5, 5 + 65536])


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_model(case):
    case.check(step_words(DeadTime, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(DeadTime(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_deadtime"})
