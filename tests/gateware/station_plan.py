"""Random settings of a whole station, a run with them, and what the golden models make of it."""

import numpy as np
from amaranth.lib import data
from modulator_cases import pins
from receiver_cases import hit_bits
from station_bench import FACTS, StationBench

from qrelay.choices import ChoiceStream
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import AUDIT_WORDS, DETECTORS, GROUPS, LINES, OUTCOMES
from qrelay.protocol.status import State
from qrelay.protocol.windows import window
from qrelay_gateware.histograms import Histograms
from qrelay_gateware.layouts import Hits, Lines
from qrelay_gateware.receiver import Receiver
from qrelay_sim.golden.audit import audit_words
from qrelay_sim.golden.choices import choices
from qrelay_sim.golden.histograms import fine_counts, fine_kept, lag_counts
from qrelay_sim.golden.modulator import LineSettings, line_bins, line_words, pin_bins
from qrelay_sim.golden.receiver import ReceiverInput, receiver
from qrelay_sim.golden.sequencer import ticks

IDENTITY = FACTS.identity
LEAD_OUT = 80
"""Words that are looked at before and after a run."""
SEGMENTS = [(0, 24), (1, 7), (2, 101), (0, 5), (3, 3), (2, 60)]
QUANTUM = 2
PROBE_SUCCESS = 4
COUNTERS = [f"counters.{r.name}" for group in GROUPS if group.name == "counters" for r in group.registers]

HISTOGRAM_SUMS = [
    register.name
    for group in GROUPS
    if group.name == "histograms"
    for register in group.registers
    if register.access == "ro" and register.width >= 40
]

CLEARED = Histograms.settle_words + 20
"""Words after which the histograms are cleared: the fine one then counts a hit in every word, not in three of four."""

HITS_OF_DETECTOR = data.Layout.cast(Hits)[1].offset
"""Bits of the hits port that one detector takes."""

assert Lines.size == 8 * LINES  # pins() takes the lines for one byte each


