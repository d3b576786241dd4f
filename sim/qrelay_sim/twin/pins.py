"""A station behind simulated pins, with the registers that a board has there."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from qrelay_gateware.packet_stream import PacketBuffer
from qrelay_gateware.station import BoardFacts, Station

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

    A board has them in its gearboxes, synchronisers and UART. The simulation wants them because it would evaluate logic
    between an input and the first register twice per word.

    Latency: `input_latency` words from the inputs to the station's; a clock for each byte of the link.
    Reset: zeros.  Overflow: none.  Ports: those of `Station`.

    Parameters
    ----------
    facts : BoardFacts
        For the station; `pin_latency` has to count `input_latency`.
    """

    input_latency = 1

    def __init__(self, facts: BoardFacts) -> None:
        self._station = Station(facts, gated=True)
        super().__init__(dict(self._station.signature.members))

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
        for name in _REGISTERED:
            m.d.sync += getattr(station, name).eq(getattr(self, name))
        for name in ("hits_inverted", "lines", "start_out", "probe", "armed", "running", "clocked"):
            m.d.comb += getattr(self, name).eq(getattr(station, name))
        return m
