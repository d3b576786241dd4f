"""Registers, tables and counters of the time-to-digital converters, in the word clock."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.tdc import CODE_BITS, HISTOGRAM_BITS, SPAN_FINES
from qrelay.protocol.windows import window

from .layouts import bit_layout, config_layout, status_layout, table_write
from .tdc_calibration import CodeDensity
from .tdc_channel import CAPTURES_PER_WORD, TdcWord
from .tdc_encoder import TapHit, TdcConfig

__all__ = ["TdcControl", "TdcPort"]

_EXTRA = TdcWord.as_shape()["extra"].shape

TdcPort = wiring.Signature(
    {
        "config": Out(data.ArrayLayout(TdcConfig, DETECTORS)),
        "oscillator": Out(DETECTORS),
        "address": Out(CODE_BITS),
        "value": Out(range(SPAN_FINES)),
        "enable": Out(DETECTORS),
        "extra": In(data.ArrayLayout(_EXTRA, DETECTORS)),
        "density": In(data.ArrayLayout(TapHit, DETECTORS)),
    }
)
"""Between a station and the channels (`TdcChannel`) and chains of its detectors; all in the word clock.

`config`, `oscillator` (which source feeds the chain), and `extra` and `density` of the channels by detector; in a word
with bit d of `enable`, code `address` of detector d takes the time `value`.
"""


class TdcControl(wiring.Component):
    """Serve all channels of a board from its registers: settings, times of codes, code density, closer hits.

    One code-density histogram serves all detectors, one after the other: block RAM is scarce, and a source on board
    fills it within seconds.

    Latency: 2 words from settings and table to the channels, 2 words from a word of closer hits to their count.
    Reset: nothing counts.  Overflow: `extra` counts modulo 2^32; a word counts one code at most.

    Ports
    -----
    config, status
        Registers of group `tdc`.
    invert : In(4)
        Detectors whose falling edge is the hit.
    clear : In(1)
        Strobe: `extra` counts from 0 again.
    table : table_write("tdc_times")
    codes : In(address, value)
        Window `tdc_codes`: `value` is the count of the code that stood at `address` two words before.
    channels : Out(TdcPort)
    """

    config: In(config_layout("tdc"))
    status: Out(status_layout("tdc"))
    invert: In(DETECTORS)
    clear: In(1)
    table: table_write("tdc_times")
    codes: In(wiring.Signature({"address": Out(CODE_BITS), "value": In(HISTOGRAM_BITS)}))
    channels: Out(TdcPort)

    def elaborate(self, platform):
        m = Module()
        channels = self.channels
        place = data.View(bit_layout(window("tdc_times").index), self.table.address)
        m.submodules.density = density = CodeDensity()
        hit = Signal(TapHit)
        m.d.sync += hit.eq(channels.density[self.config.detector])
        m.d.comb += [
            density.run.eq(self.config.run),
            density.clear.eq(self.config.clear),
            density.hit.eq(hit),
            density.address.eq(self.codes.address),
            self.codes.value.eq(density.count),
            self.status.busy.eq(density.busy),
        ]
        m.d.sync += [
            channels.address.eq(place.code),
            channels.value.eq(self.table.value),
            channels.oscillator.eq(Cat(self.config[f"oscillator_{d}"] for d in range(DETECTORS))),
        ]
        for d in range(DETECTORS):
            closer = Signal(range(2 << _EXTRA.elem_shape), name=f"closer_{d}")
            count = Signal(32, name=f"extra_{d}")
            m.d.sync += [
                channels.enable[d].eq(self.table.enable & (place.detector == d)),
                channels.config[d].invert.eq(self.invert[d]),
                channels.config[d].high_from.eq(self.config[f"high_from_{d}"]),
                channels.config[d].low_from.eq(self.config[f"low_from_{d}"]),
                closer.eq(sum(channels.extra[d][half] for half in range(CAPTURES_PER_WORD))),
                count.eq(count + closer),
            ]
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            m.d.comb += self.status[f"extra_{d}"].eq(count)
        return m
