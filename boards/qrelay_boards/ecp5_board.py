"""A board with an ECP5 from one page of facts: which pin does what, which clocks there are, how it is loaded.

Everything else follows: the design's top, the checks of its pins, the rules of its build. The page names pins as they
are printed on the board's headers, the oscillator's, serial port's and lamps' pins as on the FPGA's package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from importlib import import_module
from typing import Any

from qrelay.protocol.identity import Capability, Entropy, Phy
from qrelay.protocol.registers import DETECTORS, LINES
from qrelay.protocol.tdc import TAPS
from qrelay.protocol.units import SLOTS_PER_WORD
from qrelay.protocol.usb import HIGH_SPEED_BPS

from .block_check import blocks_of
from .board import Board, Crossing
from .clock_plan import ClockPlan
from .pins import PinError, PinMap
from .sdram_wiring import SdramWiring
from .ulpi_pins import USB_CELLS, UlpiPins

__all__ = [
    "CROSSINGS",
    "LAMPS",
    "Ecp5Wiring",
    "ecp5_board",
    "header_of",
]

REFERENCE_HZ = Fraction(76_130_000)
LAMPS = ("locked", "running", "armed", "reference", "pll", "blink")
"""What a lamp can show: clocks and pins locked, running, armed, reference good, PLL locked, oscillator runs."""

_USB_PLAIN_READ_PORTS = 4
"""Read ports of block RAMs without an output register in the library's USB device; the station has none."""
_CHIPS = {
    "LFE5U-25F": "--25k",
    "LFE5U-45F": "--45k",
    "LFE5U-85F": "--85k",
    "LFE5UM-45F": "--um-45k",
    "LFE5UM-85F": "--um-85k",
    "LFE5UM5G-45F": "--um5g-45k",
    "LFE5UM5G-85F": "--um5g-85k",
}
"""Device -> option of the place-and-route tool."""
_PACKAGES = {
    "CABGA256": "BG256",
    "CSFBGA285": "MG285",
    "CABGA381": "BG381",
    "CABGA554": "BG554",
    "CABGA756": "BG756",
}
"""Package in the place-and-route database -> code in part numbers, which Amaranth's platform wants."""

CROSSINGS = (
    # Words are captured half a word (6.57 ns) after they change; the rest is left for unmodelled clock skew.
    Crossing("word_clock", "gear_clock", 4.9, "words and word phase to the gearboxes, captured half a word later"),
    Crossing("gear_clock", "word_clock", 4.9, "words from the gearboxes, held for a word"),
    # The source of a carry chain changes while nobody counts, and takes its time along the chain.
    Crossing("osc_clock", "gear_clock", 30.0, "reset and phase following while the clock stands or settles; sources"),
    Crossing("gear_clock", "osc_clock", 20.0, "verdicts on the phase, synchronised"),
    Crossing("osc_clock", "word_clock", 20.0, "status bits and reset, synchronised"),
    Crossing("word_clock", "osc_clock", 20.0, "acknowledgement of status bits, synchronised"),
    Crossing("reference_clock", "osc_clock", 20.0, "divided reference, synchronised"),
    Crossing("async", "osc_clock", 20.0, "lock of the PLL, synchronised"),
    Crossing("async", "word_clock", 20.0, "receive line of the UART, ring oscillators, synchronised"),
    Crossing("osc_clock", "async", 20.0, "lamps, STOP and reset of clock cells"),
    Crossing("word_clock", "async", 20.0, "lamps, transmit line of the UART, steps of delay elements"),
)

CHAIN_CROSSINGS = (
    Crossing("async", "gear_clock", 30.0, "detector edges, from the pad along the chain to its last tap"),
)
"""Beside those above, where there are carry chains."""


def header_of(module: str, platform: str) -> Callable[[], dict[str, str]]:
    """Header pins of a board in `amaranth_boards`: ``NAME`` of its only connector, or ``CONNECTOR.NAME`` of several.

    Connectors are numbered where there are several of a name, such as ``pmod0.1``. The package is imported when the
    result is called: who only flashes boards does without it.
    """

    def pins() -> dict[str, str]:
        connectors = getattr(import_module(f"amaranth_boards.{module}"), platform).connectors
        if len(connectors) == 1:
            return dict(connectors[0].mapping)
        names = [connector.name for connector in connectors]
        return {
            f"{c.name}{c.number if names.count(c.name) > 1 else ''}.{pin}": place
            for c in connectors
            for pin, place in c.mapping.items()
        }

    return pins


