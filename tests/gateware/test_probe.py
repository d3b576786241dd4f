"""Probe: each content by name, and all of them against a model on random input."""

import numpy as np
import pytest
from amaranth.lib import data
from stepping import step_words

from benches import pack, run_bench
from qrelay.protocol.registers import DETECTORS, PROBES
from qrelay_gateware.layouts import Tick
from qrelay_gateware.probe import Probe
from qrelay_gateware.word_phase import WordPhase
from qrelay_sim.golden.sequencer import QUANTUM, ticks
from qrelay_sim.golden.timebase import word_phase

TICK = data.Layout.cast(Tick)
LATENCY = Probe.latency


class ProbeCase:
    """Two runs of short frames, and random hits, clicks and successes."""

    def __init__(self, seed, words=500, starts=(0, 1001)):
        random = np.random.default_rng(seed)
        self.words = words
        word_of_run = np.full(words, -1)
        starting = np.zeros(words, np.int64)
        for (begin, end), start in zip(((5, 200), (201, words - 10)), starts, strict=True):
            word_of_run[begin:end] = np.arange(end - begin)
            starting[begin:end] = start
        self.ticks = ticks(word_of_run, [(0, 3), (1, 1), (QUANTUM, 7), (3, 2)], [(1, 2)], 1)
        self.running = word_of_run >= 0
        self.slot_word = np.where(self.running, (starting + word_of_run) % (1 << 46), 0)
        self.ticks["slot_word"] = self.slot_word
        self.success = random.integers(0, 16, words)
        self.hits = random.integers(0, 16, (words, DETECTORS))
        self.clicks = random.integers(0, 16, (words, DETECTORS))

    def columns(self):
        shifts = 4 * np.arange(DETECTORS)
        return {
            "tick": [pack(TICK, {name: int(tick[name]) for name in tick.dtype.names}) for tick in self.ticks],
            "success": self.success,
            "hits": (self.hits << shifts).sum(axis=1),
            "clicks": (self.clicks << shifts).sum(axis=1),
        }

    def model(self, content, detector, period):
        """Output per word, without the latency."""
        whole = 0xF * self.running.astype(int)
        before_last = np.concatenate(([1], np.where(self.running, self.ticks["frame_last"], 1)[:-1]))
        phases, aligned = word_phase(self.running, self.slot_word, period, WordPhase.align_words)
        nothing = np.zeros(self.words, int)
        return {
            "low": nothing,
            "frame": whole * before_last,
            "slot0": aligned * (phases == 0),
            "running": whole,
            "success": self.success,
            "detector_hit": self.hits[:, detector] if detector < DETECTORS else nothing,
            "detector_click": self.clicks[:, detector] if detector < DETECTORS else nothing,
            "quantum": whole * (self.ticks["segment"] == QUANTUM),
        }[content]


def simulate(case, content, detector=0, period=1024):
    config = {"probe": PROBES.index(content), "probe_detector": detector, "probe_period": period}
    seen = step_words(Probe, case.columns(), ["out"], config=config)["out"]
    np.testing.assert_array_equal(seen[LATENCY:], case.model(content, detector, period)[:-LATENCY])
    return np.array(seen[LATENCY:])


@pytest.mark.parametrize("content", PROBES)
@pytest.mark.parametrize("seed", range(2))
def test_each_content_against_the_model(content, seed):
    simulate(ProbeCase(seed), content, detector=seed, period=13)


@pytest.mark.parametrize("content", ["detector_hit", "detector_click"])
@pytest.mark.parametrize("detector", [0, 1, 2, 3, 4, 15])
def test_detector_by_number_and_none_beyond(content, detector):
    result = simulate(ProbeCase(5, words=260), content, detector)
    assert result.any() == (detector < DETECTORS)


def test_frame_marks_the_first_word_of_each_frame():
    result = simulate(ProbeCase(0), "frame")
    np.testing.assert_array_equal(np.flatnonzero(result[:200]), 5 + 13 * np.arange(15))
    assert set(result) == {0, 0xF}
    assert result[201], "the second run begins with a frame, wherever the first was left"


@pytest.mark.parametrize("period", [0, 1, 7, 64, 1024])
def test_slot0_is_the_slot_index_modulo_the_period(period):
    case = ProbeCase(0, starts=(0, 1001))
    result = simulate(case, "slot0", period=period)
    assert set(result) <= {0, 1}, "one slot, lane 0"
    first = np.flatnonzero(result[5:200])
    np.testing.assert_array_equal(first, np.flatnonzero(np.arange(195) % max(period, 1) == 0))
    later = np.arange(201 + WordPhase.align_words, 488)
    np.testing.assert_array_equal(result[later], (1001 + later - 201) % max(period, 1) == 0)
    assert not result[201 : 201 + WordPhase.align_words].any(), "nothing rather than a wrong mark"


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Probe(), "bench_probe", tmp_path)
