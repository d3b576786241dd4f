"""A whole station on exported Verilog, driven through its ports only."""

import pytest
from station_bench import FACTS

from benches import run_bench
from qrelay_gateware.station import Station


@pytest.mark.cocotb
@pytest.mark.slow
def test_station_bench(tmp_path):
    run_bench(Station(FACTS), "bench_station,bench_station_entropy,bench_station_tdc", tmp_path)
