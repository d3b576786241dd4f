"""What header pins can do, the errors for those that cannot, and the pins of each board against other descriptions."""

import dataclasses
from collections import defaultdict
from importlib import import_module

import pytest
from amaranth.build import Subsignal

from qrelay_boards import boards
from qrelay_boards.ecp5_board import Ecp5Wiring
from qrelay_boards.pins import PinError

ULX3S = boards()["ulx3s-85f"].wiring
PINS = ULX3S.pins

PLATFORMS = {
    "ulx3s-85f": ("ulx3s", "ULX3S_85F_Platform"),
    "ecpix5-85f": ("ecpix5", "ECPIX585Platform"),
    "butterstick-85f": ("butterstick", "ButterStickPlatform"),
    "orangecrab-85f": ("orangecrab_r0_2", "OrangeCrabR0_2_85FPlatform"),
    "ecpix5-85f-usb": ("ecpix5", "ECPIX585Platform"),
    "butterstick-85f-usb": ("butterstick", "ButterStickPlatform"),
}
GEARING_PINS = {"ulx3s-85f": (28, 56), "ecpix5-85f": (33, 64), "orangecrab-85f": (7, 19)}
"""Capable header pins and all, as place and route accepts them (ECP5 notes of the project's design)."""


def pins_of_bus(platform):
    """Pins of the ULPI bus of a board in `amaranth_boards`, by signal."""
    (resource,) = (r for r in platform.resources if any(getattr(io, "name", "") == "nxt" for io in r.ios))
    return {signal.name: signal.ios[0] for signal in resource.ios if isinstance(signal, Subsignal)}


def changed(wiring: Ecp5Wiring, **changes) -> Ecp5Wiring:
    return dataclasses.replace(wiring, **changes)


def test_gearing_pairs_of_the_ulx3s_header():
    """The pins that the place-and-route tool accepts for gearboxes: pairs 8-13 left, 14-21 right."""
    edges = {edge: {int(n[:-1]) for n, s in PINS.sites.items() if s.edge == edge} for edge in ("left", "right")}
    assert edges == {"left": set(range(8, 14)), "right": set(range(14, 22))}


@pytest.mark.parametrize("name", GEARING_PINS)
def test_gearing_pins(name):
    sites = boards()[name].wiring.pins.sites
    assert (sum(site.gearing for site in sites.values()), len(sites)) == GEARING_PINS[name]


@pytest.mark.parametrize("name", boards())
def test_pins_of_each_board(name):
    wiring = boards()[name].wiring
    wiring.check()
    assert "GPLL" in wiring.pins.site(wiring.reference).function
    assert set(wiring.lamps) >= {"locked", "blink"}


@pytest.mark.parametrize("name", PLATFORMS)
def test_oscillator_port_and_lamps_are_those_of_amaranth_boards(name):
    """Another description of the same boards: no pin has a second use there, but for those that are meant."""
    wiring = boards()[name].wiring
    module, platform = PLATFORMS[name]
    other = getattr(import_module(f"amaranth_boards.{module}"), platform)
    assert (other.device, int(other.speed)) == (wiring.device, wiring.speed_grade)
    uses = defaultdict(set)
    clocks = {}

    def walk(resource, path):
        for io in resource.ios:
            if isinstance(io, Subsignal):
                walk(io, f"{path}.{io.name}")
                continue
            names = getattr(io, "names", None) or [*io.p.names, *io.n.names]
            for pin in names:
                uses[pin].add(path)
            if getattr(resource, "clock", None) is not None:
                clocks[names[0]] = resource.clock.frequency

    for resource in other.resources:
        walk(resource, resource.name)
    assert clocks[wiring.oscillator] == wiring.oscillator_hz
    fast = [wiring.place(pin) for pin in (wiring.reference, *wiring.outputs.values(), *wiring.inputs.values())]
    # That description of the OrangeCrab has bank addresses of its memory on pins that it also gives to the header (N3)
    # and to a lamp (M3); no memory can be there.
    assert [uses[pin] for pin in fast if pin in uses] == ([{"ddr3.ba"}] if name == "orangecrab-85f" else [])
    if wiring.ulpi is not None:
        bus = pins_of_bus(other)
        ulpi = wiring.ulpi
        assert tuple(bus.pop("data").names) == ulpi.data
        assert {signal: pins.names for signal, pins in bus.items()} == {
            signal: [getattr(ulpi, signal)] for signal in ("clk", "dir", "nxt", "stp", "rst")
        }
        assert (bus["clk"].dir == "o", bus["rst"].invert) == (ulpi.clk_out, ulpi.rst_low)
    elif any("uart.rx" in paths for paths in uses.values()):
        assert (uses[wiring.uart_rx], uses[wiring.uart_tx]) == ({"uart.rx"}, {"uart.tx"})
    else:
        assert {wiring.uart_rx, wiring.uart_tx} <= set(wiring.pins.sites)
    assert all("led" in str(uses[pin]) for pin in (*wiring.lamps.values(), *wiring.high))