@dataclass(frozen=True, kw_only=True)
class Ecp5Wiring:
    """Pins and clocks of a board with an ECP5.

    Pins of lines, detectors, start, probe and reference have the names of `header`, or without a header those of the
    package. The other pins may have either. `lines` and `detectors` may be shorter than what the station has: the
    identity block tells the host how many are wired.

    Parameters
    ----------
    device, package, speed_grade
        As in the place-and-route database, such as LFE5U-85F, CABGA381, 6.
    header : mapping, or a function that gives it
        Name on the header -> package pin.
    edge : str
        Edge of the die on which lines, detectors, start and probe are: left or right. One edge clock serves one edge.
    lines, detectors : tuple of str
        Pins of the output lines and of the detectors, in order.
    chains : tuple of int
        Detectors whose edges a carry chain measures, with a resolution of a few tens of ps in the timing model, instead
        of two bins per slot. Their pins may be on any edge of the die.
    rings : tuple of odd int
        Inverters of each ring oscillator of the noise source, such as `ecp5_rings.RING_LENGTHS`; none by default.
    key_bits, key_bits_valid : tuple of str, str
        Pins of the four key bits of a word from an external source of random bits, lane 0 first, and of the line that
        tells whether there are any; none by default. They need no gearbox, so any edge of the die serves.
    start_out, start_in, probe : str
        Start output, start input, probe output; None for none.
    reference, reference_hz
        Pin of the external reference, which must reach a PLL without passing the fabric, and its frequency.
    oscillator, oscillator_hz
        Pin of the board's own oscillator, and its frequency.
    uart_rx, uart_tx, baud
        Pins of the serial port, seen from the FPGA, and its rate; no pins where there is `ulpi`.
    ulpi : UlpiPins
        Pins of a USB transceiver, for a link by USB instead.
    sdram : SdramWiring
        Pins of an SDRAM that keeps the key bits from outside; none by default: block RAMs keep few of them.
    lamps : mapping
        What to show (one of `LAMPS`) -> pin.
    lamps_low : bool
        Lamps are on at a low level.
    high : tuple of str
        Pins that are held high, such as a common anode of the lamps.
    level : str
        Type of all these pins.
    extra : callable
        ``extra(m, platform, oscillator_hz)`` adds what else the board needs, in the domain ``osc``.
    """

    device: str
    package: str
    speed_grade: int
    edge: str
    lines: tuple[str, ...]
    detectors: tuple[str, ...]
    reference: str
    oscillator: str
    oscillator_hz: int
    uart_rx: str | None = None
    uart_tx: str | None = None
    ulpi: UlpiPins | None = None
    sdram: SdramWiring | None = None
    header: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None
    start_out: str | None = None
    start_in: str | None = None
    probe: str | None = None
    key_bits: tuple[str, ...] = ()
    key_bits_valid: str | None = None
    chains: tuple[int, ...] = ()
    rings: tuple[int, ...] = ()
    baud: int = 3_000_000
    reference_hz: Fraction = REFERENCE_HZ
    lamps: Mapping[str, str] = field(default_factory=dict)
    lamps_low: bool = False
    high: tuple[str, ...] = ()
    level: str = "LVCMOS33"
    extra: Callable[[Any, Any, Fraction], None] | None = None

    def __post_init__(self) -> None:
        for what, given, limit in (("lines", self.lines, LINES), ("detectors", self.detectors, DETECTORS)):
            if len(given) > limit:
                raise ValueError(f"{len(given)} {what}: a station has {limit}; leave out the last {len(given) - limit}")
        if not self.outputs or not self.inputs:
            raise ValueError("a board needs at least one output (line, start_out or probe) and one input (detector)")
        if (self.uart_rx is None) != (self.uart_tx is None) or (self.uart_rx is None) == (self.ulpi is None):
            raise ValueError("a board needs one link: uart_rx and uart_tx, or ulpi")
        if len(self.key_bits) != (SLOTS_PER_WORD if self.key_bits_valid else 0):
            raise ValueError(
                f"{len(self.key_bits)} key_bits and key_bits_valid {self.key_bits_valid!r}: give {SLOTS_PER_WORD} pins "
                f"and that of their valid line, or none"
            )
        if self.sdram is not None and not self.key_bits:
            raise ValueError("an SDRAM keeps key bits from outside: give key_bits and key_bits_valid too, or no sdram")
        absent = [detector for detector in self.chains if not 0 <= detector < len(self.detectors)]
        if absent:
            raise ValueError(f"chain of detector {absent[0]}: the {len(self.detectors)} detectors count from 0")
        for known, given, what in (
            (_CHIPS, self.device, "device"),
            (_PACKAGES, self.package, "package"),
            (("left", "right"), self.edge, "edge"),
        ):
            if given not in known:
                raise ValueError(f"{what} {given!r} is not known; there are: {', '.join(known)}")
        unknown = [lamp for lamp in self.lamps if lamp not in LAMPS]
        if unknown:
            raise ValueError(f"lamp {unknown[0]!r} is not known; there are: {', '.join(LAMPS)}")

    @property
    def outputs(self) -> dict[str, str]:
        """Fast output pins by use."""
        fast = {f"line_{i}": pin for i, pin in enumerate(self.lines)}
        return fast | {u: p for u, p in (("start_out", self.start_out), ("probe", self.probe)) if p is not None}

    @property
    def inputs(self) -> dict[str, str]:
        """Fast input pins by use."""
        fast = {f"detector_{i}": pin for i, pin in enumerate(self.detectors)}
        return fast if self.start_in is None else fast | {"start_in": self.start_in}

    @property
    def geared_inputs(self) -> dict[str, str]:
        """Inputs with a gearbox: those without a carry chain."""
        chained = {f"detector_{d}" for d in self.chains}
        return {use: pin for use, pin in self.inputs.items() if use not in chained}

    @property
    def external(self) -> dict[str, str]:
        """Pins of the key bits from outside, by use: by lane, then the valid line."""
        if self.key_bits_valid is None:
            return {}
        return {f"key_bit_{lane}": pin for lane, pin in enumerate(self.key_bits)} | {"key_valid": self.key_bits_valid}

    @property
    def link_pins(self) -> dict[str, str]:
        """Pins of the serial port or of the USB transceiver, by use."""
        if self.ulpi is not None:
            return self.ulpi.uses
        return {use: pin for use, pin in (("uart_rx", self.uart_rx), ("uart_tx", self.uart_tx)) if pin is not None}

    @property
    def link_bps(self) -> int:
        """Bits per second on the wire of the link, as the identity block tells it."""
        return self.baud if self.ulpi is None else HIGH_SPEED_BPS

    @property
    def device_options(self) -> tuple[str, ...]:
        """Options of the place-and-route tool."""
        return (_CHIPS[self.device], "--package", self.package, "--speed", str(self.speed_grade))

    @cached_property
    def pins(self) -> PinMap:
        """Capabilities of the header pins."""
        header = self.header() if callable(self.header) else self.header
        return PinMap(self.device, self.package, header)

    def place(self, pin: str) -> str:
        """Package pin of a header name or of a package pin. Raises PinError where it is neither."""
        return self.pins.site(pin).pin if pin in self.pins.sites else self.pins.package_site(pin).pin

    def slow(self) -> dict[str, str]:
        """Pins of oscillator, link, external key bits and their memory, lamps and those held high, by use."""
        return {
            "oscillator": self.oscillator,
            **self.link_pins,
            **self.external,
            **(self.sdram.uses if self.sdram else {}),
            **{f"lamp_{lamp}": pin for lamp, pin in self.lamps.items()},
            **{f"high_{i}": pin for i, pin in enumerate(self.high)},
        }

    def check(self) -> None:
        """Raise PinError naming the first pin that cannot do what it is used for, and pins that can."""
        fast = {**self.outputs, **self.inputs}
        geared = {**self.outputs, **self.geared_inputs}
        uses = {use: (pin, self.place(pin)) for use, pin in self.slow().items()}
        uses |= {use: (pin, self.pins.site(pin).pin) for use, pin in {"reference": self.reference, **fast}.items()}
        taken: dict[str, str] = {}
        for use, (pin, place) in uses.items():
            if place in taken:
                raise PinError(f"pin {pin} ({place}) is used for {taken[place]} and {use}; give one another pin")
            taken[place] = use
        self.pins.check_gearing(geared, self.edge, occupied=frozenset(taken))
        self.pins.check_pll_input("reference", self.reference)

    def make_platform(self) -> Any:
        """Amaranth's platform for the device; pins are requested by the design."""
        from amaranth.vendor import LatticeECP5Platform

        facts = {
            "device": self.device,
            "package": _PACKAGES[self.package],
            "speed": str(self.speed_grade),
            # To luna: transceivers do not always tell of a supply that was there before them.
            "ignore_phy_vbus": True,
            "resources": [],
            "connectors": [],
        }
        return type("Platform", (LatticeECP5Platform,), facts)()


