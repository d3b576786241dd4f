"""From the captures of four chains to click records: the channels and the receiver behind them."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay_gateware.layouts import Tick, WordRecords, config_layout
from qrelay_gateware.receiver import Receiver
from qrelay_gateware.tdc_channel import TableWrite, TdcChannel
from qrelay_gateware.tdc_encoder import TdcConfig

__all__ = ["CaptureToRecord"]


class CaptureToRecord(wiring.Component):
    """Ports of the channels by detector, and the receiver's tick, settings and click records."""

    def __init__(self):
        members = {
            "capture": In(1),
            "config": In(config_layout("receiver")),
            "tick": In(Tick),
            "clicks": Out(WordRecords),
        }
        for d in range(DETECTORS):
            members |= {f"taps_{d}": In(288), f"table_{d}": In(TableWrite), f"tdc_config_{d}": In(TdcConfig)}
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.receiver = receiver = Receiver()
        for d in range(DETECTORS):
            m.submodules[f"channel_{d}"] = channel = TdcChannel()
            wiring.connect(m, wiring.flipped(getattr(self, f"table_{d}")), channel.table)
            m.d.comb += [
                channel.taps.eq(getattr(self, f"taps_{d}")),
                channel.capture.eq(self.capture),
                channel.config.eq(getattr(self, f"tdc_config_{d}")),
                receiver.hits[d].eq(channel.word.hits),
            ]
        m.d.comb += [
            receiver.config.eq(self.config),
            receiver.tick.eq(self.tick),
            self.clicks.eq(receiver.clicks),
        ]
        return m
