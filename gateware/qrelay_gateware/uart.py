"""Serial port, eight data bits, no parity, one stop bit, at a rate that need not divide the clock."""

from fractions import Fraction
from itertools import pairwise

from amaranth.hdl import Array, Cat, Const, Module, Signal
from amaranth.lib import cdc, stream, wiring
from amaranth.lib.wiring import In, Out

from .fifo import BlockFifo

__all__ = ["Uart"]

_BITS = 10
"""Start bit, eight data bits, stop bit."""


def _rounded(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


class Uart(wiring.Component):
    """Serial port with a fractional baud generator.

    Each edge of a sent byte and each sampling point of a received one is at the whole clock nearest to its ideal place,
    counted from the start bit: the error is at most half a clock and does not add up, as every byte starts anew.

    The receiver goes back to waiting in the middle of the stop bit. A byte whose stop bit is low is dropped and the
    receiver waits for a high level; a start bit that is over at its middle is ignored.

    Latency: a received byte is at `received` 4 clocks after the middle of its stop bit (and 2 clocks of synchroniser).
    Reset: line idle, buffer empty.  Overflow: a byte received into the full buffer is dropped; `overrun` tells. The
    frame it belongs to then fails its checksum.

    Parameters
    ----------
    clock_hz : Fraction
        Frequency of the clock domain `sync`.
    baud : int
        Bits per second; at most a quarter of the clock.
    depth : int
        Receive buffer in bytes; the default takes one block RAM and holds several requests.

    Ports
    -----
    rx : In(1)
        Line from the host; any phase.
    tx : Out(1)
        Line to the host, from a register.
    received : Out(stream.Signature(8))
        Bytes from the host.
    to_send : In(stream.Signature(8))
        Bytes to the host.
    framing_error, overrun : Out(1)
        One clock for each byte dropped.
    """

    def __init__(self, clock_hz: Fraction, baud: int, depth: int = 2048):
        self._bit_clocks = Fraction(clock_hz) / baud
        if self._bit_clocks < 4:
            raise ValueError(
                f"baud {baud} is more than a quarter of the clock of {float(clock_hz):g} Hz; "
                f"give at most {int(clock_hz / 4)}"
            )
        self._depth = depth
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "received": Out(stream.Signature(8)),
                "to_send": In(stream.Signature(8)),
                "framing_error": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        self._transmitter(m)
        self._receiver(m)
        return m

    def _transmitter(self, m) -> None:
        edges = [_rounded(self._bit_clocks * k) for k in range(_BITS + 1)]
        reloads = Array(Const(after - before - 1) for before, after in pairwise(edges))
        wait = Signal(range(max(edges[1], int(self._bit_clocks) + 2)))
        bit = Signal(range(_BITS))
        shift = Signal(9)
        """The bits after the present one."""
        busy = Signal()
        m.d.comb += self.to_send.ready.eq(~busy)
        with m.If(~busy):
            with m.If(self.to_send.valid):
                m.d.sync += busy.eq(1)
                m.d.sync += self.tx.eq(0)
                m.d.sync += shift.eq(Cat(self.to_send.payload, 1))
                m.d.sync += wait.eq(reloads[0])
                m.d.sync += bit.eq(0)
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
            with m.If((bit == _BITS - 1) & (wait == 1)):
                m.d.sync += busy.eq(0)
        with m.Else():
            m.d.sync += self.tx.eq(shift[0])
            m.d.sync += shift.eq(Cat(shift[1:], 1))
            m.d.sync += bit.eq(bit + 1)
            m.d.sync += wait.eq(reloads[bit + 1])

    def _receiver(self, m) -> None:
        # The synchronised level lags the line by 2 to 3 clocks, the same for every bit.
        level = Signal(init=1)
        m.submodules.synchroniser = cdc.FFSynchronizer(self.rx, level, init=1)
        m.submodules.buffer = buffer = BlockFifo(8, self._depth)
        wiring.connect(m, buffer.head, wiring.flipped(self.received))

        samples = [_rounded(self._bit_clocks * (k + Fraction(1, 2))) for k in range(_BITS)]
        steps = [samples[0], *(after - before for before, after in pairwise(samples))]
        reloads = Array(Const(step - 1) for step in steps)
        wait = Signal(range(max(steps)))
        bit = Signal(range(_BITS))
        byte = Signal(8)
        m.d.comb += buffer.write_value.eq(byte)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += bit.eq(0)
                m.d.sync += wait.eq(reloads[0])
                with m.If(~level):
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.d.sync += bit.eq(bit + 1)
                    m.d.sync += wait.eq(reloads[bit + 1])
                    with m.If(bit == 0):
                        with m.If(level):
                            m.next = "IDLE"
                    with m.Elif(bit != _BITS - 1):
                        m.d.sync += byte.eq(Cat(byte[1:], level))
                    with m.Elif(level):
                        m.d.comb += buffer.write_enable.eq(1)
                        m.d.comb += self.overrun.eq(buffer.full)
                        m.next = "IDLE"
                    with m.Else():
                        m.d.comb += self.framing_error.eq(1)
                        m.next = "BREAK"
            with m.State("BREAK"):
                with m.If(level):
                    m.next = "IDLE"
