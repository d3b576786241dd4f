"""Serial port."""

from fractions import Fraction

import pytest

from benches import run_bench
from qrelay_gateware.uart import Uart

CLOCK_HZ = Fraction(76_130_000)


@pytest.mark.cocotb
@pytest.mark.slow
def test_uart_bench(tmp_path):
    run_bench(Uart(CLOCK_HZ, 3_000_000, depth=16), "bench_uart", tmp_path)


def test_too_fast():
    with pytest.raises(ValueError, match="baud 20000000 is more than a quarter of the clock"):
        Uart(CLOCK_HZ, 20_000_000)
