"""The link with the register bank behind it."""

import pytest
from bench_link import IDENTITY

from benches import run_bench
from qrelay_gateware.link import LinkedBank


@pytest.mark.cocotb
@pytest.mark.slow
def test_link_bench(tmp_path):
    run_bench(LinkedBank(IDENTITY), "bench_link", tmp_path)
