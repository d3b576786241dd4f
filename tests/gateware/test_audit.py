"""Audit behind a modulator, against the golden model, and each promise of its docstring by name."""

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from modulator_cases import LATENCY, Case, random_lines
from stepping import step_words

from benches import pack, run_bench
from qrelay.protocol.registers import AUDIT_WORDS, LINES
from qrelay_gateware.audit import Audit
from qrelay_gateware.layouts import Choices, Lines, Tick, config_layout, table_write
from qrelay_gateware.modulator import Modulator
from qrelay_sim.golden.audit import audit_choices, audit_lines, audit_words
from qrelay_sim.golden.modulator import LineSettings, line_bins

SLOTS = 4 * AUDIT_WORDS
AUDIT_CONFIG = data.Layout.cast(config_layout("audit"))


class AuditedModulator(wiring.Component):
    """A modulator and the audit of it, as they sit in a station."""

    config: In(config_layout("modulator"))
    audit_config: In(config_layout("audit"))
    table: table_write("lines")
    tick: In(Tick)
    choices: In(Choices)
    ready: In(1)
    lines: Out(Lines)
    done: Out(1)
    address: In(10)
    value: Out(32)

    def elaborate(self, platform):
        m = Module()
        m.submodules.modulator = modulator = Modulator()
        m.submodules.audit = audit = Audit()
        m.d.comb += modulator.config.eq(self.config)
        m.d.comb += modulator.tick.eq(self.tick)
        m.d.comb += modulator.choices.eq(self.choices)
        m.d.comb += modulator.ready.eq(self.ready)
        m.d.comb += modulator.table.address.eq(self.table.address)
        m.d.comb += modulator.table.value.eq(self.table.value)
        m.d.comb += modulator.table.enable.eq(self.table.enable)
        m.d.comb += self.lines.eq(modulator.lines)
        m.d.comb += audit.config.eq(self.audit_config)
        m.d.comb += audit.tick.eq(self.tick)
        m.d.comb += audit.choices.eq(self.choices)
        m.d.comb += audit.lines.eq(modulator.lines)
        m.d.comb += audit.address.eq(self.address)
        m.d.comb += self.done.eq(audit.done)
        m.d.comb += self.value.eq(audit.value)
        return m


def capture(case, first_slot, arms=(0,), drawn=None):
    """Run `case`, arm in words `arms`, then read the memory. Returns done per word and the memory."""
    columns = case.columns()
    if drawn is not None:
        bits = (drawn.reshape(-1, 4) << np.arange(7, 32, 8)).sum(axis=1)
        columns["choices"] = [choices | int(more) for choices, more in zip(columns["choices"], bits, strict=True)]
    reading = 4 * AUDIT_WORDS
    for name, column in columns.items():
        columns[name] = [*column, *([0] * (reading + 2) if name != "ready" else [1] * (reading + 2))]
    columns["audit_config"] = [
        pack(AUDIT_CONFIG, {"first_slot": first_slot, "arm": int(word in arms)})
        for word in range(case.words + reading + 2)
    ]
    columns["address"] = [0] * case.words + [*range(reading), 0, 0]
    tables = {"table": case.table}
    seen = step_words(AuditedModulator, columns, ["done", "value"], config=case.config(), tables=tables)
    return np.array(seen["done"][: case.words]), np.array(seen["value"][case.words + 2 :], np.uint32)


def model(case, first_word, drawn=None):
    """Memory of a capture that begins in word `first_word` of the stimulus."""
    slots = slice(4 * first_word, 4 * first_word + SLOTS)
    bytes_of_lines = case.model(516)[first_word : first_word + AUDIT_WORDS]
    levels = np.unpackbits(bytes_of_lines[..., None], axis=-1, bitorder="little").reshape(AUDIT_WORDS, LINES, 4, 2)
    bins = levels.transpose(0, 2, 1, 3).reshape(SLOTS, LINES, 2)
    drawn = np.zeros(4 * case.words, int) if drawn is None else drawn
    return audit_words(case.setting[slots], case.phase[slots], drawn[slots], bins)


