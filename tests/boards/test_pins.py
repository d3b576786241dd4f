"""What header pins can do, and the errors for those that cannot."""

import pytest

from qrelay_boards.pins import PinError
from qrelay_boards.ulx3s import HEADER, REFERENCE_PIN
from qrelay_boards.ulx3s_top import header_map

PINS = header_map()


def test_gearing_pairs_of_the_header():
    """The 28 of 56 header pins that the place-and-route tool accepts for gearboxes: pairs 8-13 left, 14-21 right."""
    edges = {edge: {int(n[:-1]) for n, s in PINS.sites.items() if s.edge == edge} for edge in ("left", "right")}
    assert edges == {"left": set(range(8, 14)), "right": set(range(14, 22))}
    assert sum(site.gearing for site in PINS.sites.values()) == 28


def test_the_boards_own_pins():
    PINS.check_gearing(HEADER, "right")
    PINS.check_clock_input("reference", REFERENCE_PIN)
    assert len(HEADER) == 15
    assert PINS.site(REFERENCE_PIN).function == "URC_GPLL0T_IN"
    assert REFERENCE_PIN not in HEADER.values()


def test_pin_without_gearbox():
    with pytest.raises(PinError) as error:
        PINS.check_gearing(HEADER | {"line_3": "0+"}, "right")
    assert str(error.value) == (
        "line_3 on header pin 0+ (LFE5U-85F pin B11): this pin is on the top edge, and only the left and right edges "
        "have x2 gearboxes. Pins that can and are free: 15-, 21+"
    )


def test_pin_on_the_other_edge():
    with pytest.raises(PinError, match=r"serves the right edge, this pin is on the left edge. .*free: 18\+, 21\+"):
        PINS.check_gearing(HEADER | {"detector_0": "8+"}, "right")


def test_pin_used_twice():
    with pytest.raises(PinError, match=r"header pin 14\+ \(U18\) is used for line_0 and probe"):
        PINS.check_gearing(HEADER | {"probe": "14+"}, "right")


def test_pin_that_is_not_there():
    with pytest.raises(PinError, match=r"header pin '28\+' does not exist; there are: 0\+, 0-"):
        PINS.check_gearing({"probe": "28+"}, "right")


def test_reference_on_a_plain_pin():
    with pytest.raises(
        PinError, match=r"reference on header pin 14\+ .* Pins that have: .*21\+ \(C18, URC_GPLL0T_IN\)"
    ):
        PINS.check_clock_input("reference", "14+")
