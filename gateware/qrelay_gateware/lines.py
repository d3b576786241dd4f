"""The last stages before the pins: delay, polarity, idle level, forced levels and test patterns of each line."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
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
_ALL_ONES = (1 << LINE_BINS * LINES) - 1


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
    `lines`. `ready` acts in the next word, settings two words later; `delay_i` must not change while running.
    Reset: lines low for one word, then as above.
    Overflow: none.

    Parameters
    ----------
    config_domain : str
        Clock domain of what follows from settings alone: any that is clocked when they change, and in the word after.

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

    def __init__(self, *, config_domain: str = "sync"):
        self._config_domain = config_domain
        super().__init__()

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

        delayed = Cat(self._delay(m, line, write_word, read_word, fetch) for line in range(LINES))
        alive = self._alive(m, age, fetch)
        self._select(m, delayed, alive, shift)
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
        period = Signal(len(period_words), init=1)
        m.d.sync += period.eq(Mux(period_words == 0, 1, period_words))
        pair = word_phase.phase << 1
        early = Signal(3)
        late = Signal(3)
        m.d.sync += early.eq(Cat(pair < period, pair + 1 < period, word_phase.phase == 0))
        m.d.sync += late.eq(early)
        half = LINE_BINS // 2
        return Cat(late[0].replicate(half), late[1].replicate(half)), Cat(late[2], Const(0, LINE_BINS - 1))

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

    def _alive(self, m, age, fetch):
        """Mask of the bins in `shift` whose slots, `delay` slots back, are in the run."""
        alive = Signal(Lines)
        with m.If(~fetch):
            m.d.sync += alive.eq(0)
        with m.Elif(age == _DELAY_WORDS):
            m.d.sync += alive.eq(_ALL_ONES)
        with m.Else():
            for line in range(LINES):
                delay = self._setting("delay", line)
                with m.If(age == delay[2:]):
                    with m.Switch(delay[:2]):
                        for slots in range(SLOTS_PER_WORD):
                            with m.Case(slots):
                                m.d.sync += alive[line].eq(_ONES << (BINS_PER_SLOT * slots) & _ONES)
                with m.Else():
                    m.d.sync += alive[line].eq(Mux(age > delay[2:], _ONES, 0))
        return alive

    def _select(self, m, delayed, alive, shift) -> None:
        """Register what the pins do. Masks of all bins of all lines make this a few wide operations."""
        flowing = Signal(Lines)
        """Lines that show the bins of a run."""
        inverted = Signal(Lines)
        idle = Signal(Lines)
        still = Signal(Lines)
        """Level of all other lines, but for patterns."""
        on_square = Signal(Lines)
        on_pulse = Signal(Lines)
        config = m.d[self._config_domain]
        for line in range(LINES):
            idle_level = self._setting("idle", line)
            mode = self._setting("mode", line)

            def has_mode(name, mode=mode):
                return mode == LINE_MODES.index(name)

            flows = has_mode("normal") & self.config.enable
            has_pattern = has_mode("square") | has_mode("pulse")
            level = Mux(has_mode("low"), 0, Mux(has_mode("high"), 1, idle_level)) & ~flows & ~has_pattern
            for mask, bit in (
                (flowing, flows),
                (inverted, self._setting("invert", line)),
                (idle, idle_level),
                (still, level),
                (on_square, has_mode("square")),
                (on_pulse, has_mode("pulse")),
            ):
                config += mask[line].eq(bit.replicate(LINE_BINS))

        square, pulse = self._patterns(m)
        of_run = Signal(Lines)
        with m.If(shift):
            live = alive.as_value()
            m.d.comb += of_run.eq(((delayed ^ inverted.as_value()) & live) | (idle.as_value() & ~live))
        with m.Else():
            m.d.comb += of_run.eq(idle)
        with m.If(self.ready):
            m.d.sync += self.lines.eq(
                (of_run.as_value() & flowing.as_value())
                | still.as_value()
                | (square.replicate(LINES) & on_square.as_value())
                | (pulse.replicate(LINES) & on_pulse.as_value())
            )
        with m.Else():
            m.d.sync += self.lines.eq(idle)