class Plan:
    """Random settings of a whole station, a run with them, and what the golden models make of it."""

    def __init__(self, seed: int, *, words: int, hit_rate: float, windows: int = 0):
        random = np.random.default_rng(seed)
        self.start_slot = 8 * int(random.integers(0, 1 << 44))
        self.run_words = words
        self.key = random.bytes(32)
        self.nonce = int(random.integers(1, 1 << 62))
        self.stream = int(random.integers(0, 1 << 16))
        self.thresholds = sorted(int(t) for t in random.integers(0, 4097, 7))
        self.steps = [(int(random.integers(8)), int(random.integers(16))) for _ in range(7)]
        self.step_words = 3
        self.table = random.integers(0, 1 << 16, 512).astype(np.uint16)
        self.lines = [
            LineSettings(
                int(random.choice([0, 1, 2, 3, 4, 63, 64, 255, random.integers(256)])),
                int(random.integers(2)),
                int(random.integers(2)),
            )
            for _ in range(LINES)
        ]
        self.audit_word = int(random.integers(0, words - AUDIT_WORDS))
        self.success_table = random.integers(0, OUTCOMES, 256).astype(np.uint8)
        self.success_table[0] = 0
        self.reference = {"mode": 1 + seed % 3, "bins": 16, "sum_frames": 2}
        self.histograms = {
            "enable_fine": 1,
            "fine_source": seed // 2 % 2,
            "enable_lag": 1,
            "lag_a": 0,
            "lag_b": seed % 4,
        }
        self.receiver = {"enable": 1, "windows": windows, "live_mask": int(random.choice([15, 5])), "blank": 0b1010}
        for d in range(DETECTORS):
            self.receiver |= {
                f"enable_{d}": 1,
                f"delay_slots_{d}": int(random.choice([0, 1, 5, 62])),
                f"delay_fine_{d}": int(random.choice([0, 100, 255])),
                f"dead_slots_{d}": int(random.choice([0, 1, 2, 9])),
                f"gate_start_{d}": int(random.integers(256)),  # with these widths most gates wrap the slot edge
                f"gate_width_{d}": int(random.choice([256, 200, 128])),
                f"late_start_{d}": int(random.integers(256)),
                f"late_width_{d}": int(random.choice([0, 90])),
            }
        # Words from the word of the start slot on, with some after the end of the run.
        shape = (DETECTORS, 4 * (words + LEAD_OUT))
        self.valid = random.random(shape) < hit_rate
        self.fine = np.where(self.valid, random.integers(0, 256, shape), 0).astype(np.uint8)
        self._models()

    def _models(self):
        run = np.arange(self.run_words)
        tick = ticks(run, SEGMENTS, self.steps, self.step_words, self.start_slot // 4)
        self.choice_stream = ChoiceStream(self.key, self.nonce, self.stream, self.thresholds)
        draws = self.choice_stream.draws(self.start_slot, 4 * self.run_words).reshape(-1, 4)
        choice = choices(tick, draws, self.thresholds).ravel()
        bins = line_bins(self.table, np.repeat(tick["segment"], 4), choice["setting"], choice["phase"])

        around = (LEAD_OUT, LEAD_OUT)
        running = np.pad(np.ones(self.run_words, int), around)
        padded = np.pad(bins, ((4 * LEAD_OUT, 4 * LEAD_OUT), (0, 0), (0, 0)))
        levels = [
            pin_bins(line, padded[:, i], running, np.ones_like(running), 1, np.zeros(len(running), np.int64), 4)
            for i, line in enumerate(self.lines)
        ]
        self.pins = np.stack([line_words(level) for level in levels], axis=1)
        """Bytes [word, line] from LEAD_OUT words before the run to as many behind it."""
        part = slice(4 * self.audit_word, 4 * (self.audit_word + AUDIT_WORDS))
        seen = np.stack([level[4 * LEAD_OUT : -4 * LEAD_OUT][part] for level in levels], axis=1)
        kept = choice[part]
        self.audit = audit_words(kept["setting"], kept["phase"], kept["drawn"], seen)

        after = (0, LEAD_OUT)
        stimulus = ReceiverInput(
            running=np.pad(np.ones(self.run_words, bool), after),
            slot_word=np.pad(tick["slot_word"].astype(np.int64), after),
            segment=np.pad(tick["segment"].astype(np.int64), after, constant_values=3),
            frame=np.pad(tick["frame"].astype(np.int64), after),
            frame_last=np.pad(tick["frame_last"].astype(bool), after),
            latch=np.arange(self.run_words + LEAD_OUT) == self.run_words + LEAD_OUT - 1,
            clear=np.zeros(self.run_words + LEAD_OUT, bool),
            valid=self.valid,
            fine=self.fine,
            phase=np.pad(tick["phase"].astype(np.int64), after),
        )
        self.model = receiver(self.receiver, self.success_table, stimulus, reference=self.reference)
        self.records = {
            RecordKind.SUCCESS: self._slot_records(RecordKind.SUCCESS, self.model.success, ("pattern", "outcome")),
            RecordKind.CLICK: self._slot_records(RecordKind.CLICK, self.model.clicks, ("fine", "detector")),
            RecordKind.FRAME: [record for _, record in self.model.frames],
            RecordKind.REFERENCE: [record for _, records in self.model.reference for record in records],
        }

    def _slot_records(self, kind, items, fields):
        low, high = fields
        records = []
        for word, of_word in enumerate(items):
            for item in of_word[of_word >= 0].tolist():
                slot = (self.start_slot + 4 * word + (item & 3)) % (1 << 48)
                records.append(RECORDS[kind].pack({"slot": slot, low: item >> 2 & 0xFF, high: item >> 10, "flags": 0}))
        return records

    def hit_words(self, first_word: int) -> dict[int, int]:
        """Bits of the hits port by word, where the word of the start slot is `first_word`."""
        columns = [hit_bits(v, f).tolist() for v, f in zip(self.valid, self.fine, strict=True)]
        return {
            first_word + word: sum(part << HITS_OF_DETECTOR * d for d, part in enumerate(parts))
            for word, parts in enumerate(zip(*columns, strict=True))
            if any(parts)
        }

    async def load(self, bench: StationBench, start_source: int = 0):
        settings = {
            "timebase__start_source": start_source,
            "timebase__start_slot": self.start_slot,
            "timebase__length": 4 * self.run_words,
            "sequencer__segments": len(SEGMENTS),
            "sequencer__steps": len(self.steps),
            "sequencer__step_words": self.step_words,
            "keystream__enable": 1,
            "keystream__nonce": self.nonce,
            "keystream__stream": self.stream,
            "modulator__enable": 1,
            "audit__first_slot": self.start_slot + 4 * self.audit_word,
            "events__enable_success": 1,
            "events__enable_click": 1,
            "events__enable_frame": 1,
            "events__frame_mode": 1,
            "events__enable_reference": 1,
            "events__hold_words": 64,
        }
        settings |= {f"keystream__threshold_{k}": t for k, t in enumerate(self.thresholds, 1)}
        settings |= {f"receiver__{name}": value for name, value in self.receiver.items()}
        settings |= {f"reference__{name}": value for name, value in self.reference.items()}
        settings |= {f"histograms__{name}": value for name, value in self.histograms.items()}
        for i, line in enumerate(self.lines):
            settings |= {f"modulator__delay_{i}": line.delay, f"modulator__invert_{i}": line.invert}
            settings |= {f"modulator__idle_{i}": line.idle}
        await bench.write(**settings)
        await bench.write_table("segments", [kind | words << 2 for kind, words in SEGMENTS])
        await bench.write_table("steps", [setting | phase << 3 for setting, phase in self.steps])
        await bench.write_table("lines", self.table)
        await bench.write_table("success", self.success_table)
        await bench.write_table("key", np.frombuffer(self.key, "<u4"))
        await bench.write(keystream__load=1)
        await bench.words(200)
        await bench.write(audit__arm=1)
        while await bench.read("histograms.busy"):
            await bench.words(500)

    async def run(self, bench: StationBench, start_word: int):
        """From the start event to the end of the run: hits in, lines out."""
        first_word = start_word + IDENTITY.start_latency
        bench.hits |= self.hit_words(first_word + IDENTITY.receiver_latency)
        await bench.until(first_word + self.run_words + LEAD_OUT)
        first_line = first_word + IDENTITY.line_latency - LEAD_OUT
        seen = pins([bench.lines[first_line + n] for n in range(self.run_words + LEAD_OUT)])
        np.testing.assert_array_equal(seen, self.pins[: len(seen)], "lines")

    async def check_after(self, bench: StationBench):
        """Everything that is read after the run."""
        state = State(await bench.read("system.state"))
        assert State.FINISHED | State.AUDIT_COMPLETE in state
        assert not state & (State.ARMED | State.RUNNING)
        audit = await bench.read_words(window("audit").base, 4 * AUDIT_WORDS)
        np.testing.assert_array_equal(audit, self.audit, "audit window")
        await bench.write(system__latch_counters=1)
        await bench.words(Receiver.latch_latency)
        counters = await bench.read_many(COUNTERS)
        ((_, expected),) = self.model.counters
        assert {name.partition(".")[2]: value for name, value in counters.items()} == expected
        await self._check_histograms(bench)
        await bench.words(3000)
        dropped = await bench.read_many([f"events.dropped_{kind.name.lower()}" for kind in RecordKind])
        for kind, offered in self.records.items():
            has_slot = kind not in (RecordKind.FRAME, RecordKind.REFERENCE)
            bench.account.check(kind, offered, dropped[f"events.dropped_{kind.name.lower()}"], has_slot=has_slot)
        beyond = await bench.read("events.clicks_beyond_four")
        assert beyond == int(self.model.clicks_beyond_four.sum())
        return dropped

    async def _check_histograms(self, bench: StationBench):
        """All of the run, from its arm to a swap behind it."""
        while await bench.read("histograms.busy"):
            await bench.words(500)
        await bench.write(histograms__swap=1)
        await bench.words(100)
        while await bench.read("histograms.busy"):
            await bench.words(2000)
        sums = await bench.read_many([f"histograms.{name}" for name in HISTOGRAM_SUMS])
        sums = {name.partition(".")[2]: value for name, value in sums.items()}
        words = slice(0, self.run_words + LEAD_OUT)
        clicks = self.model.click_bits
        fine = await bench.read_words(window("fine_counts").base, 256 * DETECTORS)
        source = clicks if self.histograms["fine_source"] else self.model.hit_bits
        kept = fine_kept(source, [])
        assert np.array_equal(np.reshape(fine, (DETECTORS, 256)), fine_counts(kept, self.model.fines, words))
        assert sums["lost_fine"] == np.count_nonzero(source & ~kept)
        a, b = (clicks[self.histograms[key]] for key in ("lag_a", "lag_b"))
        assert sums["words"] == self.run_words
        ((_, counters),) = self.model.counters
        assert (4 * sums["counted_words"], sums["live_slots"]) == (counters["slots"], counters["live_slots"])
        assert (sums["clicks_a"] + sums["lost_a"], sums["clicks_b"] + sums["lost_b"]) == (a.sum(), b.sum())
        lag = np.array(await bench.read_words(window("lag_counts").base, 1024))
        if not sums["lost_a"] + sums["lost_b"]:
            found = np.concatenate((lag[511::-1], [sums["coincidences"]], lag[512:]))
            np.testing.assert_array_equal(found, lag_counts(a, b, words), "lags")
