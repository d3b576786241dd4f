"""The USB link: crossing of the clocks, and the whole device against a model of transceiver and host."""

import random

import pytest
from amaranth.hdl import ClockDomain, Fragment
from amaranth.sim import Simulator
from benches import run_bench

from qrelay_boards.ecp5_usb import UsbCrossing, UsbLink, UsbPll, UsbStart
from qrelay_boards.ulpi_pins import UlpiPins
from qrelay_boards.usb_serial import UsbSerial

PINS = UlpiPins(data=tuple("abcdefgh"), clk="i", dir="j", nxt="k", stp="l", rst="m", serial_number="1234")
FLUSH_CLOCKS = 64


@pytest.mark.cocotb
@pytest.mark.slow
def test_link_with_host(tmp_path):
    run_bench(UsbLink(UsbSerial("bench-usb", PINS), FLUSH_CLOCKS), "bench_usb_link", tmp_path)
