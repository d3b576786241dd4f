"""Records to packets."""

import pytest

from benches import run_bench
from qrelay_gateware.events import Events


@pytest.mark.cocotb
@pytest.mark.slow
def test_events_bench(tmp_path):
    run_bench(Events(), "bench_events", tmp_path)
