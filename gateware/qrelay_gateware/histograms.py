"""Histograms of a receiver, and what is needed to compare them with a rate."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.registers import DETECTORS, LAG_SLOTS
from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .clicks import LaneBits, LaneFines
from .counting import ones
from .fine_histogram import FineHistogram
from .lag_histogram import LagHistogram, LagSteps
from .layouts import config_layout, status_layout, stored_read

__all__ = ["Histograms"]

_SUMS = ("words", "counted_words", "live_slots", *LagSteps.members, "lost_fine")


class Histograms(wiring.Component):
    """Fine-time and slot-lag histogram, swapped together.

    `swap` and `clear` ride with the word of their clock: what the windows and sums then show ends with the word before,
    and counting goes on from zero with that word itself. A `swap` while `busy` does nothing. A `clear` acts at the
    first word that is not `busy`, so nearly always at its own; the windows and sums show 0 after it.
    Pairs with clicks of words before a swap are counted after it, pairs with words before a clear are not.

    Latency: `settle_words` from `swap` or `clear` to what the host may read, and more while pairs wait.
    Reset: busy for 2 * `settle_words` with clearing everything; words until then are forgotten.
    Overflow: as the parts say.

    Parameters
    ----------
    read_domain : str
        Clock domain of the windows.

    Ports
    -----
    config, status
        Registers of group `histograms`; `config.swap` is not looked at.
    swap, clear : In(1)
    running, counted, live : In(1), In(1), In(4)
        The word belongs to a run; its slots count; slots in which all detectors of the rule are live.
    hits, clicks : In(LaneBits), fines : In(LaneFines)
        Hits after the delay, and gated clicks.
    fine_counts, lag_counts
        Windows of these names.
    """

    config: In(config_layout("histograms"))
    status: Out(status_layout("histograms"))
    swap: In(1)
    clear: In(1)
    running: In(1)
    counted: In(1)
    live: In(SLOTS_PER_WORD)
    hits: In(LaneBits)
    clicks: In(LaneBits)
    fines: In(LaneFines)
    fine_counts: In(stored_read(FINES_PER_SLOT * DETECTORS))
    lag_counts: In(stored_read(2 * LAG_SLOTS))

    settle_words = FineHistogram.read_out_words + 6
    """Words from `swap` until `busy` is low, where no pairs wait."""

    def __init__(self, *, read_domain: str = "sync"):
        self._read_domain = read_domain
        super().__init__()
        # Busy from the first word on, so that a clock that follows it does not stop before everything is cleared.
        self._busy = Signal(init=1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.fine = fine = FineHistogram(read_domain=self._read_domain)
        m.submodules.lag = lag = LagHistogram(read_domain=self._read_domain)
        config = self.config

        m.d.comb += self.status.busy.eq(self._busy)

        # Word 1: which clicks, and whether the banks turn before them.
        busy = Signal()
        pending = Signal()
        uncleared = Signal(range(3), init=2)
        """Clears that are left after a reset: memories outlive it, those of both banks."""
        turn = Signal()
        discard = Signal()
        turned = Signal(4)
        """A turn is on its way to the parts, or to the sums: they do not say that they are busy yet."""
        accept = Signal()
        m.d.comb += [
            busy.eq(fine.busy | lag.busy | turned.any()),
            accept.eq(~busy & (self.swap | self.clear | pending | uncleared.any())),
        ]
        m.d.sync += [
            turn.eq(accept),
            discard.eq(accept & (self.clear | pending | uncleared.any())),
            pending.eq((pending | self.clear) & busy),
            turned.eq(Cat(accept, turned)),
            self._busy.eq(busy | pending | accept | uncleared.any()),
        ]
        with m.If(accept & uncleared.any()):
            m.d.sync += uncleared.eq(uncleared - 1)
        on = Signal()
        m.d.comb += on.eq(config.enable_fine)
        hits = Signal(LaneBits)
        fines = Signal(LaneFines)
        source = Mux(config.fine_source, self.clicks.as_value(), Mux(self.running, self.hits.as_value(), 0))
        with m.If(on & source.any()):
            m.d.sync += [hits.as_value().eq(source), fines.eq(self.fines)]
        with m.Else():
            m.d.sync += hits.eq(0)
        a = Signal(SLOTS_PER_WORD)
        b = Signal(SLOTS_PER_WORD)
        of_detector = Array(self.clicks[d] for d in range(DETECTORS))
        with m.If(config.enable_lag & self.clicks.as_value().any()):
            m.d.sync += [a.eq(of_detector[config.lag_a]), b.eq(of_detector[config.lag_b])]
        with m.Else():
            m.d.sync += [a.eq(0), b.eq(0)]
        m.d.comb += [
            fine.hits.eq(hits),
            fine.fines.eq(fines),
            fine.turn.eq(turn),
            fine.discard.eq(discard),
            fine.address.eq(self.fine_counts.address),
            self.fine_counts.value.eq(fine.value),
            lag.a.eq(a),
            lag.b.eq(b),
            lag.turn.eq(turn),
            lag.discard.eq(discard),
            lag.address.eq(self.lag_counts.address),
            self.lag_counts.value.eq(lag.value),
        ]

        # The sums, at the word of the lag histogram's steps.
        def later(signal, words, name):
            for word in range(words):
                after = Signal(signal.shape(), name=f"{name}_{word + 1}")
                m.d.sync += after.eq(signal)
                signal = after
            return signal

        assert FineHistogram.latency == LagHistogram.latency, "sums of both belong to the same word"
        turn_of_sums = later(turn, LagHistogram.latency, "turn")
        discard_of_sums = later(discard, LagHistogram.latency, "discard")
        runs = self.running & (config.enable_fine | config.enable_lag)
        steps = {
            "words": later(runs, 1 + LagHistogram.latency, "runs"),
            "counted_words": later(runs & self.counted, 1 + LagHistogram.latency, "counts"),
            "live_slots": later(Mux(runs & self.counted, ones(self.live), 0), 1 + LagHistogram.latency, "live"),
            "lost_fine": fine.lost,
        } | {name: lag.steps[name] for name in LagSteps.members}
        for name in _SUMS:
            copy = self.status[name]
            total = Signal(len(copy), name=f"sum_{name}")
            with m.If(turn_of_sums):
                m.d.sync += [total.eq(steps[name]), copy.eq(Mux(discard_of_sums, 0, total))]
            with m.Elif(steps[name] != 0):
                m.d.sync += total.eq(total + steps[name])
        with m.If(turn_of_sums):
            m.d.sync += self.status.swaps.eq(Mux(discard_of_sums, 0, self.status.swaps + 1))
        with m.If(turn_of_sums & discard_of_sums):
            m.d.sync += self.status.high_water.eq(0)
        with m.Elif(lag.fill > self.status.high_water):
            m.d.sync += self.status.high_water.eq(lag.fill)
        return m
