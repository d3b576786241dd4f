"""The station's link by USB: bytes between word clock and USB clock, clock and reset of the transceiver, pins.

The clock domain ``usb`` is the 60 MHz of the ULPI bus. `usb_serial` has the USB device itself.
"""

from fractions import Fraction
from math import ceil

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import io, stream, wiring
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer
from amaranth.lib.fifo import AsyncFIFO, AsyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from .ulpi_pins import USB_HZ, UlpiPins
from .usb_serial import HostByte, UlpiSignature, UsbSerial

__all__ = ["UsbCrossing", "UsbLink", "UsbPll", "UsbStart", "add_usb_link"]

FLUSH_CLOCKS = 4096
"""68 us, about half a microframe: an answer waits less for its packet than for the bus, and a host gets at most 15
thousand short packets per second."""


class UsbCrossing(wiring.Component):
    """Bytes between the word clock and the USB clock, and the decision when a USB packet ends early.

    A host hands bytes on when a packet is full twice over or short. So the last byte before a pause is held back until
    another one follows, or `flush_clocks` have passed: it is then marked as the last of its packet.

    Latency: about 5 clocks of the reading side; the last byte before a pause `flush_clocks` more.  Throughput: one byte
    per clock of the slower side.  Reset: empty. The side of the word clock has no reset; while ``usb`` is in reset
    bytes that come from the host are lost, those to the host wait.  Overflow: none, back-pressure on both ways.

    Parameters
    ----------
    depth : int
        Bytes in each direction, a power of two.
    flush_clocks : int
        Pause, in clocks of ``usb``, that ends a packet.

    Ports
    -----
    received : Out(stream.Signature(8))
        Bytes from the host, domain ``sync``.
    to_send : In(stream.Signature(8))
        Bytes to the host, domain ``sync``.
    from_host : In(stream.Signature(8))
        Domain ``usb``.
    to_host : Out(stream.Signature(HostByte))
        Domain ``usb``.
    """

    received: Out(stream.Signature(8))
    to_send: In(stream.Signature(8))
    from_host: In(stream.Signature(8))
    to_host: Out(stream.Signature(HostByte))

    def __init__(self, depth: int = 1024, flush_clocks: int = FLUSH_CLOCKS):
        self._depth = depth
        self._flush_clocks = flush_clocks
        super().__init__()

    def elaborate(self, platform):
        m = Module()

        # Not the buffered kind: while its reading side is in reset it throws away what arrives.
        m.submodules.up = up = AsyncFIFO(width=8, depth=self._depth, exact_depth=True, w_domain="sync", r_domain="usb")
        # An entry more is its output register, for the word clock.
        m.submodules.down = down = AsyncFIFOBuffered(
            width=8, depth=self._depth + 1, exact_depth=True, w_domain="usb", r_domain="sync"
        )
        for source, queue in ((self.to_send, up), (self.from_host, down)):
            m.d.comb += [queue.w_data.eq(source.payload), queue.w_en.eq(source.valid), source.ready.eq(queue.w_rdy)]
        m.d.comb += [
            self.received.payload.eq(down.r_data),
            self.received.valid.eq(down.r_rdy),
            down.r_en.eq(self.received.ready),
        ]

        held = Signal()
        waited = Signal(range(self._flush_clocks))
        taken = Signal()
        m.d.comb += [
            self.to_host.valid.eq(held & (up.r_rdy | self.to_host.payload.last)),
            taken.eq(self.to_host.valid & self.to_host.ready),
            up.r_en.eq((~held | taken) & ~ResetSignal("usb")),
        ]
        with m.If(up.r_en):
            m.d.usb += held.eq(up.r_rdy)
            m.d.usb += self.to_host.payload.byte.eq(up.r_data)
            m.d.usb += self.to_host.payload.last.eq(0)
            m.d.usb += waited.eq(0)
        with m.Elif(~up.r_rdy):
            with m.If(waited == self._flush_clocks - 1):
                m.d.usb += self.to_host.payload.last.eq(1)
            with m.Else():
                m.d.usb += waited.eq(waited + 1)
        return m


class UsbLink(wiring.Component):
    """`UsbSerial` joined to the word clock by `UsbCrossing`; takes the place of a UART.

    Whatever happens on the bus cuts the byte stream at most: a reset of the bus and an unplugged cable lose the bytes
    that are in the packet buffers of the device (about 1000 in each direction), and nothing else. The frames they were
    part of then fail their checksum, and the next delimiter begins anew.

    Parameters
    ----------
    serial : UsbSerial
    flush_clocks : int
        As for `UsbCrossing`.

    Ports
    -----
    ulpi : Out(UlpiSignature)
        Domain ``usb``.
    received, to_send
        Of `UsbCrossing`.
    """

    ulpi: Out(UlpiSignature)
    received: Out(stream.Signature(8))
    to_send: In(stream.Signature(8))

    def __init__(self, serial: UsbSerial, flush_clocks: int = FLUSH_CLOCKS):
        self._serial = serial
        self._flush_clocks = flush_clocks
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.serial = serial = self._serial
        m.submodules.crossing = crossing = UsbCrossing(flush_clocks=self._flush_clocks)
        connect(m, serial.ulpi, flipped(self.ulpi))
        connect(m, serial.from_host, crossing.from_host)
        connect(m, crossing.to_host, serial.to_host)
        connect(m, crossing.received, flipped(self.received))
        connect(m, flipped(self.to_send), crossing.to_send)
        return m


