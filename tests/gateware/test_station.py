"""A whole station on exported Verilog, driven through its ports only."""

import pytest
from observed_station import ObservedStation
from station_bench import FACTS

from benches import run_bench


@pytest.mark.cocotb
@pytest.mark.slow
def test_station_bench(tmp_path):
    run_bench(
        ObservedStation(FACTS),
        "bench_station,bench_station_entropy,bench_station_external,bench_station_tdc,bench_station_fine_delay",
        tmp_path,
    )
