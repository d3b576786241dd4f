"""The design around a station on the ULX3S: clocks, pins, link and lamps."""

from amaranth.build import Attrs, Clock, Pins, Resource
from amaranth.hdl import Cat, ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import connect
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from qrelay.protocol.registers import DETECTORS, LINES
from qrelay_gateware.edge_to_click import EdgeToClick
from qrelay_gateware.uart import Uart

from .clock_plan import ClockPlan
from .ecp5_clocks import ClockPll, EdgeClockTree
from .ecp5_supervisor import LatchedEvent, ReferenceMonitor, Supervisor
from .ecp5_x2 import InputPins, OutputPins
from .pins import PinMap
from .ulx3s import BAUD, HEADER, INPUTS, OSCILLATOR_HZ, OUTPUTS, REFERENCE_PIN

__all__ = ["Ulx3sTop", "header_map"]


def header_map() -> PinMap:
    """Capabilities of the header pins."""
    return PinMap("LFE5U-85F", "CABGA381", dict(ULX3S_85F_Platform.connectors[0].mapping))


def _resources() -> list[Resource]:
    level = {"IO_TYPE": "LVCMOS33"}
    pins = [
        Resource(use, 0, Pins(HEADER[use], dir="o", conn=("gpio", 0)), Attrs(**level, DRIVE="8", SLEWRATE="FAST"))
        for use in OUTPUTS
    ]
    pins += [
        Resource(use, 0, Pins(HEADER[use], dir="i", conn=("gpio", 0)), Attrs(**level, PULLMODE="DOWN"))
        for use in INPUTS
    ]
    return pins


class Ulx3sTop(Elaboratable):
    """Clocks, pins, link and lamps around a station.

    Lamps: 0 clocks and pins locked, 1 running, 2 armed, 3 reference good, 4 PLL locked, 7 blinks with the oscillator.
    """

    def __init__(self, plan: ClockPlan, station):
        self._plan = plan
        self._station = station

    def elaborate(self, platform):
        pins = header_map()
        pins.check_gearing(HEADER, "right")
        pins.check_clock_input("reference", REFERENCE_PIN)
        platform.add_resources(_resources())

        m = Module()
        m.submodules.station = station = self._station
        self._clocks(m, platform)
        self._pins(m, platform)

        m.submodules.uart = uart = Uart(self._plan.word_clock_hz, BAUD)
        serial = platform.request("uart", dir={"rx": "-", "tx": "-", "rts": "-", "dtr": "-"})
        m.submodules.uart_rx = rx = io.Buffer("i", serial.rx)
        m.submodules.uart_tx = tx = io.Buffer("o", serial.tx)
        m.d.comb += uart.rx.eq(rx.i)
        m.d.comb += tx.o.eq(uart.tx)
        connect(m, uart.received, station.rx)
        connect(m, station.tx, uart.to_send)
        return m

    def _clocks(self, m, platform):
        plan = self._plan
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

        m.submodules.osc_buffer = osc_buffer = io.Buffer("i", platform.request("clk25", dir="-"))
        m.submodules.supervisor = supervisor = Supervisor(plan.external)
        m.submodules.pll = pll = ClockPll(plan)
        m.submodules.tree = self._tree = tree = EdgeClockTree()
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
            frequency = Clock(float(plan.reference_hz))
            platform.add_resources(
                [
                    Resource(
                        "reference",
                        0,
                        Pins(REFERENCE_PIN, dir="i", conn=("gpio", 0)),
                        frequency,
                        Attrs(IO_TYPE="LVCMOS33", PULLMODE="DOWN"),
                    )
                ]
            )
            reference_clock = Signal()
            port = platform.request("reference", dir="-")
            m.submodules.reference_buffer = reference_buffer = io.Buffer("i", port)
            m.domains.reference = ClockDomain(reset_less=True)
            m.submodules.monitor = monitor = ReferenceMonitor(plan.reference_hz, OSCILLATOR_HZ)
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
        blink = Signal(24)
        m.d.osc += blink.eq(blink + 1)
        lamps = {
            0: tree.locked,
            1: station.running,
            2: station.armed,
            3: supervisor.reference_good,
            4: supervisor.pll_good,
            7: blink[-1],
        }
        for number, lamp in lamps.items():
            m.submodules[f"lamp_{number}"] = buffer = io.Buffer("o", platform.request("led", number, dir="-"))
            m.d.comb += buffer.o.eq(lamp)

    def _pins(self, m, platform):
        station = self._station
        tree = self._tree
        m.submodules.outputs = outputs = OutputPins(len(OUTPUTS))
        m.submodules.inputs = inputs = InputPins(len(INPUTS))
        for gearboxes in (outputs, inputs):
            m.d.comb += [
                gearboxes.edge.eq(tree.edge),
                gearboxes.reset.eq(tree.gearbox_reset),
            ]
        m.d.comb += outputs.capture.eq(tree.capture)
        m.d.comb += inputs.capture.eq(outputs.capture_onward)
        words = {f"line_{i}": station.lines[i] for i in range(LINES)}
        words["start_out"] = station.start_out
        words["probe"] = Cat(bit.replicate(2) for bit in station.probe)
        for number, use in enumerate(OUTPUTS):
            m.submodules[f"{use}_buffer"] = buffer = io.Buffer("o", platform.request(use, dir="-"))
            m.d.comb += outputs.words[number].eq(words[use])
            m.d.comb += buffer.o.eq(outputs.pads[number])
        for number, use in enumerate(INPUTS):
            m.submodules[f"{use}_buffer"] = buffer = io.Buffer("i", platform.request(use, dir="-"))
            m.d.comb += inputs.pads[number].eq(buffer.i)
        for detector in range(DETECTORS):
            m.submodules[f"edge_to_click_{detector}"] = edge_to_click = EdgeToClick()
            m.d.comb += edge_to_click.samples.eq(inputs.words[detector])
            m.d.comb += edge_to_click.invert.eq(station.hits_inverted[detector])
            m.d.comb += station.hits[detector].eq(edge_to_click.hits)
        m.d.comb += station.start_bins.eq(inputs.words[INPUTS.index("start_in")])
