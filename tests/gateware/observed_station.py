"""A station that also shows where the ends of its latency contract are: a choice, and a record in its queue."""

from amaranth.lib.wiring import Out

from qrelay.protocol.units import SLOTS_PER_WORD
from qrelay_gateware.station import Station

__all__ = ["ObservedStation"]


class ObservedStation(Station):
    """Ports of the station, and two signals from its inside.

    Ports
    -----
    drawn : Out(4)
        Lanes whose choice, in this word, was drawn from the keystream.
    records_busy : Out(1)
        A record is offered to its queue in this word, or waits, or is being sent.
    """

    drawn: Out(SLOTS_PER_WORD)
    records_busy: Out(1)

    def elaborate(self, platform):
        m = super().elaborate(platform)
        for lane, choice in enumerate(m.submodules.choices.choices):
            m.d.comb += self.drawn[lane].eq(choice.drawn)
        m.d.comb += self.records_busy.eq(m.submodules.events.busy)
        return m
