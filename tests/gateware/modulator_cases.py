"""Stimulus for the modulator and what its golden model makes of it, for both simulators."""

from dataclasses import dataclass, field

import numpy as np
from amaranth.lib import data

from benches import pack
from qrelay.protocol.registers import LINE_MODES, LINES
from qrelay_gateware.layouts import Tick, config_layout
from qrelay_gateware.modulator import Modulator
from qrelay_gateware.word_phase import WordPhase
from qrelay_sim.golden.modulator import LineSettings, line_bins, line_words, pin_bins
from qrelay_sim.golden.timebase import word_phase

CONFIG = data.Layout.cast(config_layout("modulator"))
TICK = data.Layout.cast(Tick)
LATENCY = Modulator.latency
TABLE_WORDS = 512 + 4
"""Words that pass while the table is written."""


@dataclass
class Case:
    """A run or several of one modulator: `runs` are (first word, word behind, slot word of the first)."""

    words: int
    runs: list
    lines: list = field(default_factory=lambda: [LineSettings()] * LINES)
    seed: int = 1
    enable: int = 1
    pattern_slots: int = 4
    ready: np.ndarray | None = None
    uniform: tuple | None = None
    """Segment, setting and phase of all slots; random without."""

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        self.table = random.integers(0, 1 << 16, 512).astype(np.uint16)
        slots = 4 * self.words
        self.segment = np.repeat(random.integers(0, 4, self.words), 4)
        self.setting = random.integers(0, 8, slots)
        self.phase = random.integers(0, 16, slots)
        if self.uniform is not None:
            for column, value in zip((self.segment, self.setting, self.phase), self.uniform, strict=True):
                column[:] = value
        self.running = np.zeros(self.words, int)
        self.slot_word = np.full(self.words, 3)
        for begin, end, start in self.runs:
            self.running[begin:end] = 1
            self.slot_word[begin:end] = (start + np.arange(end - begin)) % (1 << 46)
        if self.ready is None:
            self.ready = np.ones(self.words, int)

    def config(self):
        settings = {"enable": self.enable, "pattern_slots": self.pattern_slots}
        for i, line in enumerate(self.lines):
            settings |= {f"delay_{i}": line.delay, f"invert_{i}": line.invert}
            settings |= {f"idle_{i}": line.idle, f"mode_{i}": line.mode}
        return settings

    def columns(self):
        """Inputs per word; the pins show them LATENCY words later, `ready` in the next word."""
        choices = self.setting | self.phase << 3
        choices = choices.reshape(-1, 4) << np.arange(0, 32, 8)
        return {
            "tick": [
                pack(TICK, {"running": int(run), "slot_word": int(word), "segment": int(segment)})
                for run, word, segment in zip(self.running, self.slot_word, self.segment[::4], strict=True)
            ],
            "choices": choices.sum(axis=1).tolist(),
            "ready": self.ready,
        }

    def model(self, words_before):
        """Pins per word and line, from LATENCY words after the first word on."""
        bins = line_bins(self.table, self.segment, self.setting, self.phase)
        head = words_before + 1  # the tick is registered before it comes to the patterns
        phases, _ = word_phase(
            np.concatenate((np.zeros(head, int), self.running)),
            np.concatenate((np.zeros(head, int), self.slot_word)),
            self.pattern_slots // 4,
            WordPhase.align_words,
        )
        return np.stack(
            [
                line_words(
                    pin_bins(
                        line,
                        bins[:, i],
                        self.running,
                        self.ready_at_pins(),
                        self.enable,
                        phases[head:],
                        self.pattern_slots,
                    )
                )
                for i, line in enumerate(self.lines)
            ],
            axis=1,
        )

    def ready_at_pins(self):
        """`ready` is seen one word before the pins, the tick LATENCY words before."""
        late = self.ready[LATENCY - 1 :]
        return np.concatenate((late, np.repeat(late[-1:], LATENCY - 1)))


def pins(lines):
    """Bytes [word, line] of a column of flat Lines values."""
    return np.array([list(int(bits).to_bytes(LINES, "little")) for bits in lines], np.uint8)


def mode(name):
    return LINE_MODES.index(name)


def random_lines(random, modes=("normal",)):
    """One random setting for each line."""
    return [
        LineSettings(
            delay=int(random.choice([0, 1, 2, 3, 4, 5, 63, 64, 200, 252, 253, 254, 255, random.integers(256)])),
            invert=int(random.integers(2)),
            idle=int(random.integers(2)),
            mode=mode(str(random.choice(modes))),
        )
        for _ in range(LINES)
    ]
