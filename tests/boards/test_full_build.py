"""Place and route of the full station: what a person with the board gets, from the command that they type."""

import hashlib
import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from qrelay_boards import boards

BOARD = boards()["ulx3s-85f"]
QRELAY = Path(sysconfig.get_path("scripts")) / "qrelay"


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_full_station_keeps_its_constraints(tmp_path):
    """The build ends with 1 if a clock misses its constraint, a crossing its limit, or a part is gone."""
    done = subprocess.run(
        [QRELAY, "build", BOARD.name, "--out", tmp_path, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert json.loads(done.stdout) == manifest | {"folder": str(tmp_path)}
    assert manifest["passed"]
    assert manifest["broken_rules"] == []
    bitstream = tmp_path / manifest["bitstream"]
    assert manifest["bitstream_sha256"] == hashlib.sha256(bitstream.read_bytes()).hexdigest()
    # The whole station, not what synthesis left of it.
    used = {kind: counts["used"] for kind, counts in manifest["resources"].items()}
    assert used["DP16KD"] > 60
    assert used["TRELLIS_FF"] > 10_000
    wanted_mhz = constraints_mhz()
    clocks = manifest["timing"]["1"]["clocks"]
    assert set(clocks) == set(wanted_mhz)
    for name, clock in clocks.items():
        assert clock["achieved_mhz"] >= clock["constraint_mhz"] >= 0.999 * wanted_mhz[name]


def constraints_mhz():
    plan = BOARD.clock_plan()
    hertz = {
        "word_clock": plan.word_clock_hz,
        "gear_clock": plan.gear_clock_hz,
        "osc_clock": BOARD.oscillator_hz,
        "reference_clock": plan.reference_hz,
    }
    return {name: float(value) / 1e6 for name, value in hertz.items()}