def test_pin_without_gearbox():
    lines = (*ULX3S.lines[:3], "0+", *ULX3S.lines[4:])
    with pytest.raises(PinError) as error:
        changed(ULX3S, lines=lines).check()
    assert str(error.value) == (
        "line_3 on header pin 0+ (LFE5U-85F pin B11): this pin is on the top edge, and only the left and right edges "
        "have x2 gearboxes. Pins that can and are free: 15-"
    )


def test_pin_on_the_other_edge():
    with pytest.raises(PinError, match=r"serves the right edge, this pin is on the left edge. .*free: 18\+$"):
        changed(ULX3S, detectors=("8+", *ULX3S.detectors[1:])).check()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probe": "14+"}, r"pin 14\+ \(U18\) is used for line_0 and probe; give one another pin"),
        ({"probe": "21+"}, r"pin 21\+ \(C18\) is used for reference and probe"),
        ({"oscillator": "U18"}, r"pin 14\+ \(U18\) is used for oscillator and line_0"),
        ({"uart_tx": "G2"}, r"pin G2 \(G2\) is used for oscillator and uart_tx"),
        ({"probe": "28+"}, r"header pin '28\+' does not exist; there are: 0\+, 0-"),
        ({"probe": "R16"}, r"header pin 'R16' does not exist"),
        ({"uart_rx": "A1"}, r"pin 'A1' is no input or output of the LFE5U-85F in this package"),
        ({"uart_rx": None}, "^a board needs one link: uart_rx and uart_tx, or ulpi$"),
        ({"uart_rx": None, "uart_tx": None}, "^a board needs one link"),
        ({"ulpi": boards()["ecpix5-85f-usb"].wiring.ulpi}, "^a board needs one link"),
        ({"probe": None, "start_out": None, "lines": ()}, "^a board needs at least one output"),
        ({"start_in": None, "detectors": ()}, "^a board needs at least one output .* and one input"),
        (
            {"reference": "14-"},
            r"pin 14- \(U17\) is used for reference and line_1",
        ),
        (
            {"reference": "15-", "lines": ULX3S.lines[:3]},
            r"reference on header pin 15- .* Pins that lead to one: .*21\+ \(C18, URC_GPLL0T_IN\)",
        ),
        ({"lines": tuple("abcdefghi")}, r"9 lines: a station has 8; leave out the last 1"),
        ({"key_bits": ()}, r"^0 key_bits and key_bits_valid '3\+': give 4 pins and that of their valid line, or none$"),
        ({"key_bits_valid": None}, r"^4 key_bits and key_bits_valid None: give 4 pins"),
        ({"key_bits_valid": "18+"}, r"pin 18\+ \(H18\) is used for key_valid and detector_0; give one another pin"),
        ({"device": "LFE5U-12F"}, r"device 'LFE5U-12F' is not known; there are: LFE5U-25F, "),
        ({"package": "BG381"}, r"package 'BG381' is not known; there are: CABGA256, "),
        ({"edge": "top"}, r"edge 'top' is not known; there are: left, right"),
        ({"lamps": {"power": "B2"}}, r"lamp 'power' is not known; there are: locked, running"),
    ],
)
def test_wrong_wiring(change, message):
    with pytest.raises(ValueError, match=message):
        changed(ULX3S, **change).check()


def test_pins_by_their_package_names():
    """Without a header pins are named as on the package."""
    wiring = changed(boards()["orangecrab-85f"].wiring, header=None, reference="B8", start_in="H4", start_out="G4")
    wiring = changed(wiring, uart_rx="N17", uart_tx="M18", lines=("H2", "J2", "L4", "N3"), detectors=("N4",))
    wiring.check()
    with pytest.raises(PinError, match=r"^line_0 on package pin B10 .* free: A2, .*, N3$"):
        changed(wiring, lines=("B10",)).check()


def test_transceiver_pins_of_a_header_cannot_be_used():
    wiring = boards()["butterstick-85f"].wiring
    with pytest.raises(PinError, match="pin 'Y5' is no input or output of the LFE5UM5G-85F"):
        changed(wiring, probe="syzygy-txr.RX0P").check()