def ecp5_board(
    name: str,
    description: str,
    wiring: Ecp5Wiring,
    *,
    loader: tuple[str, ...],
    serial_port: str,
    loader_keeps: bool = False,
) -> Board:
    """Make a board of its wiring; the other arguments are those of `Board`. Its pins are checked by each build."""

    def top(plan: ClockPlan, station: Any) -> Any:
        from .ecp5_top import Ecp5Top

        return Ecp5Top(plan, station, wiring)

    ulpi, sdram = wiring.ulpi, wiring.sdram
    return Board(
        name=name,
        description=description,
        wiring=wiring,
        platform=wiring.make_platform,
        top=top,
        facts=lambda plan: _facts(name, wiring, plan),
        device_options=wiring.device_options,
        reference_hz=wiring.reference_hz,
        oscillator_hz=Fraction(wiring.oscillator_hz),
        loader=loader,
        loader_keeps=loader_keeps,
        serial_port=serial_port,
        pads=(
            *wiring.outputs,
            *wiring.inputs,
            *wiring.external,
            *(ulpi.pads if ulpi else ()),
            *(sdram.pads if sdram else ()),
        ),
        clock_sources={
            "word_clock": ("EHXPLLL", "CLKOS"),
            "edge_clock": ("ECLKSYNCB", "ECLKO"),
            "gear_clock": ("CLKDIVF", "CDIVX"),
            "osc_clock": ("pad", "oscillator_0__io"),
            "reference_clock": ("pad", "reference_0__io"),
            **({"usb_clock": ulpi.clock_source} if ulpi else {}),
        },
        # On the clock network the reference would leave its own way to the PLL and take one through the fabric. The
        # six flip-flops of the monitor, its only other load, do without.
        external_synthesis=(
            "select -set reference t:EHXPLLL a:qrelay_usb %d %ci1:+[CLKI] w:* %i; setattr -set noglobal 1 @reference"
        ),
        # Input 3 of the PLL's switch is its corner's pad GPLL0T_IN, input 4 the pad GPLL1T_IN.
        reference_arc=r"REFCLK[01] \w*JREFCLK[01]_[34]",
        minimum_cells={
            "ODDRX2F": len(wiring.outputs),
            "DELAYF": len(wiring.outputs),
            "IDDRX2F": len(wiring.geared_inputs),
            "EHXPLLL": 2 if ulpi and ulpi.clk_out else 1,
            "ECLKSYNCB": 1,
            "CLKDIVF": 1,
            # Buffer of the link. `blocks` tells of those of the station.
            "DP16KD": 1,
            # The other source of hits for the chains: without it they have no tables of times.
            **({"OSCG": 1} if wiring.chains else {}),
            **(USB_CELLS if ulpi else {}),
            **(sdram.cells if sdram else {}),
        },
        # The clock for a transceiver leaves by a gearbox too.
        pad_cells=len(wiring.outputs)
        + len(wiring.geared_inputs)
        + len(wiring.external)
        + (ulpi is not None and ulpi.clk_out)
        + (sdram.pad_cells if sdram else 0),
        crossings=(
            *CROSSINGS,
            *(CHAIN_CROSSINGS if wiring.chains else ()),
            *(ulpi.crossings if ulpi else ()),
        ),
        geared_outputs=tuple(wiring.outputs),
        geared_inputs=tuple(wiring.geared_inputs),
        chains={f"detector_{d}": TAPS for d in wiring.chains},
        rings=wiring.rings,
        blocks=blocks_of(
            lines=len(wiring.lines),
            geared_inputs=len(wiring.geared_inputs),
            detectors=len(wiring.detectors),
            chains=wiring.chains,
            rings=bool(wiring.rings),
            key_bits=bool(wiring.external),
            sdram=sdram is not None,
            probe=wiring.probe is not None,
        ),
        plain_read_ports=0 if wiring.ulpi is None else _USB_PLAIN_READ_PORTS,
    )


