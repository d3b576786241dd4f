"""The modulator: from the choice of each slot to the bins of each output line."""

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import LINES
from qrelay.protocol.units import BINS_PER_SLOT, SLOTS_PER_WORD
from qrelay.protocol.windows import window

from .layouts import Choices, Lines, Tick, config_layout, table_write
from .lines import LineOutputs
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["Modulator"]


class Modulator(wiring.Component):
    """Look up (segment, setting, phase) of each slot in the table of line bins, and send them to the lines.

    What a line does with its bins (delay, polarity, idle, forced levels, test patterns) is told by `LineOutputs`.

    Latency: 5 words from `tick` and `choices` to `lines`, plus the delay of the line; `ready` acts in the next word.
    Reset: lines low for one word, then idle; the table holds zeros.
    Overflow: none.

    Parameters
    ----------
    config_domain : str
        As for `LineOutputs`.

    Ports
    -----
    config
        Registers of group `modulator`.
    table
        Bins by segment | setting << 2 | phase << 5; bits 2i and 2i+1 are first and second bin of line i.
        Must not be written while running.
    tick, choices : In(Tick), In(Choices)
        The present word and its choices.
    ready : In(1)
        Clock locked, running permitted.
    lines : Out(Lines)
        Bits for the pins.
    """

    latency = 2 + LineOutputs.latency

    config: In(config_layout("modulator"))
    table: table_write("lines")
    tick: In(Tick)
    choices: In(Choices)
    ready: In(1)
    lines: Out(Lines)

    def __init__(self, *, config_domain: str = "sync"):
        self._config_domain = config_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.outputs = outputs = LineOutputs(config_domain=self._config_domain)
        looked_up = Signal()
        m.d.sync += looked_up.eq(self.tick.running)
        m.d.sync += outputs.running.eq(looked_up)
        m.d.sync += outputs.running_early.eq(self.tick.running)
        m.d.sync += outputs.slot_word_early.eq(self.tick.slot_word)
        m.d.comb += outputs.config.eq(self.config)
        m.d.comb += outputs.ready.eq(self.ready)
        m.d.comb += self.lines.eq(outputs.lines)

        # A block RAM has one port to spare for reading, so each lane has its own copy of the table.
        for lane in range(SLOTS_PER_WORD):
            choice = self.choices[lane]
            copy = Memory(
                shape=unsigned(BINS_PER_SLOT * LINES), depth=window("lines").depth, init=[], attrs=ANY_ON_COLLISION
            )
            m.submodules[f"table_{lane}"] = copy
            write = copy.write_port()
            m.d.comb += write.addr.eq(self.table.address)
            m.d.comb += write.data.eq(self.table.value)
            m.d.comb += write.en.eq(self.table.enable)
            index = {"kind": self.tick.segment, "setting": choice.setting, "phase": choice.phase}
            address = Cat(index[field.name] for field in window("lines").index.fields)
            bins = slow_read(m, copy, address, name=f"bins_{lane}", enable=self.tick.running)
            m.d.comb += outputs.bins[lane].eq(bins)
        return m
