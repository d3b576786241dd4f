"""The frame sequencer: which segment, frame and step the present word belongs to."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import SLOT_WORD_BITS
from qrelay.protocol.windows import window

from .layouts import Segment, Tick, bit_layout, config_layout, table_write

__all__ = ["Sequencer"]

_SegmentWrite = bit_layout(window("segments").entry)
_LENGTH_BITS = _SegmentWrite["words"].width
_SegmentEntry = data.StructLayout({"kind": 2, "words_left": _LENGTH_BITS, "many_words": 1})
"""Kept as the sequencer uses it, words after the first: the subtraction is done when the table is written."""
_StepEntry = bit_layout(window("steps").entry)

_OUTSIDE = {"segment": Segment.IDLE.value}
"""The tick of a word outside the run."""


class Sequencer(wiring.Component):
    """Divide the run in frames of up to 8 segments, and step through settings in segments that are not quantum.

    The first word of a run is the first word of frame 0 and of entry 0 of the segment table. A segment lasts as many
    words as its entry says; entries 0 .. `segments` - 1 make a frame. So frame number = (slot - start) / frame length.
    In a segment that is not quantum, setting and phase come from the step list: entry 0 in the first word of each
    segment, the next entry every `step_words` words, entry 0 again after `steps` entries. In a quantum segment setting
    and phase are 0. In a word outside the run all of `tick` is 0, but for segment = idle.

    A length, `segments`, `steps` or `step_words` of 0 acts as 1, `segments` above 8 as 8, `steps` above 64 as 64.
    Registers and tables must not change while running; a table write takes effect two words later.

    Latency: 2 words from `running` and `slot_word` to `tick`.
    Reset: as outside a run; tables hold zeros.
    Overflow: the frame number wraps at 2^32.

    Ports
    -----
    config
        Registers of group `sequencer`.
    segments, steps
        Tables.
    running, slot_word : In(1), In(46)
        From the time base. `running` is low for at least one word between two runs.
    tick : Out(Tick)
        What the word is, two words later.
    """

    latency = 2

    config: In(config_layout("sequencer"))
    segments: table_write("segments")
    steps: table_write("steps")
    running: In(1)
    slot_word: In(SLOT_WORD_BITS)
    tick: Out(Tick, init=_OUTSIDE)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        segment_table = Memory(shape=_SegmentEntry, depth=window("segments").depth, init=[])
        step_table = Memory(shape=_StepEntry, depth=window("steps").depth, init=[])
        m.submodules.segment_table = segment_table
        m.submodules.step_table = step_table
        segment = data.View(_SegmentWrite, self.segments.value[: _SegmentWrite.size])
        segment_write = segment_table.write_port()
        m.d.comb += segment_write.addr.eq(self.segments.address)
        m.d.comb += segment_write.en.eq(self.segments.enable)
        m.d.comb += segment_write.data.kind.eq(segment.kind)
        m.d.comb += segment_write.data.words_left.eq(segment.words - segment.words.any())
        m.d.comb += segment_write.data.many_words.eq(segment.words > 1)
        step_write = step_table.write_port()
        m.d.comb += step_write.addr.eq(self.steps.address)
        m.d.comb += step_write.en.eq(self.steps.enable)
        m.d.comb += step_write.data.eq(self.steps.value)

        # Stage 1: the segment of the word. The entry of the segment behind it is read ahead, so that segments of one
        # word need no time of their own; outside the run the segment "behind" is entry 0.
        running = Signal()
        slot_word = Signal(SLOT_WORD_BITS)
        kind = Signal(2)
        words_left = Signal(_LENGTH_BITS)
        segment_last = Signal()
        """Last word of its segment."""
        ends_frame = Signal()
        """The segment is the last of its frame."""
        frame = Signal(32)
        m.d.sync += running.eq(self.running)

        ahead_index = Signal(range(window("segments").depth))
        ahead_kind = Signal(2)
        ahead_words_left = Signal(_LENGTH_BITS)
        ahead_one_word = Signal()
        ahead_ends_frame = Signal()
        final_index = Signal.like(ahead_index)
        m.d.sync += final_index.eq(Mux(config.segments > 8, 7, config.segments - config.segments.any()))
        m.d.comb += ahead_ends_frame.eq(ahead_index >= final_index)

        advance = Signal()
        read_index = Signal.like(ahead_index)
        m.d.comb += advance.eq(self.running & (~running | segment_last))
        with m.If(advance):
            m.d.comb += read_index.eq(Mux(ahead_ends_frame, 0, ahead_index + 1))

        segment_read = segment_table.read_port(domain="comb")
        with m.If(~self.running | advance):
            entry = segment_read.data
            m.d.comb += segment_read.addr.eq(read_index)
            m.d.sync += ahead_index.eq(read_index)
            m.d.sync += ahead_kind.eq(entry.kind)
            m.d.sync += ahead_words_left.eq(entry.words_left)
            m.d.sync += ahead_one_word.eq(~entry.many_words)

        step = Signal(range(window("steps").depth))
        step_words_left = Signal(16)
        final_step = Signal.like(step)
        step_words_behind = Signal(16)
        m.d.sync += final_step.eq(Mux(config.steps > 64, 63, config.steps - config.steps.any()))
        m.d.sync += step_words_behind.eq(config.step_words - config.step_words.any())

        with m.If(self.running):
            m.d.sync += slot_word.eq(self.slot_word)
            with m.If(~running):
                m.d.sync += frame.eq(0)
            with m.Elif(segment_last & ends_frame):
                m.d.sync += frame.eq(frame + 1)
            with m.If(advance):
                m.d.sync += kind.eq(ahead_kind)
                m.d.sync += words_left.eq(ahead_words_left)
                m.d.sync += segment_last.eq(ahead_one_word)
                m.d.sync += ends_frame.eq(ahead_ends_frame)
                m.d.sync += step.eq(0)
                m.d.sync += step_words_left.eq(step_words_behind)
            with m.Else():
                m.d.sync += words_left.eq(words_left - 1)
                m.d.sync += segment_last.eq(words_left == 1)
                with m.If(step_words_left != 0):
                    m.d.sync += step_words_left.eq(step_words_left - 1)
                with m.Else():
                    m.d.sync += step_words_left.eq(step_words_behind)
                    m.d.sync += step.eq(Mux(step >= final_step, 0, step + 1))

        # Stage 2: the step of the word, and zeros outside the run.
        step_read = step_table.read_port(domain="comb")
        with m.If(running):
            m.d.comb += step_read.addr.eq(step)
            m.d.sync += self.tick.running.eq(1)
            m.d.sync += self.tick.slot_word.eq(slot_word)
            m.d.sync += self.tick.segment.eq(kind)
            m.d.sync += self.tick.frame.eq(frame)
            m.d.sync += self.tick.frame_last.eq(segment_last & ends_frame)
            with m.If(kind == Segment.QUANTUM.value):
                m.d.sync += self.tick.setting.eq(0)
                m.d.sync += self.tick.phase.eq(0)
            with m.Else():
                m.d.sync += self.tick.setting.eq(step_read.data.setting)
                m.d.sync += self.tick.phase.eq(step_read.data.phase)
        with m.Elif(self.tick.running):
            m.d.sync += self.tick.eq(Tick.const(_OUTSIDE))
        return m
