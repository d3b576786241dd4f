"""What a sender does in each slot: drawn in quantum segments, listed in all others."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.choice import PHASE_BITS, SETTING_BITS, SETTINGS, THRESHOLD_BITS
from qrelay.protocol.units import SLOTS_PER_WORD

from .keystream import Draws
from .layouts import Choices, Segment, Tick, config_layout

__all__ = ["ChoiceMapper"]

THRESHOLDS = SETTINGS - 1


class ChoiceMapper(wiring.Component):
    """Turn draws into choices.

    In a running quantum segment with `config.enable`, a slot takes its setting from bits 15:4 of its draw (the number
    of the thresholds 1..7 that they reach, in whatever order these are), its phase from bits 3:0, and is marked drawn.
    Without `config.enable` it takes setting 0 and phase 0 and is not drawn. In all other segments every slot of the
    word takes setting and phase of the tick, not drawn.

    Latency: `latency` words from tick and draws to choices and tick_out.
    Reset: all zero until the first words have passed.
    Overflow: none, one result per word.

    Ports
    -----
    config : In(config_layout("keystream"))
        Thresholds and enable; a change acts on the words that follow.
    tick : In(Tick)
    draws : In(Draws)
        Draws of the slots of the tick.
    choices : Out(Choices)
    tick_out : Out(Tick)
        The tick of `choices`.
    """

    config: In(config_layout("keystream"))
    tick: In(Tick)
    draws: In(Draws)
    choices: Out(Choices)
    tick_out: Out(Tick)

    latency = 2

    def elaborate(self, platform):
        m = Module()
        tick = Signal(Tick)
        drawn = Signal()
        reached = [Signal(THRESHOLDS, name=f"reached_{lane}") for lane in range(SLOTS_PER_WORD)]
        setting = Signal(SETTING_BITS)
        phases = [Signal(PHASE_BITS, name=f"phase_{lane}") for lane in range(SLOTS_PER_WORD)]
        thresholds = [self.config[f"threshold_{k}"] for k in range(1, SETTINGS)]

        quantum = self.tick.running & (self.tick.segment == Segment.QUANTUM.value)
        m.d.sync += [
            tick.eq(self.tick),
            self.tick_out.eq(tick),
            drawn.eq(quantum & self.config.enable),
        ]
        with m.If(quantum & self.config.enable):
            for lane, draw in enumerate(self.draws):
                threshold_draw = draw[PHASE_BITS : PHASE_BITS + THRESHOLD_BITS]
                m.d.sync += [
                    reached[lane].eq(Cat(threshold_draw >= threshold for threshold in thresholds)),
                    phases[lane].eq(draw[:PHASE_BITS]),
                ]
        with m.Elif(quantum):
            m.d.sync += setting.eq(0)
            m.d.sync += [phase.eq(0) for phase in phases]
        with m.Else():
            m.d.sync += setting.eq(self.tick.setting)
            m.d.sync += [phase.eq(self.tick.phase) for phase in phases]

        for lane, choice in enumerate(self.choices):
            m.d.sync += [
                choice.phase.eq(phases[lane]),
                choice.drawn.eq(drawn),
            ]
            with m.If(drawn):
                m.d.sync += choice.setting.eq(sum(reached[lane]))
            with m.Else():
                m.d.sync += choice.setting.eq(setting)
        return m
