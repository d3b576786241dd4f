"""A whole station on exported Verilog, driven through its ports only."""

import pytest

from benches import run_bench
from qrelay_gateware.station import Station
from qrelay_sim.twin.identity import TWIN_FACTS


@pytest.mark.cocotb
@pytest.mark.slow
def test_station_bench(tmp_path):
    run_bench(Station(TWIN_FACTS), "bench_station,bench_station_entropy", tmp_path)