@pytest.mark.parametrize("seed", range(4))
def test_choices_and_lines_of_the_same_slots(seed):
    """Lines with delays, polarity and all, as they leave; with delay 0 the bins are those of the choices."""
    random = np.random.default_rng(seed)
    start = int(random.choice([0, (1 << 46) - 100, random.integers(1 << 46)]))
    lines = random_lines(random)
    lines[0] = LineSettings()
    case = Case(420, [(20, 410, start)], lines, seed=seed)
    drawn = random.integers(0, 2, 4 * case.words)
    skipped = int(random.integers(0, 100))
    first_slot = 4 * (start + skipped) % (1 << 48) + int(random.integers(4))
    done, memory = capture(case, first_slot, drawn=drawn)
    np.testing.assert_array_equal(memory, model(case, 20 + skipped, drawn))
    assert np.flatnonzero(done)[0] == 20 + skipped + AUDIT_WORDS - 1 + LATENCY + 1

    slots = slice(4 * (20 + skipped), 4 * (20 + skipped) + SLOTS)
    setting, phase, was_drawn = audit_choices(memory)
    np.testing.assert_array_equal(setting, case.setting[slots])
    np.testing.assert_array_equal(phase, case.phase[slots])
    np.testing.assert_array_equal(was_drawn, drawn[slots])
    expected = line_bins(case.table, case.segment, case.setting, case.phase)[slots]
    np.testing.assert_array_equal(audit_lines(memory)[:, 0], expected[:, 0])


def test_capture_of_the_first_words_of_a_run():
    case = Case(300, [(7, 290, 50)])
    done, memory = capture(case, 200)
    np.testing.assert_array_equal(memory, model(case, 7))
    assert done[-1]


def test_done_waits_for_arm_and_holds_until_the_next():
    case = Case(600, [(5, 590, 0)])
    never, _ = capture(case, 40, arms=())
    assert not never.any()
    done, memory = capture(case, 40, arms=(0, 400))
    np.testing.assert_array_equal(np.flatnonzero(done), np.arange(5 + 10 + AUDIT_WORDS + LATENCY, 401))
    np.testing.assert_array_equal(memory, model(case, 15), "what was kept stays")


@pytest.mark.parametrize("again", [100, 270, 271, 272, 274, 275, 276, 279])
def test_arm_during_a_capture_starts_anew(again):
    """Up to the very last word, also while the last lines are on their way."""
    case = Case(900, [(5, 300, 0), (310, 890, 0)])
    done, memory = capture(case, 40, arms=(0, again))
    complete = 15 + AUDIT_WORDS + LATENCY
    assert np.flatnonzero(done)[0] == (complete if again >= complete else 320 + AUDIT_WORDS + LATENCY)
    assert done[-1]
    np.testing.assert_array_equal(memory, model(case, 320))


def test_capture_is_never_put_together_from_two_runs():
    case = Case(600, [(5, 200, 0), (201, 590, 0)])
    done, memory = capture(case, 40)
    assert np.flatnonzero(done)[0] == 201 + 10 + AUDIT_WORDS + LATENCY
    np.testing.assert_array_equal(memory, model(case, 211))


def test_a_slot_outside_the_run_is_never_captured():
    case = Case(500, [(5, 490, 1000)])
    done, _ = capture(case, 4 * 990)
    assert not done.any()


def test_model_layout():
    """One word by hand: choices of slots 0..3 in parts 0 and 1, bins in parts 2 and 3."""
    bins = np.zeros((4, LINES, 2), np.uint8)
    bins[0, 0, 0] = bins[1, 7, 1] = bins[3, 2, 1] = 1
    memory = audit_words([1, 2, 3, 7], [0, 15, 4, 8], [1, 0, 1, 0], bins)
    assert [hex(word) for word in memory] == ["0x7a0081", "0x4700a3", "0x80000001", "0x200000"]
    setting, phase, drawn = audit_choices(memory)
    assert (setting.tolist(), phase.tolist(), drawn.tolist()) == ([1, 2, 3, 7], [0, 15, 4, 8], [1, 0, 1, 0])
    np.testing.assert_array_equal(audit_lines(memory), bins)


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(AuditedModulator(), "bench_audit", tmp_path)
