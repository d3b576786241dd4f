"""cocotb: a whole station behind its ports against the golden models of its blocks."""

import cocotb
import numpy as np
from amaranth.lib import data
from modulator_cases import pins
from receiver_cases import hit_bits
from station_bench import FACTS, StationBench

from qrelay.choices import ChoiceStream
from qrelay.protocol.identity import IDENTITY_WORDS, Identity
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import AUDIT_WORDS, DETECTORS, GROUPS, LINES, OUTCOMES
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.windows import window
from qrelay_gateware.histograms import Histograms
from qrelay_gateware.layouts import Hits, Lines
from qrelay_gateware.probe import Probe
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


@cocotb.test()
async def identity(dut):
    """The identity block is that of the design, the key cannot be read, and what was written reads back."""
    bench = StationBench(dut, 1, pause=0.3)
    await bench.begin()
    words = await bench.read_words(window("identity").base, IDENTITY_WORDS)
    assert Identity.from_words(words) == IDENTITY
    key = [0x9E3779B9 * n & 0xFFFFFFFF for n in range(1, 9)]
    await bench.write_table("key", key)
    await bench.write(keystream__load=1)
    await bench.words(300)
    assert await bench.read_words(window("key").base, 8) == [0] * 8
    assert State.KEYSTREAM_READY in State(await bench.read("system.state"))
    await bench.write(timebase__start_slot=0xABCD_0123_4560)
    assert await bench.read("timebase.start_slot") == 0xABCD_0123_4560


@cocotb.test()
async def run_started_by_command(dut):
    """A run with pauses on the link: lines, audit, records and counters are those of the models; no record is lost."""
    bench = StationBench(dut, 2, pause=0.1)
    await bench.begin()
    plan = Plan(7, words=640, hit_rate=0.05)
    assert len(plan.records[RecordKind.SUCCESS]) > 20
    assert len(plan.records[RecordKind.CLICK]) > 80
    assert len(plan.records[RecordKind.FRAME]) == 3
    assert sum(RECORDS[RecordKind.REFERENCE].unpack(r)["first"] for r in plan.records[RecordKind.REFERENCE]) > 20
    ((_, counters),) = plan.model.counters
    for name in ("dead_", "gated_out_", "clicks_"):
        assert sum(value for key, value in counters.items() if key.startswith(name)) > 10
    assert min(counters["vetoed"], counters["doubles"], counters["slots"] - counters["live_slots"]) > 0
    await plan.load(bench)
    bench.recording = True
    await bench.words(LEAD_OUT)
    await bench.arm()
    await bench.words(CLEARED)
    assert State.ARMED in State(await bench.read("system.state"))
    await plan.run(bench, await bench.start())
    dropped = await plan.check_after(bench)
    assert not any(dropped.values())
    assert await bench.read("system.alarms") == 0


@cocotb.test()
async def run_started_by_the_start_input(dut):
    """More clicks than the link can carry: each is sent once, in order, or counted in a gap record."""
    bench = StationBench(dut, 3, pause=0.5)
    await bench.begin()
    plan = Plan(3, words=1000, hit_rate=0.3, windows=1)
    await plan.load(bench, start_source=1)
    bench.recording = True
    await bench.words(LEAD_OUT)
    await bench.arm()
    await bench.words(CLEARED)
    start_word = bench.word + 20
    bench.start_pulses[start_word] = 0b0111_1000
    await plan.run(bench, start_word)
    bench.pause = 0.0
    await bench.words(15_000)
    # Gap records wait for room in their queue like all others; the flag of later records shows the alarm.
    dropped = await bench.read_many([f"events.dropped_{kind.name.lower()}" for kind in RecordKind])
    assert dropped["events.dropped_click"] > 0
    assert Alarm.RECORDS_DROPPED in Alarm(await bench.read("system.alarms"))
    for kind, records in bench.account.received.items():
        if kind in plan.records:
            flags = ~0 << RECORDS[kind].offset("flags")
            bench.account.received[kind] = [record & ~flags for record in records]
    assert await bench.read("timebase.start_place") == 3
    await plan.check_after(bench)


@cocotb.test()
async def latency_contract(dut):
    """All latencies are the constants of the identity block, whatever the start: no jitter of a single word.

    The ports of the station are its pins here but for what the facts add for a board's own registers.
    """
    output_words, input_words = FACTS.output_latency, FACTS.pin_latency - FACTS.output_latency
    bench = StationBench(dut, 4)
    await bench.begin()
    await bench.write_table("lines", [0xFFFF] * window("lines").depth)
    await bench.write_table("segments", [QUANTUM | 1000 << 2])
    await bench.write_table("success", [0, 1] + [0] * 254)
    await bench.write_table("key", [1, 2, 3, 4, 5, 6, 7, 8])
    await bench.write(
        keystream__load=1,
        keystream__enable=1,
        modulator__enable=1,
        modulator__probe=PROBE_SUCCESS,
        receiver__enable=1,
        events__enable_success=1,
        events__hold_words=0,
        timebase__length=0,
    )
    bench.recording = True
    hit = int(hit_bits(np.array([False, True, False, False]), np.array([0, 7, 0, 0], np.uint8))[0])
    latencies = set()
    contract = set()
    for number, source in enumerate((0, 1, 0, 1, 1, 1, 0), start=1):
        start_slot = 8 * bench.random.randrange(1 << 45)
        await bench.write(timebase__start_source=source, timebase__start_slot=start_slot, keystream__nonce=number)
        await bench.arm()
        await bench.words(bench.random.randrange(100))
        bench.lines.clear()
        bench.probe.clear()
        bench.watched = {"drawn": {}, "records_busy": {}}
        if source:
            event = bench.word + 1 + bench.random.randrange(10)
            bench.start_pulses[event] = 0xFF << bench.random.randint(1, 6) & 0xFF
        else:
            event = await bench.start()
        hit_word = event + IDENTITY.start_latency + IDENTITY.receiver_latency
        assert bench.word < hit_word - 1
        bench.hits |= {hit_word - 1: hit, hit_word: hit}
        await bench.until(event + 300)
        first_line = min(word for word, value in bench.lines.items() if value)
        assert bench.lines[first_line] == (1 << 8 * LINES) - 1
        (success,) = [word for word, value in bench.probe.items() if value]
        assert bench.probe[success] == 0b0010
        (record,) = bench.account.received[RecordKind.SUCCESS]
        slot = RECORDS[RecordKind.SUCCESS].unpack(record)["slot"]
        assert slot == start_slot + 1  # the hit of the word before belongs to no run
        latencies.add((first_line - event, success - Probe.latency - hit_word))
        first_choice = min(bench.watched["drawn"])
        # A record is in its queue in the word after it was offered.
        queued = min(word for word in bench.watched["records_busy"] if word >= hit_word) + 1
        contract.add((first_line - first_choice + output_words, queued - hit_word + input_words))
        await bench.write(system__disarm=1)
        await bench.words(20)
    assert latencies == {(IDENTITY.start_latency + IDENTITY.line_latency, IDENTITY.event_latency)}
    assert contract == {(IDENTITY.choice_to_pin, IDENTITY.pin_to_event)}


