"""Reference counters: the clicks of a frame's reference segments by detector and step of the step list."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.choice import PHASE_BITS
from qrelay.protocol.records import RECORD_BITS, RECORDS, RecordKind
from qrelay.protocol.registers import DETECTORS, REFERENCE_BINS, REFERENCE_MODES
from qrelay.protocol.units import SLOTS_PER_WORD

from .clicks import LaneBits
from .counting import ones
from .layouts import config_layout, status_layout

__all__ = ["ReferenceCounters"]

_WIDTHS = {field.name: field.width for field in RECORDS[RecordKind.REFERENCE].fields}
_COUNT_BITS = _WIDTHS["first"]
_PAIRS = DETECTORS // 2
_Counts = data.ArrayLayout(_COUNT_BITS, DETECTORS)
_BANKS = 2

assert REFERENCE_BINS == 1 << PHASE_BITS


class ReferenceCounters(wiring.Component):
    """Count clicks by detector and bin, and give the counts of a frame, or of several, as a set of records.

    A set is one record for each bin 0 .. `bins` - 1 and each pair of detectors, by bin and then pair. Counts stop at
    65535. What makes a set, by `mode`: off, none; all, every frame; with_success, every frame with a success in it;
    sum, the frames N k .. N k + N - 1 of the run added up, N = `sum_frames`. A set that the end of the run cuts is not
    sent and leaves nothing for the next run. `bins` and `sum_frames` 0 act as 1, `bins` above 16 as 16. Bins that are
    not sent are not reported at all. Registers must not change while running.

    There are two banks of counts: while a set is sent the next one is counted. A set that ends fewer than
    2 * `bins` + 2 words after one that is sent is lost, and counted in `missed`.

    Latency: 3 words from a set's last word (`last`) to its first record, then one record per word.
    Reset: counts 0.  Overflow: saturation; `missed`.

    Parameters
    ----------
    click_words : int
        Words by which `counting`, `bin` and `clicks` come before the rest.

    Ports
    -----
    config, status
        Registers of group `reference`.
    counting : In(1), bin : In(4), clicks : In(LaneBits)
        The word is in a reference segment of a run; its bin; its clicks.
    running, last, frame, success : In(1), In(1), In(32), In(1)
        The word belongs to a run; is the last of its frame; its frame number; it has a success.
    clear : In(1)
        Set `missed` to zero.
    record : Out(64), valid : Out(1)
        REFERENCE record with flags 0.
    lost : Out(1)
        One clock for each missed set.
    """

    config: In(config_layout("reference"))
    status: Out(status_layout("reference"))
    counting: In(1)
    bin: In(PHASE_BITS)
    clicks: In(LaneBits)
    running: In(1)
    last: In(1)
    frame: In(32)
    success: In(1)
    clear: In(1)
    record: Out(RECORD_BITS)
    valid: Out(1)
    lost: Out(1)

    latency = 3

    def __init__(self, click_words: int = 1):
        if click_words < 1:
            raise ValueError(f"click_words {click_words} leaves no word to add up the lanes; give 1 or more")
        self._click_words = click_words
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        step, place, coming, place_next = self._word(m)
        bank = Signal()
        """The bank that counts; the other one is sent."""
        sent_place = Signal(PHASE_BITS)
        reads = []
        writes = []
        for k in range(_BANKS):
            memory = Memory(shape=unsigned(_Counts.size), depth=REFERENCE_BINS, init=[])
            m.submodules[f"bank_{k}"] = memory
            read = memory.read_port(domain="comb")
            m.d.comb += read.addr.eq(Mux(bank == k, place_next, sent_place))
            reads.append(read.data)
            writes.append(memory.write_port())

        # Counts are fetched a word ahead, so the sums of the last two words that counted may be missing in what was
        # fetched: these are kept. A bin that was not touched since its bank began counts from 0: nothing is cleared.
        touched = Signal(REFERENCE_BINS)
        sum_bank = Signal()
        sum_place, older_place = Signal(PHASE_BITS), Signal(PHASE_BITS)
        sums, older = Signal(_Counts), Signal(_Counts)
        is_sum = Signal()
        counted = Signal()
        m.d.comb += counted.eq(step.as_value().any())
        fetched = Signal(_Counts)
        with m.If(coming):
            m.d.sync += fetched.eq(Mux(bank, reads[1], reads[0]))
        is_last, is_older, is_new = Signal(), Signal(), Signal()
        m.d.sync += [
            is_last.eq(place_next == Mux(counted, place, sum_place)),
            is_older.eq(place_next == Mux(counted, sum_place, older_place)),
        ]
        before = data.View(_Counts, Signal(_Counts.size, name="before"))
        with m.If(is_new):
            m.d.comb += before.eq(0)
        with m.Elif(is_last):
            m.d.comb += before.eq(sums)
        with m.Elif(is_older):
            m.d.comb += before.eq(older)
        with m.Else():
            m.d.comb += before.eq(fetched)
        m.d.sync += is_sum.eq(counted)
        with m.If(counted):
            m.d.sync += [sum_bank.eq(bank), sum_place.eq(place), older_place.eq(sum_place), older.eq(sums)]
            for d in range(DETECTORS):
                total = Signal(_COUNT_BITS + 1, name=f"total_{d}")
                m.d.comb += total.eq(before[d] + step[d])
                m.d.sync += sums[d].eq(Mux(total[-1], ~0, total[:-1]))
        for k, write in enumerate(writes):
            m.d.comb += [write.addr.eq(sum_place), write.data.eq(sums), write.en.eq(is_sum & (sum_bank == k))]

        wanted, ends = self._ends(m)
        sending = Signal()
        sent = Signal()
        m.d.comb += sent.eq(wanted & ~sending)
        m.d.sync += self.lost.eq(wanted & sending)
        marked = Signal(REFERENCE_BINS)
        m.d.comb += marked.eq(touched | Mux(counted, Const(1, REFERENCE_BINS) << place, 0))
        m.d.sync += touched.eq(Mux(ends, 0, marked))
        m.d.sync += is_new.eq(ends | ~marked.bit_select(place_next, 1))
        m.d.sync += bank.eq(bank ^ sent)
        with m.If(self.clear):
            m.d.sync += self.status.missed.eq(0)
        with m.Elif(self.lost):
            m.d.sync += self.status.missed.eq(self.status.missed + 1)
        self._send(m, sent, sending, sent_place, marked, Mux(bank, reads[0], reads[1]))
        return m

    def _word(self, m):
        """Clicks of each detector and the bin, with the word of the other inputs; and the same of the next word."""
        step = Signal(data.ArrayLayout(range(SLOTS_PER_WORD + 1), DETECTORS), name="step_1")
        place = Signal(PHASE_BITS, name="place_1")
        coming = Signal()
        """The next word may count."""
        place_next = self.bin
        m.d.comb += coming.eq(self.counting & self.clicks.as_value().any())
        with m.If(coming):
            for d in range(DETECTORS):
                m.d.sync += step[d].eq(ones(self.clicks[d]))
        with m.Else():
            m.d.sync += step.eq(0)
        m.d.sync += place.eq(self.bin)
        for word in range(2, self._click_words + 1):
            later_step = Signal.like(step, name=f"step_{word}")
            later_place = Signal.like(place, name=f"place_{word}")
            m.d.sync += [later_step.eq(step), later_place.eq(place)]
            coming, place_next = step.as_value().any(), place
            step, place = later_step, later_place
        return step, place, coming, place_next

    def _ends(self, m):
        """Whether a set that is wanted ends with the word, and whether counting begins anew behind it."""
        mode = self.config.mode
        seen = Signal()
        """The frame had a success before this word."""
        frames_left = Signal(_COUNT_BITS)
        more_frames = Signal(_COUNT_BITS)
        whole = Signal(init=1)
        """No frame is left: as a register, for the comparison of 16 bits is far from what it decides."""
        ends_frame = self.running & self.last
        m.d.sync += more_frames.eq(self.config.sum_frames - self.config.sum_frames.any())
        with m.If(~self.running):
            m.d.sync += [seen.eq(0), frames_left.eq(more_frames), whole.eq(more_frames == 0)]
        with m.Else():
            m.d.sync += seen.eq((seen | self.success) & ~self.last)
            with m.If(self.last):
                m.d.sync += frames_left.eq(Mux(whole, more_frames, frames_left - 1))
                m.d.sync += whole.eq(Mux(whole, more_frames == 0, frames_left == 1))
        wanted = Signal()
        with m.If(ends_frame):
            with m.Switch(mode):
                with m.Case(REFERENCE_MODES.index("all")):
                    m.d.comb += wanted.eq(1)
                with m.Case(REFERENCE_MODES.index("with_success")):
                    m.d.comb += wanted.eq(seen | self.success)
                with m.Case(REFERENCE_MODES.index("sum")):
                    m.d.comb += wanted.eq(whole)
        return wanted, ~self.running | (ends_frame & (wanted | (mode != REFERENCE_MODES.index("sum"))))

    def _send(self, m, start, sending, place, marked, counts) -> None:
        """Send the bank that no longer counts."""
        pair = Signal(range(max(2, _PAIRS)))
        settled = Signal()
        """The last count is in the memory."""
        final_place = Signal(PHASE_BITS)
        kept = Signal(REFERENCE_BINS)
        frame = Signal(_WIDTHS["frame"])
        bins = self.config.bins
        m.d.sync += final_place.eq(Mux(bins > REFERENCE_BINS, REFERENCE_BINS - 1, bins - bins.any()))
        m.d.sync += settled.eq(sending)
        m.d.sync += self.valid.eq(0)
        with m.If(start):
            m.d.sync += [sending.eq(1), settled.eq(0), place.eq(0), pair.eq(0), kept.eq(marked), frame.eq(self.frame)]
        with m.If(sending & settled):
            of_pair = counts.word_select(pair, 2 * _COUNT_BITS)
            of_bin = Mux(kept.bit_select(place, 1), of_pair, 0)
            m.d.sync += self.valid.eq(1)
            m.d.sync += self.record.eq(
                Cat(frame, place, pair | Const(0, _WIDTHS["pair"]), of_bin, Const(0, _WIDTHS["flags"]))
            )
            with m.If(pair != _PAIRS - 1):
                m.d.sync += pair.eq(pair + 1)
            with m.Else():
                m.d.sync += [pair.eq(0), place.eq(place + 1)]
                with m.If(place == final_place):
                    m.d.sync += sending.eq(0)
