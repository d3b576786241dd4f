"""Tables of a time-to-digital converter: tap codes become times, and are counted for calibration.

Both live in block RAM, which is fast enough for two slots per clock only with its output register: nothing stands
between the memories and the registers behind them.
"""

from itertools import pairwise

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.tdc import CODE_BITS, HISTOGRAM_BITS, SPAN_FINES

from .slow_read import ANY_ON_COLLISION
from .tdc_encoder import EXTRA_BITS, TapHit

__all__ = ["CodeDensity", "TdcCalibration", "TimedHit"]

_CODES = 1 << CODE_BITS


class TimedHit(data.Struct):
    """A hit of one capture."""

    valid: 1
    fine: 8
    """Place in the slot, 1/256 slot."""
    later: 1
    """The hit lies in the later of the two slots before the capture."""
    extra: EXTRA_BITS


class TdcCalibration(wiring.Component):
    """Look up the time of each code.

    Latency: 3 captures.  Reset: no hits until new ones have passed; the table is kept and starts with zeros, so a
    channel needs its table before its hits mean anything.  Overflow: none.
    A hit that is looked up while its own entry is written may get any time.

    Ports
    -----
    table : In(address, value, enable)
        In a clock with `enable`, code `address` takes the time `value`: 0 to 511 fines since the capture before. Held
        for several clocks it is written several times, which changes nothing.
    hit : In(TapHit)
    timed : Out(TimedHit)
        `fine` and `later` mean nothing where not `valid`.
    """

    table: In(
        wiring.Signature({"address": Out(CODE_BITS), "value": Out(range(SPAN_FINES)), "enable": Out(1)}),
    )
    hit: In(TapHit)
    timed: Out(TimedHit)

    latency = 3

    def elaborate(self, platform):
        m = Module()
        m.submodules.times = times = Memory(shape=unsigned(CODE_BITS), depth=_CODES, init=[], attrs=ANY_ON_COLLISION)
        write = times.write_port()
        read = times.read_port(domain="comb")
        m.d.sync += [
            write.addr.eq(self.table.address),
            write.data.eq(self.table.value),
            write.en.eq(self.table.enable),
        ]
        code = Signal(CODE_BITS, reset_less=True)
        found = Signal(CODE_BITS, reset_less=True)
        time = Signal(CODE_BITS, reset_less=True)
        m.d.comb += read.addr.eq(code)
        m.d.sync += [code.eq(self.hit.code), found.eq(read.data), time.eq(found)]
        m.d.comb += [self.timed.fine.eq(time[:8]), self.timed.later.eq(time[8])]
        valid, extra = self.hit.valid, self.hit.extra
        for stage in range(self.latency):
            next_valid, next_extra = Signal(name=f"valid_{stage}"), Signal(EXTRA_BITS, name=f"extra_{stage}")
            m.d.sync += [next_valid.eq(valid), next_extra.eq(extra)]
            valid, extra = next_valid, next_extra
        m.d.comb += [self.timed.valid.eq(valid), self.timed.extra.eq(extra)]
        return m


class CodeDensity(wiring.Component):
    """Count hits by code, one count per hit, in every capture if need be.

    A count takes `latency` captures from reading to writing; sums on their way are passed on to later hits of the same
    code. While `run` is low, bins can be read, `read_latency` clocks after `address` is set and at least `latency`
    clocks after `run` fell. `clear` writes zeros to all bins, one per clock, and is `busy` meanwhile; hits that arrive
    then are not counted.

    Reset: bins keep their counts, hits on their way are lost, a clear under way ends half done.
    Overflow: bins count modulo 2^32, no sooner than after 28 s with a hit of one code in every capture.

    Ports
    -----
    run, clear : In(1)
        Levels; a `clear` that stays starts again and again.
    hit : In(TapHit)
    address : In(9)
    count : Out(32)
    busy : Out(1)
    """

    run: In(1)
    clear: In(1)
    hit: In(TapHit)
    address: In(CODE_BITS)
    count: Out(HISTOGRAM_BITS)
    busy: Out(1)

    latency = 5
    read_latency = 2

    def elaborate(self, platform):
        m = Module()
        m.submodules.bins = bins = Memory(shape=unsigned(HISTOGRAM_BITS), depth=_CODES, init=[], attrs=ANY_ON_COLLISION)
        write = bins.write_port()
        read = bins.read_port(domain="comb")

        # Stage 1 reads, 2 waits for the memory, 3 for its register, 4 has the sum and writes it, 5 and then `sums`
        # remember it for the hits that read before the write.
        depth = 5
        code = [Signal(CODE_BITS, name=f"code_{n}", reset_less=True) for n in range(1, depth + 1)]
        valid = [Signal(name=f"valid_{n}") for n in range(1, depth + 1)]
        m.d.sync += [
            code[0].eq(self.hit.code),
            valid[0].eq(self.hit.valid & self.run & ~self.busy & ~self.clear),
            *(later.eq(earlier) for earlier, later in pairwise(code)),
            *(later.eq(earlier) for earlier, later in pairwise(valid)),
        ]
        m.d.comb += read.addr.eq(Mux(valid[0], code[0], self.address))
        found = Signal(HISTOGRAM_BITS, reset_less=True)
        stored = Signal(HISTOGRAM_BITS, reset_less=True)
        m.d.sync += [found.eq(read.data), stored.eq(found)]
        m.d.comb += self.count.eq(stored)

        # A hit in stage 3 takes the sum of the youngest of the three before it with its code.
        same = [Signal(name=f"same_{distance}") for distance in (1, 2, 3)]
        for distance, match in enumerate(same, start=1):
            m.d.sync += match.eq((code[1] == code[1 + distance]) & valid[1 + distance])
        sums = [Signal(HISTOGRAM_BITS, name=f"sum_{n}", reset_less=True) for n in (4, 5, 6)]
        present = Mux(same[0], sums[0], Mux(same[1], sums[1], Mux(same[2], sums[2], stored)))
        m.d.sync += [sums[0].eq(present + 1), sums[1].eq(sums[0]), sums[2].eq(sums[1])]

        cleared = Signal(CODE_BITS)
        with m.If(self.clear):
            m.d.sync += [self.busy.eq(1), cleared.eq(0)]
        with m.Elif(self.busy):
            m.d.sync += [cleared.eq(cleared + 1), self.busy.eq(cleared != _CODES - 1)]
        m.d.comb += [
            write.addr.eq(Mux(self.busy, cleared, code[3])),
            write.data.eq(Mux(self.busy, 0, sums[0])),
            write.en.eq(self.busy | valid[3]),
        ]
        return m
