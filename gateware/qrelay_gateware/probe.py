"""One probe output with selectable content, for the oscilloscope."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS, PROBES
from qrelay.protocol.units import SLOTS_PER_WORD

from .layouts import Segment, Tick, config_layout
from .word_phase import WordPhase

__all__ = ["Probe"]

_WHOLE_WORD = (1 << SLOTS_PER_WORD) - 1


class Probe(wiring.Component):
    """Show one of eight contents on the probe output, one bit per slot.

    ================ ===================================================================================
    low              nothing
    frame            first word of each frame
    slot0            first slot of each word whose ``slot_word mod probe_period`` is 0 (0 acts as 1); within the first
                     47 words of a run that does not start at slot 0, nothing (`WordPhase`)
    running          words of the run
    success          slots with a success
    detector_hit     slots with a hit of detector `probe_detector` as `hits` shows it
    detector_click   slots with a gated click of detector `probe_detector`
    quantum          words of quantum segments
    ================ ===================================================================================

    A `probe_detector` that does not exist shows nothing.

    Latency: 2 words from each input to `out`; contents from different inputs are not aligned with each other.
    Reset: low.
    Overflow: none.

    Ports
    -----
    config
        Registers of group `modulator`.
    tick : In(Tick)
        The present word.
    success : In(4)
        Per slot: success.
    hits, clicks : In(4 detectors x 4)
        Per detector and slot: hit, gated click.
    out : Out(4)
        Bit 0 is the earliest slot.
    """

    latency = 2

    config: In(config_layout("modulator"))
    tick: In(Tick)
    success: In(SLOTS_PER_WORD)
    hits: In(data.ArrayLayout(unsigned(SLOTS_PER_WORD), DETECTORS))
    clicks: In(data.ArrayLayout(unsigned(SLOTS_PER_WORD), DETECTORS))
    out: Out(SLOTS_PER_WORD)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        tick = self.tick

        m.submodules.word_phase = word_phase = WordPhase(len(config.probe_period))
        m.d.comb += word_phase.period.eq(config.probe_period)
        m.d.comb += word_phase.running.eq(tick.running)
        m.d.comb += word_phase.slot_word.eq(tick.slot_word)

        frame_begins = Signal(init=1)
        with m.If(tick.running):
            m.d.sync += frame_begins.eq(tick.frame_last)
        with m.Else():
            m.d.sync += frame_begins.eq(1)

        def of_detector(bits):
            detector = config.probe_detector
            return Mux(detector < DETECTORS, bits[detector[: (DETECTORS - 1).bit_length()]], 0)

        contents = {
            "low": 0,
            "frame": Mux(tick.running & frame_begins, _WHOLE_WORD, 0),
            "running": Mux(tick.running, _WHOLE_WORD, 0),
            "success": self.success,
            "detector_hit": of_detector(self.hits),
            "detector_click": of_detector(self.clicks),
            "quantum": Mux(tick.running & (tick.segment == Segment.QUANTUM.value), _WHOLE_WORD, 0),
        }
        content = Signal(SLOTS_PER_WORD)
        with m.Switch(config.probe):
            for code, name in enumerate(PROBES):
                with m.Case(code):
                    if name == "slot0":
                        m.d.sync += self.out.eq(word_phase.aligned & (word_phase.phase == 0))
                    else:
                        m.d.sync += content.eq(contents[name])
                        m.d.sync += self.out.eq(content)
        return m
