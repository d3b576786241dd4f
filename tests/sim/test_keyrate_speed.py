"""How long a sweep over all protocols takes; run with --benchmark-enable."""

from qrelay_sim.keyrate import parse_distances, sweep
from qrelay_sim.parameters import preset
from qrelay_sim.protocols import CURVES


def test_sweep_of_all_protocols(benchmark):
    """41 distances; a single one while benchmarks are off."""
    distances = parse_distances("0:400:10" if benchmark.enabled else "100")
    points = benchmark.pedantic(sweep, (list(CURVES), preset("A"), distances), rounds=1)
    assert len(points) == len(distances) * len(CURVES)