def _facts(name: str, wiring: Ecp5Wiring, plan: ClockPlan) -> Any:
    from qrelay_gateware.board_facts import BoardFacts
    from qrelay_gateware.edge_to_click import EdgeToClick
    from qrelay_gateware.external_bits import RING_WORDS
    from qrelay_gateware.sdram import SdramChip

    from .ecp5_detectors import CHAIN_PIN_LATENCY
    from .ecp5_x2 import OUTPUT_LATENCY, PIN_LATENCY

    present = {
        Capability.SENDER: bool(wiring.lines),
        Capability.FINE_DELAY: bool(wiring.lines),
        Capability.RECEIVER: bool(wiring.detectors),
        Capability.EXTERNAL_REFERENCE: plan.external,
    }
    capabilities = Capability(0)
    for capability, there in present.items():
        if there:
            capabilities |= capability
    fines: dict[str, int] = {}
    if wiring.chains:
        fines = {"fine_first": 0, "fine_step": 1, "chains": sum(1 << d for d in wiring.chains)}
    return BoardFacts(
        board=name,
        phy=Phy.TDC if wiring.chains else Phy.ECP5_X2,
        entropy=Entropy.RING_OSCILLATOR if wiring.rings else Entropy.HOST,
        capabilities=capabilities,
        pin_latency=CHAIN_PIN_LATENCY if wiring.chains else PIN_LATENCY + EdgeToClick.latency,
        output_latency=OUTPUT_LATENCY,
        link_baud=wiring.link_bps,
        slot_rate_hz=plan.slot_rate_hz,
        clock_error_ppb=plan.error_ppb,
        detectors=len(wiring.detectors),
        lines=len(wiring.lines),
        external_ring_words=RING_WORDS if wiring.external and not wiring.sdram else 0,
        external_chip=SdramChip() if wiring.sdram else None,
        **fines,
    )
