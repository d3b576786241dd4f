"""`qrelay bench` against a simulated station: the link carries what packets and one byte per word allow."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

QRELAY = Path(sysconfig.get_path("scripts")) / "qrelay"


def test_twin_link_is_full():
    done = subprocess.run(
        [QRELAY, "bench", "--twin", "--seconds", "1", "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(done.stdout)["measured"]
    assert measured["baud"] == 0
    # Answers to the host and what is under way at the ends take or give a few packets of thousands.
    assert measured["share_of_computed"] == pytest.approx(1, abs=0.05)
    assert (measured["lost"], measured["damaged_frames"]) == (0, 0)
    assert measured["dropped"] > measured["records"]
