"""The receiver: from hits to clicks, successes and counters."""

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.records import RECORD_BITS
from qrelay.protocol.registers import DETECTORS, LAG_SLOTS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .clicks import ClickRecords, LaneBits, LaneFines, SuccessRecords
from .counters import Counters
from .deadtime import DeadTime
from .delay import Delay
from .frames import FrameRecords
from .gate import Gate
from .histograms import Histograms
from .layouts import Hits, Segment, Tick, WordRecords, config_layout, status_layout, stored_read, table_write
from .matcher import Matcher, Patterns
from .pulser import TestPulser
from .rate import RateMeter
from .reference import ReferenceCounters

__all__ = ["Receiver"]


class Receiver(wiring.Component):
    """Hits of four detectors become gated clicks, click patterns, successes, counters and frame records.

    A hit presented in the same clock as tick T, in lane l, belongs to slot 4 * T.slot_word + l, plus the delay of its
    detector. Order: test pulser or input (a pulse takes the place of an input hit of its slot), delay, dead time, gate,
    pattern, success table. With `enable` 0 hits and ticks are ignored: nothing counts, no frame record is made, the
    rate meter shows 0; a detector with `enable_<i>` 0 has no hits and is always live.

    Slots in a segment of `blank` do not count, and their clicks are counted as gated out; their hits start dead times
    like any other. Pattern with `windows` 0: bit i is a click of detector i in its (early) gate. With `windows` 1: bits
    2i and 2i + 1 are its clicks in the early and the late window; where the windows overlap, the click is early.

    Clicks in reference segments, blanked or not, go to the reference counters; the tick's phase is their bin.

    Settings act within a few words; change them when there is no run. Every run begins with live detectors and without
    hits of earlier words.

    Latency: `latency` words from hits and tick to the success and click records of the same word (at delay 0), which
    come together; `frame_latency` to the frame record, so after all records of its frame; `latch_latency` from `latch`
    to the counters.
    Reset: everything 0.  Overflow: clicks after the fourth of a word are counted in `clicks_beyond_four`; a second hit
    in a slot counts as dead.

    Parameters
    ----------
    config_domain : str
        Clock domain of what follows from settings alone: any that is clocked when they change, and in the word after.
    histogram_domain : str
        Clock domain of the histograms, of the same clock; it may stop while they are off and not busy.

    Ports
    -----
    config, status
        Registers of group `receiver`.
    copies
        Words of group `counters`: copies made by `latch`.
    latch, clear : In(1)
        Strobes that ride with the word of their clock: the copies show all words before it, the counters start again
        with it.
    success_table : table_write("success")
    tick : In(Tick)
        The word of the present clock.
    hits : In(Hits)
        Its hits.
    success : Out(WordRecords)
        `low` pattern, `high` outcome; the valid items come first, in order of slot.
    clicks : Out(WordRecords)
        `low` fine, `high` detector; the valid items come first, in order of slot and then detector.
    clicks_beyond_four : Out(5)
        Clicks of the word of `clicks` that got no record.
    frame : Out(64), frame_valid : Out(1)
        FRAME record with flags 0.
    reference_config, reference_status, reference, reference_valid, reference_lost
        Registers of group `reference`, its records and losses, as `config`, `status`, `record`, `valid` and `lost` of
        `ReferenceCounters`, whose `last` comes `reference_latency` words after the tick.
    histograms_config, histograms_status, fine_counts, lag_counts
        Registers and windows of `Histograms`; the strobe `swap` rides with the word of its clock, as `latch` does.
    hit_bits, click_bits : Out(LaneBits)
        Hits after the delay, and gated clicks, of the word of the records: ``bits[detector][lane]``.
    success_bits : Out(4)
        Successes of the same word by lane.
    """

    config: In(config_layout("receiver"))
    status: Out(status_layout("receiver"))
    copies: Counters.copies_port
    latch: In(1)
    clear: In(1)
    success_table: table_write("success")
    tick: In(Tick)
    hits: In(Hits)
    success: Out(WordRecords)
    clicks: Out(WordRecords)
    clicks_beyond_four: Out(5)
    frame: Out(RECORD_BITS)
    frame_valid: Out(1)
    reference_config: In(config_layout("reference"))
    reference_status: Out(status_layout("reference"))
    reference: Out(RECORD_BITS)
    reference_valid: Out(1)
    reference_lost: Out(1)
    histograms_config: In(config_layout("histograms"))
    histograms_status: Out(status_layout("histograms"))
    fine_counts: In(stored_read(FINES_PER_SLOT * DETECTORS))
    lag_counts: In(stored_read(2 * LAG_SLOTS))
    hit_bits: Out(LaneBits)
    click_bits: Out(LaneBits)
    success_bits: Out(SLOTS_PER_WORD)

    # Clocks after the input at which a word is at each place.
    _taken = 1
    _delayed = _taken + Delay.latency
    _passed = _delayed + DeadTime.latency
    _gated = _delayed + Gate.latency
    _pattern = _gated + 1
    _matched = _pattern + Matcher.latency

    latency = _matched + SuccessRecords.latency
    """Words from hits to their success and click records, at delay 0."""
    tick_latency = latency
    """Words from a tick to the records of its slots: hits and tick enter in the same clock."""
    frame_latency = latency + FrameRecords.latency
    """Words from the last word of a frame to its record."""
    reference_latency = latency + 1
    """Words from a tick to its place at the reference counters: one more than the records, which are wide."""
    latch_latency = _matched + Counters.latency
    """Words from `latch` to the last of the counters' copies."""

    def __init__(self, *, config_domain: str = "sync", histogram_domain: str = "sync"):
        self._config_domain = config_domain
        self._histogram_domain = histogram_domain
        super().__init__()

    def _later(self, m, signal, words, name):
        """`signal`, `words` clocks later."""
        for word in range(words):
            after = Signal(signal.shape(), name=f"{name}_{word + 1}")
            m.d.sync += after.eq(signal)
            signal = after
        return signal

    def elaborate(self, platform):
        m = Module()
        config = self.config
        detectors = range(DETECTORS)
        lanes = range(SLOTS_PER_WORD)

        def of(name, d):
            return config[f"{name}_{d}"]

        def later(signal, words, name):
            return self._later(m, signal, words, name)

        # Words with their place in the run. Blanked segments run, but do not count.
        running = [Signal(name="running_taken")]
        counted = [Signal(name="counted_taken")]
        runs = Signal()
        m.d.comb += runs.eq(self.tick.running & config.enable)
        m.d.sync += running[0].eq(runs)
        m.d.sync += counted[0].eq(runs & ~config.blank.bit_select(self.tick.segment, 1))
        for word in range(2, self.reference_latency + 1):
            running.append(later(running[-1], 1, f"running_at_{word}"))
            counted.append(later(counted[-1], 1, f"counted_at_{word}"))

        def running_at(word):
            return running[word - 1]

        def counted_at(word):
            return counted[word - 1]

        # Input or test pulser.
        m.submodules.pulser = pulser = TestPulser()
        m.d.comb += pulser.period.eq(config.pulser_period)
        pulse = Signal(Hits)
        with m.If(pulser.fire):
            for d in detectors:
                for lane in lanes:
                    m.d.comb += pulse[d][lane].valid.eq(config.pulser_mask[d] & (config.pulser_lane == lane))
        taken = Signal(Hits)
        for d in detectors:
            used = config.enable & of("enable", d)
            for lane in lanes:
                hit = self.hits[d][lane]
                m.d.sync += taken[d][lane].valid.eq(used & (hit.valid | pulse[d][lane].valid))
                m.d.sync += taken[d][lane].fine.eq(Mux(pulse[d][lane].valid, config.pulser_fine, hit.fine))

        m.submodules.rate_meter = rate_meter = RateMeter()
        m.d.comb += rate_meter.words.eq(config.rate_words)
        for d in detectors:
            m.d.comb += rate_meter.hits[d].eq(Cat(hit.valid for hit in taken[d]))
            m.d.comb += self.status[f"rate_{d}"].eq(rate_meter.rates[d])

        # Delay, dead time and gate of each detector.
        hits = Signal(LaneBits)
        extra = Signal(LaneBits)
        passed = Signal(LaneBits)
        early = Signal(LaneBits)
        late = Signal(LaneBits)
        blind = Signal(LaneBits)
        fines = Signal(LaneFines)
        for d in detectors:
            m.submodules[f"delay_{d}"] = delay = Delay()
            m.submodules[f"dead_time_{d}"] = dead_time = DeadTime(config_domain=self._config_domain)
            m.submodules[f"gate_{d}"] = gate = Gate()
            m.d.comb += [
                delay.running.eq(running_at(self._taken)),
                delay.hits.eq(taken[d]),
                delay.delay_slots.eq(of("delay_slots", d)),
                delay.delay_fine.eq(of("delay_fine", d)),
                hits[d].eq(Cat(hit.valid & of("enable", d) for hit in delay.delayed)),
                extra[d].eq(delay.extra & of("enable", d).replicate(SLOTS_PER_WORD)),
                *(fines[d][lane].eq(delay.delayed[lane].fine) for lane in lanes),
                dead_time.running.eq(running_at(self._delayed)),
                dead_time.enable.eq(of("enable", d)),
                dead_time.valid.eq(hits[d]),
                dead_time.dead_slots.eq(of("dead_slots", d)),
                passed[d].eq(dead_time.live),
                blind[d].eq(dead_time.blind),
                gate.hits.eq(delay.delayed),
                gate.start.eq(of("gate_start", d)),
                gate.width.eq(of("gate_width", d)),
                gate.late_start.eq(of("late_start", d)),
                gate.late_width.eq(of("late_width", d)),
                early[d].eq(gate.early),
                late[d].eq(gate.late),
            ]

        # Clicks and their patterns. Detectors outside the rule's mask do not make a slot blind.
        rule_live = Signal(SLOTS_PER_WORD)
        m.d.comb += rule_live.eq(
            Cat(~Cat(blind[d][lane] & config.live_mask[d] for d in detectors).any() for lane in lanes)
        )
        live = later(rule_live, self._pattern - self._passed, "live_passed")
        passed_gate = later(passed, self._gated - self._passed, "passed_gate")
        clicks = Signal(LaneBits)
        double = Signal(SLOTS_PER_WORD)
        patterns = Signal(Patterns)
        gated = Signal(LaneBits)
        of_reference = Signal(LaneBits)
        for d in detectors:
            inside = early[d] | (late[d] & config.windows.replicate(SLOTS_PER_WORD))
            m.d.comb += gated[d].eq(passed_gate[d] & inside)
        with m.If(passed_gate.as_value().any()):
            m.d.sync += of_reference.eq(gated)
        with m.Else():
            m.d.sync += of_reference.eq(0)
        with m.If(counted_at(self._gated) & passed_gate.as_value().any()):
            m.d.sync += clicks.eq(gated)
            for lane in lanes:
                is_early = [passed_gate[d][lane] & early[d][lane] for d in detectors]
                is_late = [passed_gate[d][lane] & late[d][lane] & ~early[d][lane] for d in detectors]
                m.d.sync += patterns[lane].eq(
                    Mux(config.windows, Cat(zip(is_early, is_late, strict=True)), Cat(is_early))
                )
        with m.Else():
            m.d.sync += [clicks.eq(0), patterns.eq(0)]
        with m.If(clicks.as_value().any()):
            for lane in lanes:
                bits = [clicks[d][lane] for d in detectors]
                pairs = [a & b for i, a in enumerate(bits) for b in bits[:i]]
                m.d.comb += double[lane].eq(Cat(pairs).any())

        # Successes.
        m.submodules.matcher = matcher = Matcher()
        m.submodules.success_records = success_records = SuccessRecords()
        wiring.connect(m, wiring.flipped(self.success_table), matcher.table)
        m.d.comb += [
            matcher.patterns.eq(patterns),
            matcher.counted.eq(counted_at(self._pattern)),
            matcher.live.eq(live),
            success_records.success.eq(matcher.success),
            success_records.outcomes.eq(matcher.outcomes),
            success_records.patterns.eq(later(patterns, Matcher.latency, "patterns_matched")),
        ]

        # Records, at the same word as the successes.
        m.submodules.click_records = click_records = ClickRecords()
        fines_of_pattern = later(fines, self._pattern - self._delayed, "fines")
        slot_word = later(self.tick.slot_word, self.latency, "slot_word")
        m.d.comb += [
            click_records.clicks.eq(clicks),
            click_records.fines.eq(fines_of_pattern),
            self.success.slot_word.eq(slot_word),
            self.success.valid.eq(success_records.valid),
            self.success.items.eq(success_records.items),
            self.clicks.slot_word.eq(slot_word),
            self.clicks.valid.eq(click_records.valid),
            self.clicks.items.eq(click_records.items),
            self.clicks_beyond_four.eq(click_records.beyond),
            self.click_bits.eq(click_records.bits),
        ]
        m.submodules.frame_records = frames = FrameRecords()
        m.submodules.reference_counters = reference = ReferenceCounters(self.reference_latency - self._pattern)
        frame_last = later(self.tick.frame_last, self.latency, "frame_last")
        frame = later(self.tick.frame, self.latency, "frame")
        in_reference = Signal()
        m.d.comb += in_reference.eq(runs & (self.tick.segment == Segment.REFERENCE.value))
        m.d.comb += [
            frames.running.eq(running_at(self.latency)),
            frames.last.eq(frame_last),
            frames.frame.eq(frame),
            frames.clicks.eq(click_records.count),
            frames.successes.eq(success_records.count),
            self.frame.eq(frames.record),
            self.frame_valid.eq(frames.valid),
            reference.config.eq(self.reference_config),
            reference.counting.eq(later(in_reference, self._pattern, "in_reference")),
            reference.bin.eq(later(self.tick.phase, self._pattern, "reference_bin")),
            reference.clicks.eq(of_reference),
            reference.running.eq(running_at(self.reference_latency)),
            reference.last.eq(later(frame_last, 1, "reference_last")),
            reference.frame.eq(later(frame, 1, "reference_frame")),
            reference.success.eq(later(success_records.valid.any(), 1, "reference_success")),
            reference.clear.eq(self.clear),
            self.reference_status.eq(reference.status),
            self.reference.eq(reference.record),
            self.reference_valid.eq(reference.valid),
            self.reference_lost.eq(reference.lost),
        ]

        # Histograms, at the word of the patterns.
        hits_of_pattern = later(hits, self._pattern - self._delayed, "hits_of_pattern")
        histograms = Histograms(read_domain=self._config_domain)
        m.submodules.histograms = DomainRenamer({"sync": self._histogram_domain})(histograms)
        wiring.connect(m, wiring.flipped(self.fine_counts), histograms.fine_counts)
        wiring.connect(m, wiring.flipped(self.lag_counts), histograms.lag_counts)
        m.d.comb += [
            histograms.config.eq(self.histograms_config),
            self.histograms_status.eq(histograms.status),
            histograms.swap.eq(later(self.histograms_config.swap, self._pattern, "swap")),
            histograms.clear.eq(later(self.clear, self._pattern, "clear_histograms")),
            histograms.running.eq(running_at(self._pattern)),
            histograms.counted.eq(counted_at(self._pattern)),
            histograms.live.eq(live),
            histograms.hits.eq(hits_of_pattern),
            histograms.clicks.eq(clicks),
            histograms.fines.eq(fines_of_pattern),
        ]

        # Counters, all at the word of the successes.
        hits_matched = later(hits_of_pattern, self._matched - self._pattern, "hits_matched")
        m.submodules.counters = counters = Counters(config_domain=self._config_domain)
        m.d.comb += [
            counters.latch.eq(later(self.latch, self._matched, "latch")),
            counters.clear.eq(later(self.clear, self._matched, "clear")),
            counters.counted.eq(counted_at(self._matched)),
            counters.live.eq(later(live, Matcher.latency, "live_matched")),
            counters.hits.eq(hits_matched),
            counters.extra.eq(later(extra, self._matched - self._delayed, "extra_matched")),
            counters.passed.eq(later(passed_gate, self._matched - self._gated, "passed_matched")),
            counters.clicks.eq(later(clicks, self._matched - self._pattern, "clicks_matched")),
            counters.doubles.eq(later(double, Matcher.latency, "double_matched")),
            counters.vetoed.eq(matcher.vetoed),
            counters.outcomes.eq(matcher.outcomes),
            counters.copies.address.eq(self.copies.address),
            self.copies.value.eq(counters.copies.value),
        ]
        m.d.sync += self.hit_bits.eq(hits_matched)
        m.d.sync += self.success_bits.eq(matcher.success)
        return m
