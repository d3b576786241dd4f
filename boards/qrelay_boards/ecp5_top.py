"""The design around a station on a board with an ECP5: clocks, pins, link and lamps."""

from fractions import Fraction

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import connect

from qrelay_gateware.edge_to_click import EdgeToClick
from qrelay_gateware.uart import Uart

from .clock_plan import ClockPlan
from .ecp5_board import Ecp5Wiring
from .ecp5_clocks import ClockPll, EdgeClockTree
from .ecp5_detectors import ChainDetectors, HitDelay
from .ecp5_rings import RingOscillators
from .ecp5_sdram import add_sdram
from .ecp5_supervisor import LatchedEvent, ReferenceMonitor, Supervisor
from .ecp5_x2 import InputPins, OutputPins

__all__ = ["Ecp5Top"]

BLINK_HZ = 1.5
"""About the rate at which the lamp of the oscillator blinks."""


class Ecp5Top(Elaboratable):
    """Clocks, pins, link and lamps around a station.

    Lines and detectors of the station beyond those that are wired stay open: nothing leaves, no hit comes.
    """

    def __init__(self, plan: ClockPlan, station, wiring: Ecp5Wiring):
        self._plan = plan
        self._station = station
        self._wiring = wiring

    def elaborate(self, platform):
        wiring = self._wiring
        wiring.check()
        self._resources(platform)

        m = Module()
        m.submodules.station = station = self._station
        self._clocks(m, platform)
        self._pins(m, platform)
        self._lamps(m, platform)
        if wiring.rings:
            m.submodules.rings = rings = RingOscillators(wiring.rings)
            m.d.comb += station.noise.eq(rings.noise)
        if wiring.external:
            self._key_bits(m, platform)
        if wiring.sdram is not None:
            add_sdram(m, platform, wiring.sdram, wiring.level, station.sdram)
        if wiring.extra is not None:
            wiring.extra(m, platform, Fraction(wiring.oscillator_hz))

        link = self._uart(m, platform) if wiring.ulpi is None else self._usb(m, platform)
        connect(m, link.received, station.rx)
        connect(m, station.tx, link.to_send)
        return m

    def _key_bits(self, m, platform):
        """Key bits from outside, taken at the pins by the word clock."""
        bits = []
        for use in self._wiring.external:
            m.submodules[f"{use}_buffer"] = buffer = io.FFBuffer("i", platform.request(use, dir="-"))
            # A second register: the source may be late, and what it then gives must not be seen twice.
            bit = Signal(name=use, reset_less=True)
            m.d.sync += bit.eq(buffer.i)
            bits.append(bit)
        m.d.comb += Cat(self._station.external_bits, self._station.external_valid).eq(Cat(bits))

    def _uart(self, m, platform):
        m.submodules.uart = uart = Uart(self._plan.word_clock_hz, self._wiring.baud)
        m.submodules.uart_rx = rx = io.Buffer("i", platform.request("uart_rx", dir="-"))
        m.submodules.uart_tx = tx = io.Buffer("o", platform.request("uart_tx", dir="-"))
        m.d.comb += [
            uart.rx.eq(rx.i),
            tx.o.eq(uart.tx),
            self._station.framing_error.eq(uart.framing_error),
            self._station.overrun.eq(uart.overrun),
        ]
        return uart

    def _usb(self, m, platform):
        # Boards with a UART do without luna-usb.
        from .ecp5_usb import add_usb_link

        wiring = self._wiring
        board = self._station.facts.board
        return add_usb_link(m, platform, wiring.ulpi, wiring.level, board, Fraction(wiring.oscillator_hz))

    def _resources(self, platform):
        wiring = self._wiring
        level = {"IO_TYPE": wiring.level}

        def pin(use, name, dir, *rest, low=False, **attributes):
            pins = (PinsN if low else Pins)(wiring.place(name), dir=dir)
            return Resource(use, 0, pins, *rest, Attrs(**level, **attributes))

        resources = [
            pin("oscillator", wiring.oscillator, "i", Clock(float(wiring.oscillator_hz))),
        ]
        if wiring.ulpi is None:
            # Without a cable the line is idle, not noise.
            resources += [pin("uart_rx", wiring.uart_rx, "i", PULLMODE="UP"), pin("uart_tx", wiring.uart_tx, "o")]
        if self._plan.external:
            frequency = Clock(float(self._plan.reference_hz))
            resources.append(pin("reference", wiring.reference, "i", frequency, PULLMODE="DOWN"))
        resources += [pin(f"lamp_{lamp}", at, "o", low=wiring.lamps_low) for lamp, at in wiring.lamps.items()]
        resources += [pin(f"high_{i}", at, "o") for i, at in enumerate(wiring.high)]
        resources += [pin(use, at, "o", DRIVE="8", SLEWRATE="FAST") for use, at in wiring.outputs.items()]
        quiet = {**wiring.inputs, **wiring.external}
        resources += [pin(use, at, "i", PULLMODE="DOWN") for use, at in quiet.items()]
        platform.add_resources(resources)

    def _clocks(self, m, platform):
        plan = self._plan
        oscillator_hz = Fraction(self._wiring.oscillator_hz)
        osc_clock = Signal()
        edge_clock = Signal()
        gear_clock = Signal()
        word_clock = Signal()
        m.domains.osc = ClockDomain(reset_less=True)
        # The station starts from the values that configuration gives to flip-flops. A reset would have 14,000 loads in
        # the fabric and double the number of control sets, and slow down both place and route and the word clock.
        m.domains.sync = ClockDomain(reset_less=True)
        m.domains.gear = ClockDomain(async_reset=True)
        m.domains.gear_n = ClockDomain(async_reset=True, clk_edge="neg")

        m.submodules.osc_buffer = osc_buffer = io.Buffer("i", platform.request("oscillator", dir="-"))
        m.submodules.supervisor = supervisor = Supervisor(plan.external, oscillator_hz)
        m.submodules.pll = pll = ClockPll(plan)
        m.submodules.tree = self._tree = tree = EdgeClockTree(oscillator_hz)
        m.d.comb += [
            osc_clock.eq(osc_buffer.i),
            ClockSignal("osc").eq(osc_clock),
            word_clock.eq(pll.word),
            ClockSignal("sync").eq(word_clock),
            edge_clock.eq(tree.edge),
            gear_clock.eq(tree.gear_clock),
            ClockSignal("gear").eq(gear_clock),
            ClockSignal("gear_n").eq(gear_clock),
            ResetSignal("gear").eq(tree.gearbox_reset),
            ResetSignal("gear_n").eq(tree.gearbox_reset),
        ]
        if plan.external:
            reference_clock = Signal()
            port = platform.request("reference", dir="-")
            m.submodules.reference_buffer = reference_buffer = io.Buffer("i", port)
            m.domains.reference = ClockDomain(reset_less=True)
            m.submodules.monitor = monitor = ReferenceMonitor(plan.reference_hz, oscillator_hz)
            m.d.comb += reference_clock.eq(reference_buffer.i)
            m.d.comb += ClockSignal("reference").eq(reference_clock)
            m.d.comb += supervisor.reference_good.eq(monitor.good)
        else:
            reference_clock = osc_clock
            m.d.comb += supervisor.reference_good.eq(1)
        m.d.comb += [
            pll.reference.eq(reference_clock),
            pll.reset.eq(supervisor.pll_reset),
            supervisor.pll_lock.eq(pll.lock),
            tree.edge_in.eq(pll.edge),
            tree.pll_good.eq(supervisor.pll_good),
        ]

        station = self._station
        m.submodules.slip_event = slip_event = LatchedEvent()
        m.submodules.locked_sync = FFSynchronizer(tree.locked, station.clock_locked)
        m.d.comb += [
            slip_event.event.eq(tree.phase_lost),
            station.phase_slipped.eq(slip_event.seen),
            station.reference_lost.eq(supervisor.reference_lost),
            station.lock_lost.eq(supervisor.lock_lost),
            station.external_reference.eq(int(plan.external)),
        ]
        self._supervisor = supervisor

    def _lamps(self, m, platform):
        wiring = self._wiring
        blink = Signal(int(wiring.oscillator_hz / BLINK_HZ).bit_length())
        m.d.osc += blink.eq(blink + 1)
        shown = {
            "locked": self._tree.locked,
            "running": self._station.running,
            "armed": self._station.armed,
            "reference": self._supervisor.reference_good,
            "pll": self._supervisor.pll_good,
            "blink": blink[-1],
        }
        for lamp in wiring.lamps:
            m.submodules[f"lamp_{lamp}"] = buffer = io.Buffer("o", platform.request(f"lamp_{lamp}", dir="-"))
            m.d.comb += buffer.o.eq(shown[lamp])
        for number in range(len(wiring.high)):
            m.submodules[f"high_{number}"] = buffer = io.Buffer("o", platform.request(f"high_{number}", dir="-"))
            m.d.comb += buffer.o.eq(1)

    def _pins(self, m, platform):
        station = self._station
        tree = self._tree
        wiring = self._wiring
        m.submodules.outputs = outputs = OutputPins(len(wiring.outputs), len(wiring.lines))
        geared = tuple(wiring.geared_inputs)
        m.submodules.inputs = inputs = InputPins(len(geared))
        for gearboxes in (outputs, inputs):
            m.d.comb += [
                gearboxes.edge.eq(tree.edge),
                gearboxes.reset.eq(tree.gearbox_reset),
            ]
        m.d.comb += outputs.capture.eq(tree.capture)
        m.d.comb += outputs.fine_delay.eq(station.fine_delay)
        m.d.comb += inputs.capture.eq(outputs.capture_onward)
        words = {f"line_{i}": station.lines[i] for i in range(len(wiring.lines))}
        words["start_out"] = station.start_out
        words["probe"] = Cat(bit.replicate(2) for bit in station.probe)
        for number, use in enumerate(wiring.outputs):
            m.submodules[f"{use}_buffer"] = buffer = io.Buffer("o", platform.request(use, dir="-"))
            m.d.comb += outputs.words[number].eq(words[use])
            m.d.comb += buffer.o.eq(outputs.pads[number])
        received = {}
        pads = {}
        for use in wiring.inputs:
            m.submodules[f"{use}_buffer"] = buffer = io.Buffer("i", platform.request(use, dir="-"))
            pads[use] = buffer.i
        for number, use in enumerate(geared):
            m.d.comb += inputs.pads[number].eq(pads[use])
            received[use] = inputs.words[number]
        if wiring.chains:
            m.submodules.chains = chains = ChainDetectors(wiring.chains)
            connect(m, station.tdc, chains.station)
            m.d.comb += chains.capture.eq(inputs.capture)
        for detector in range(len(wiring.detectors)):
            use = f"detector_{detector}"
            if detector in wiring.chains:
                m.d.comb += chains.pads[detector].eq(pads[use])
                m.d.comb += station.hits[detector].eq(chains.hits[detector])
                continue
            m.submodules[f"edge_to_click_{detector}"] = edge_to_click = EdgeToClick()
            m.d.comb += edge_to_click.samples.eq(received[use])
            m.d.comb += edge_to_click.invert.eq(station.hits_inverted[detector])
            hits = edge_to_click.hits
            if wiring.chains:
                m.submodules[f"hit_delay_{detector}"] = hit_delay = HitDelay()
                m.d.comb += hit_delay.hits.eq(hits)
                hits = hit_delay.delayed
            m.d.comb += station.hits[detector].eq(hits)
        if wiring.start_in is not None:
            m.d.comb += station.start_bins.eq(received["start_in"])
