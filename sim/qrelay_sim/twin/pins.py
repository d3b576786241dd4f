"""A station behind simulated pins, with the registers that a board has there."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.tdc import TAPS
from qrelay_gateware.board_facts import BoardFacts
from qrelay_gateware.packet_stream import PacketBuffer
from qrelay_gateware.station import Station
from qrelay_gateware.tdc_channel import TdcChannel

__all__ = ["PinnedStation"]

_REGISTERED = (
    "hits",
    "start_bins",
    "noise",
    "external_bits",
    "external_valid",
    "clock_locked",
    "external_reference",
    "reference_lost",
    "lock_lost",
    "phase_slipped",
)


class PinnedStation(wiring.Component):
    """A station with a register at every input.

    With carry chains in its facts, all detectors have one: what its flip-flops hold comes in as `taps_<d>` (domain
    ``gear``) and goes through the channels of a board; `hits` is not looked at.

    A board has them in its gearboxes, synchronisers and UART. The simulation wants them because it would evaluate logic
    between an input and the first register twice per word.

    Latency: `input_latency` words from the inputs to the station's, that of `TdcChannel` from chains; a clock for each
    byte of the link.
    Reset: zeros.  Overflow: none.  Ports: those of `Station`, and with chains

    taps_0 ... taps_3 : In(288), capture : In(1)
        As of `TdcChannel`.
    oscillator : Out(4)
        Detectors whose chain sees the oscillator on the die.

    Parameters
    ----------
    facts : BoardFacts
        For the station; `pin_latency` has to count the latency from the detectors' inputs.
    """

    input_latency = 1

    def __init__(self, facts: BoardFacts) -> None:
        self._station = Station(facts, gated=True)
        members = dict(self._station.signature.members)
        self._chained = bool(facts.chains)
        if self._chained:
            members |= {f"taps_{d}": In(TAPS) for d in range(DETECTORS)}
            members |= {"capture": In(1), "oscillator": Out(DETECTORS)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:  # noqa: D102
        m = Module()
        m.submodules.station = station = self._station
        for name, source, sink in (("rx", self.rx, station.rx), ("tx", station.tx, self.tx)):
            m.submodules[f"{name}_buffer"] = buffer = PacketBuffer()
            m.d.comb += [
                buffer.packets.valid.eq(source.valid),
                buffer.packets.payload.value.eq(source.payload),
                source.ready.eq(buffer.packets.ready),
                sink.valid.eq(buffer.out.valid),
                sink.payload.eq(buffer.out.payload.value),
                buffer.out.ready.eq(sink.ready),
            ]
        if self._chained:
            self._channels(m)
        sdram = station.sdram
        for name in ("command", "bank", "address", "data", "drive", "mask"):
            m.d.comb += getattr(self.sdram, name).eq(getattr(sdram, name))
        m.d.sync += sdram.read_data.eq(self.sdram.read_data)
        for name in _REGISTERED[self._chained :]:
            m.d.sync += getattr(station, name).eq(getattr(self, name))
        for name in ("hits_inverted", "lines", "start_out", "probe", "armed", "running", "clocked"):
            m.d.comb += getattr(self, name).eq(getattr(station, name))
        return m

    def _channels(self, m: Module) -> None:
        """As `qrelay_boards.ecp5_detectors.ChainDetectors`, behind the chains."""
        station = self._station
        for d in range(DETECTORS):
            m.submodules[f"channel_{d}"] = channel = TdcChannel()
            m.d.comb += [
                channel.taps.eq(getattr(self, f"taps_{d}")),
                channel.capture.eq(self.capture),
                channel.config.eq(station.tdc.config[d]),
                channel.table.address.eq(station.tdc.address),
                channel.table.value.eq(station.tdc.value),
                channel.table.enable.eq(station.tdc.enable[d]),
                station.tdc.extra[d].eq(channel.word.extra),
                station.tdc.density[d].eq(channel.density),
                station.hits[d].eq(channel.word.hits),
            ]
        m.d.comb += self.oscillator.eq(station.tdc.oscillator)
