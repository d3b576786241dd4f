"""The last stages before the pins: delay, polarity, idle level, forced levels and test patterns of each line."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import LINE_MODES, LINES
from qrelay.protocol.units import BINS_PER_SLOT, SLOT_WORD_BITS, SLOTS_PER_WORD

from .layouts import LINE_BINS, Lines, config_layout
from .word_phase import WordPhase

__all__ = ["LineOutputs"]

_DELAY_WORDS = 64
_ONES = (1 << LINE_BINS) - 1


class LineOutputs(wiring.Component):
    """Delay the bins of each line by 0..255 slots and decide what its pin does.

    Electrical level of line i, first match:

    1. `ready` low: `idle_i`.
    2. mode low or high: that level. Mode square or pulse: the test pattern, high where it is active.
    3. mode normal, `enable`, a word of the run, and the slot that is `delay_i` slots back is in the run too: the bins
       of that slot, inverted if `invert_i`.
    4. else (also modes 5 to 7): `idle_i`.

    So a line with a delay stays idle for the first `delay_i` slots of a run, whatever an earlier run left in the
    memories, and all lines fall back to idle in the same word when the run ends or is disarmed: the last `delay_i`
    slots of a run do not leave. Idle and forced levels and patterns are electrical: `invert_i` does not touch them.

    Patterns have a period of `pattern_slots` slots (lower two bits ignored, 0 acts as 4), phase 0 where the slot index
    is a multiple of the period, in the sense of `WordPhase`: outside a run they run freely, and a run from a slot other
    than 0 brings them in step within its first 47 words. Line delays do not move them. Square is high for the first
    half of the period, pulse in the first bin of it.

    Latency: 3 words from `bins` to `lines`; 4 words from `running_early` and `slot_word_early` to the patterns on
    `lines`. `ready` and the settings act in the next word; `delay_i` must not change while running.
    Reset: lines low for one word, then as above.
    Overflow: none.

    Ports
    -----
    config
        Registers of group `modulator`.
    running, bins : In(1), In(4 lanes x 16 bits)
        A word of the run and its bins; bits 2i and 2i+1 of a lane are first and second bin of line i.
    running_early, slot_word_early : In(1), In(46)
        The run state one word ahead of `running`.
    ready : In(1)
        Clock locked, running permitted.
    lines : Out(Lines)
        Bits for the pins.
    """

    latency = 3

    config: In(config_layout("modulator"))
    running: In(1)
    bins: In(data.ArrayLayout(unsigned(BINS_PER_SLOT * LINES), SLOTS_PER_WORD))
    running_early: In(1)
    slot_word_early: In(SLOT_WORD_BITS)
    ready: In(1)
    lines: Out(Lines)

    def elaborate(self, platform):
        m = Module()

        # Words are written in a ring and read back one word later: with that, delay 0 reads what was just written.
        write_word = Signal(range(_DELAY_WORDS))
        read_word = Signal.like(write_word)
        fetch = Signal()
        shift = Signal()
        """The words that were fetched are now shifted to their slots and leave."""
        m.d.sync += fetch.eq(self.running)
        m.d.sync += shift.eq(fetch)
        with m.If(self.running):
            m.d.sync += write_word.eq(write_word + 1)
            m.d.sync += read_word.eq(write_word)

        age = Signal(range(_DELAY_WORDS + 1))
        """Words of the run before the word in `fetch`, up to the longest delay."""
        with m.If(fetch):
            with m.If(age != _DELAY_WORDS):
                m.d.sync += age.eq(age + 1)
        with m.Else():
            m.d.sync += age.eq(0)

        square, pulse = self._patterns(m)
        for line in range(LINES):
            delayed = self._delay(m, line, write_word, read_word, fetch)
            alive = self._alive(m, line, age, fetch)
            self._select(m, line, delayed, alive, shift, square, pulse)
        return m

    def _setting(self, name, line):
        return self.config[f"{name}_{line}"]

    def _patterns(self, m):
        """Bins of the two test patterns."""
        period_words = Signal(14)
        m.d.comb += period_words.eq(self.config.pattern_slots[2:])
        m.submodules.word_phase = word_phase = WordPhase(len(period_words))
        m.d.comb += word_phase.period.eq(period_words)
        m.d.comb += word_phase.running.eq(self.running_early)
        m.d.comb += word_phase.slot_word.eq(self.slot_word_early)
        # Half a period is a whole number of slot pairs, so a word has two cases: slots 0, 1 and slots 2, 3.
        period = Mux(period_words == 0, 1, period_words)
        pair = word_phase.phase << 1
        early = Signal(3)
        late = Signal(3)
        m.d.sync += early.eq(Cat(pair < period, pair + 1 < period, word_phase.phase == 0))
        m.d.sync += late.eq(early)
        half = LINE_BINS // 2
        return Cat(late[0].replicate(half), late[1].replicate(half)), late[2]

    def _delay(self, m, line, write_word, read_word, fetch):
        """The eight bins that are `delay` slots older than those in `shift`."""
        delay = self._setting("delay", line)
        memory = Memory(shape=unsigned(LINE_BINS), depth=_DELAY_WORDS, init=[])
        m.submodules[f"delay_{line}"] = memory
        write = memory.write_port()
        read = memory.read_port()
        m.d.comb += write.addr.eq(write_word)
        m.d.comb += write.data.eq(Cat(lane[2 * line : 2 * line + 2] for lane in self.bins))
        m.d.comb += write.en.eq(self.running)
        m.d.comb += read.addr.eq(read_word - delay[2:])
        m.d.comb += read.en.eq(fetch)
        older = Signal(LINE_BINS)
        m.d.sync += older.eq(read.data)
        both = Cat(older, read.data)
        delayed = Signal(LINE_BINS)
        with m.Switch(delay[:2]):
            for slots in range(SLOTS_PER_WORD):
                with m.Case(slots):
                    m.d.comb += delayed.eq(both[LINE_BINS - BINS_PER_SLOT * slots :][:LINE_BINS])
        return delayed

    def _alive(self, m, line, age, fetch):
        """Mask of the bins in `shift` whose slots, `delay` slots back, are in the run."""
        delay = self._setting("delay", line)
        alive = Signal(LINE_BINS, name=f"alive_{line}")
        with m.If(~fetch):
            m.d.sync += alive.eq(0)
        with m.Elif(age == delay[2:]):
            with m.Switch(delay[:2]):
                for slots in range(SLOTS_PER_WORD):
                    with m.Case(slots):
                        m.d.sync += alive.eq(_ONES << (BINS_PER_SLOT * slots) & _ONES)
        with m.Elif(age > delay[2:]):
            m.d.sync += alive.eq(_ONES)
        return alive

    def _select(self, m, line, delayed, alive, shift, square, pulse):
        """Register what the pin does."""
        output = self.lines[line]
        idle = self._setting("idle", line).replicate(LINE_BINS)
        with m.If(~self.ready):
            m.d.sync += output.eq(idle)
        with m.Else():
            with m.Switch(self._setting("mode", line)):
                with m.Case(LINE_MODES.index("normal")):
                    with m.If(shift & self.config.enable):
                        bins = delayed ^ self._setting("invert", line).replicate(LINE_BINS)
                        m.d.sync += output.eq((bins & alive) | (idle & ~alive))
                    with m.Else():
                        m.d.sync += output.eq(idle)
                with m.Case(LINE_MODES.index("low")):
                    m.d.sync += output.eq(0)
                with m.Case(LINE_MODES.index("high")):
                    m.d.sync += output.eq(_ONES)
                with m.Case(LINE_MODES.index("square")):
                    m.d.sync += output.eq(square)
                with m.Case(LINE_MODES.index("pulse")):
                    m.d.sync += output.eq(pulse)
                with m.Default():
                    m.d.sync += output.eq(idle)