class UsbPll(wiring.Component):
    """The bus clock, 60 MHz from the board's oscillator, for transceivers that are given their clock.

    Latency: none.  Reset: none, it locks by itself.  Overflow: none.

    Ports
    -----
    oscillator : In(1)
    usb : Out(1)
    lock : Out(1)
        Asynchronous.
    """

    oscillator: In(1)
    usb: Out(1)
    lock: Out(1)

    VCO_HZ = 600_000_000

    def __init__(self, oscillator_hz: Fraction):
        times = Fraction(USB_HZ) / oscillator_hz
        if times.denominator != 1:
            raise ValueError(
                f"oscillator of {float(oscillator_hz) / 1e6:g} MHz: 60 MHz of the ULPI bus must be a multiple of it"
            )
        self._times = int(times)
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        divider = self.VCO_HZ // USB_HZ
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Rules for the PLL of the reference must not touch this one.
            a_qrelay_usb=1,
            p_CLKI_DIV=1,
            p_CLKFB_DIV=self._times,
            # Another output than those of the word clock's PLL: the build tells clocks apart by it.
            p_CLKOS3_ENABLE="ENABLED",
            p_CLKOS3_DIV=divider,
            p_CLKOS3_CPHASE=divider - 1,
            p_FEEDBK_PATH="CLKOS3",
            p_INT_LOCK_STICKY="DISABLED",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            i_CLKI=self.oscillator,
            i_CLKFB=self.usb,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOS3=0,
            o_CLKOS3=self.usb,
            o_LOCK=self.lock,
        )
        return m


class UsbStart(wiring.Component):
    """Take the transceiver out of its reset, and then the domain ``usb``.

    A transceiver may stop its clock while it is in reset. Domain ``osc``.  Reset: both in reset.

    Ports
    -----
    clock_good : In(1)
        Asynchronous; both go back into reset without it.
    phy_reset : Out(1)
        For `PHY_RESET_S`, in which supplies that the FPGA sets come up as well.
    usb_reset : Out(1)
        For `PHY_START_S` more, in which the transceiver starts its clock.
    """

    clock_good: In(1)
    phy_reset: Out(1, init=1)
    usb_reset: Out(1, init=1)

    PHY_RESET_S = Fraction(50, 1000)
    PHY_START_S = Fraction(5, 1000)

    def __init__(self, oscillator_hz: Fraction):
        self.phy_clocks = ceil(oscillator_hz * self.PHY_RESET_S)
        self.usb_clocks = ceil(oscillator_hz * (self.PHY_RESET_S + self.PHY_START_S))
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        good = Signal()
        m.submodules.good_sync = FFSynchronizer(self.clock_good, good, o_domain="osc")
        elapsed = Signal(range(self.usb_clocks + 1))
        m.d.osc += self.phy_reset.eq(elapsed < self.phy_clocks)
        m.d.osc += self.usb_reset.eq(elapsed != self.usb_clocks)
        with m.If(~good):
            m.d.osc += elapsed.eq(0)
        with m.Elif(elapsed != self.usb_clocks):
            m.d.osc += elapsed.eq(elapsed + 1)
        return m


def add_usb_link(m, platform, ulpi: UlpiPins, level: str, board: str, oscillator_hz: Fraction) -> UsbLink:
    """Put the link with its clock, reset and pins into a design that has the domains ``sync`` and ``osc``."""
    clock = () if ulpi.clk_out else (Clock(USB_HZ),)
    platform.add_resources(
        [
            Resource(
                "ulpi",
                0,
                Subsignal("data", Pins(" ".join(ulpi.data), dir="io")),
                Subsignal("clk", Pins(ulpi.clk, dir="o" if ulpi.clk_out else "i"), *clock),
                Subsignal("dir", Pins(ulpi.dir, dir="i")),
                Subsignal("nxt", Pins(ulpi.nxt, dir="i")),
                Subsignal("stp", Pins(ulpi.stp, dir="o")),
                Subsignal("rst", (PinsN if ulpi.rst_low else Pins)(ulpi.rst, dir="o")),
                Attrs(IO_TYPE=level, SLEWRATE="FAST"),
            )
        ]
    )
    port = platform.request("ulpi", dir="-")
    m.domains.usb = ClockDomain()
    m.submodules.usb_start = start = UsbStart(oscillator_hz)
    usb_clock = Signal()
    if ulpi.clk_out:
        m.submodules.usb_pll = pll = UsbPll(oscillator_hz)
        # An output register: its edges are as late after the clock as those of the data, and no less.
        m.submodules.ulpi_clk = forwarded = io.DDRBuffer("o", port.clk, o_domain="usb")
        m.d.comb += [
            pll.oscillator.eq(ClockSignal("osc")),
            usb_clock.eq(pll.usb),
            start.clock_good.eq(pll.lock),
            forwarded.o.eq(0b01),
        ]
    else:
        m.submodules.ulpi_clk = given = io.Buffer("i", port.clk)
        m.d.comb += usb_clock.eq(given.i)
        m.d.comb += start.clock_good.eq(1)
    m.d.comb += ClockSignal("usb").eq(usb_clock)
    m.submodules.usb_reset = ResetSynchronizer(start.usb_reset, domain="usb")

    m.submodules.usb_link = link = UsbLink(UsbSerial(board, ulpi))
    m.submodules.ulpi_data = data = io.Buffer("io", port.data)
    m.d.comb += [link.ulpi.data_i.eq(data.i), data.o.eq(link.ulpi.data_o), data.oe.eq(link.ulpi.data_oe)]
    for name in ("dir", "nxt"):
        m.submodules[f"ulpi_{name}"] = buffer = io.Buffer("i", getattr(port, name))
        m.d.comb += getattr(link.ulpi, name).eq(buffer.i)
    for name, driven in (("stp", link.ulpi.stp), ("rst", start.phy_reset)):
        m.submodules[f"ulpi_{name}"] = buffer = io.Buffer("o", getattr(port, name))
        m.d.comb += buffer.o.eq(driven)
    return link