@cocotb.test()
async def arming_needs_a_fresh_nonce(dut):
    """No key, no fresh nonce, no lock: no arm, and an alarm; with all three it arms, once per nonce."""
    bench = StationBench(dut, 5)
    await bench.begin()

    async def refused() -> bool:
        await bench.write(system__alarms=0xFFFF)
        await bench.arm()
        await bench.words(5)
        armed = State.ARMED in State(await bench.read("system.state"))
        alarm = Alarm.ARM_REFUSED in Alarm(await bench.read("system.alarms"))
        assert armed != alarm
        return alarm

    await bench.write(keystream__enable=1, keystream__nonce=5, timebase__length=64, events__enable_status=0)
    assert await refused()  # no key
    await bench.write_table("key", range(8))
    await bench.write(keystream__load=1)
    await bench.words(200)
    assert not await refused()
    await bench.start()
    await bench.words(200)
    assert await refused()  # used
    await bench.write(keystream__nonce=4)
    assert await refused()  # older
    await bench.write(keystream__nonce=6)
    dut.clock_locked.value = 0
    await bench.words(3)
    assert await refused()  # no clock
    dut.clock_locked.value = 1
    await bench.words(3)
    assert not await refused()
    await bench.write(system__disarm=1)
    await bench.write(keystream__enable=0, keystream__nonce=0)
    assert not await refused()  # a station that draws nothing needs none


@cocotb.test()
async def bytes_lost_at_the_serial_port(dut):
    """Each is counted by its kind, also with the link at rest, and latches the alarm."""
    bench = StationBench(dut, 9)
    await bench.begin()
    counted = {"framing_errors": 0, "overruns": 0}
    for framing_error, overrun in ((1, 0), (0, 1), (1, 1), (1, 0)):
        await bench.words(2000)
        dut.framing_error.value = framing_error
        dut.overrun.value = overrun
        await bench.words()
        dut.framing_error.value = 0
        dut.overrun.value = 0
        counted["framing_errors"] += framing_error
        counted["overruns"] += overrun
        await bench.words(4)
        for name, value in counted.items():
            assert await bench.read(f"link.{name}") == value
        assert Alarm(await bench.read("system.alarms")) == Alarm.SERIAL_BYTE_LOST
        await bench.write(system__alarms=int(Alarm.SERIAL_BYTE_LOST))


@cocotb.test()
async def lock_loss(dut):
    """Without lock the lines are idle from the next word but one on; the run is over; the alarm stays until cleared."""
    bench = StationBench(dut, 6)
    await bench.begin()
    idle = 0b0101_0011
    await bench.write_table("lines", [0x3C5A] * window("lines").depth)
    await bench.write_table("segments", [1 << 2])
    settings = {f"modulator__idle_{i}": idle >> i & 1 for i in range(LINES)}
    await bench.write(modulator__enable=1, timebase__length=0, events__status_words=0, **settings)
    idle_lines = sum(0xFF << 8 * i for i in range(LINES) if idle >> i & 1)
    await bench.arm()
    await bench.start()
    await bench.words(200)
    bench.recording = True
    await bench.words(10)
    assert idle_lines not in bench.lines.values()
    assert len(set(bench.lines.values())) == 1
    dut.clock_locked.value = 0  # in the word that is present
    lost = bench.word
    await bench.words(50)
    assert [bench.lines[word] for word in range(lost + 1, bench.word + 1)] == [idle_lines] * (bench.word - lost)
    dut.clock_locked.value = 1
    await bench.words(50)
    state = State(await bench.read("system.state"))
    assert State.CLOCK_LOCKED in state
    assert not state & (State.ARMED | State.RUNNING)
    assert {bench.lines[word] for word in range(lost + 1, bench.word + 1)} == {idle_lines}
    assert Alarm(await bench.read("system.alarms")) == Alarm.CLOCK_LOCK_LOST
    (record,) = bench.account.received[RecordKind.STATUS]
    assert RECORDS[RecordKind.STATUS].unpack(record)["alarms"] == Alarm.CLOCK_LOCK_LOST
    await bench.write(system__alarms=int(Alarm.CLOCK_LOCK_LOST))
    assert await bench.read("system.alarms") == 0
