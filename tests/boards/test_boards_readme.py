"""The README of the boards: its tables are current, its example of an own board is complete and builds."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in import StandIn

from qrelay.protocol import PROTOCOL_HASH
from qrelay_boards import boards
from qrelay_boards.build import build
from qrelay_boards.document import main, record, tables, timing_table, wiring_table, with_tables
from qrelay_boards.pins import PinError

FOLDER = Path(__file__).parents[2] / "boards"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
BUILDS = json.loads((FOLDER / "timing.json").read_text(encoding="utf-8"))


def test_tables_are_current():
    assert with_tables(README, tables(BUILDS)) == README, "run python -m qrelay_boards.document"


def test_boards_with_the_same_wiring_share_a_column():
    board = boards()["ulx3s-85f"]
    head, _, first, *_ = wiring_table([board, replace(board, name="other"), boards()["ecpix5-85f"]]).splitlines()
    assert head == "| use | `ulx3s-85f`, `other` | `ecpix5-85f` |"
    assert first == "| line 0 | **14+** U18 | **pmod0.1** T25 |"


def test_boards_share_a_column_whatever_their_link_is():
    plain, usb = boards()["ecpix5-85f"], boards()["ecpix5-85f-usb"]
    crossed = replace(plain, name="crossed", wiring=replace(plain.wiring, uart_rx="R24", uart_tx="R26"))
    rows = wiring_table([plain, usb, crossed]).splitlines()
    assert rows[0] == "| use | `ecpix5-85f`, `ecpix5-85f-usb` | `crossed` |"
    assert "| uart rx | R26 | R24 |" in rows
    assert "| ulpi clk | H24 |  |" in rows


def test_marks_must_be_there():
    with pytest.raises(ValueError, match=r"no lines '<!-- timing table -->' and '<!-- end of timing table -->'"):
        with_tables("<!-- timing table -->", {"timing": ""})


def manifest(board, external=True, seeds=((100.0, 160.0), (95.0, 170.0)), passed=True):
    timing = {
        str(seed): {
            "clocks": {
                "word_clock": {"achieved_mhz": word, "constraint_mhz": 76.13, "margin": word / 76.13},
                "gear_clock": {"achieved_mhz": gear, "constraint_mhz": 152.26, "margin": gear / 152.26},
            },
            "crossings_ns": {},
        }
        for seed, (word, gear) in enumerate(seeds, 1)
    }
    return {
        "passed": passed,
        "broken_rules": [] if passed else ["seed 1: too slow"],
        "board": board,
        "gateware_version": "0.1.0",
        "protocol_hash": f"{PROTOCOL_HASH:#018x}",
        "clock_plan": {"external": external},
        "bitstream": "x.bit",
        "tools": {},
        "seeds": list(range(1, len(seeds) + 1)),
        "cpu_seconds": {"synthesis": 80.4, "place_and_route": {"1": 200.0, "2": 301.2}},
        "resources": {
            "TRELLIS_COMB": {"used": 8364, "available": 83640},
            "TRELLIS_FF": {"used": 836, "available": 83640},
            "DP16KD": {"used": 104, "available": 208},
        },
        "timing": timing,
    }


def test_timing_table():
    values = "2 | 95.0 MHz, 1.25x | 160.0 MHz, 1.05x | 8364 (10 %) | 836 (1 %) | 104 (50 %) | 80 | 301 |"
    rows = timing_table([manifest("a"), manifest("b", external=False)]).splitlines()[2:]
    assert rows == [f"| `a` | {values}", f"| `b` free-running | {values}"]
    earlier = manifest("a") | {"protocol_hash": "0x0123456789abcdef"}
    assert timing_table([earlier]).splitlines()[2] == f"| `a` (earlier) | {values}"


def test_record_replaces_the_earlier_build():
    builds = record(record([], manifest("b")), manifest("a"))
    builds = record(builds, manifest("b", external=False))
    assert [(b["board"], b["clock_plan"]["external"]) for b in builds] == [("a", True), ("b", True), ("b", False)]
    again = record(builds, manifest("b", seeds=((90.0, 160.0),)))
    assert [len(b["seeds"]) for b in again] == [2, 1, 2]
    assert "bitstream" not in again[1]
    with pytest.raises(ValueError, match=r"^the build of c broke rules: seed 1: too slow$"):
        record(builds, manifest("c", passed=False))


def test_command_records_and_writes(tmp_path):
    (tmp_path / "timing.json").write_text(json.dumps(BUILDS))
    (tmp_path / "README.md").write_text(README)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest("lab-carrier")))
    main([], tmp_path)
    assert (tmp_path / "README.md").read_text() == README
    main([str(tmp_path / "manifest.json")], tmp_path)
    assert "| `lab-carrier` | 2 | 95.0 MHz, 1.25x |" in (tmp_path / "README.md").read_text()
    assert len(json.loads((tmp_path / "timing.json").read_text())) == len(BUILDS) + 1


@pytest.fixture(scope="module")
def carrier():
    """The example of the document, executed as it stands there."""
    example = re.search(r"<!-- carrier example -->\n```python\n(.*?)```", README, re.DOTALL)
    names = {"__name__": "lab_carrier"}
    exec(compile(example[1], "lab_carrier.py", "exec"), names)
    return names["LAB_CARRIER"]


@pytest.mark.slow
def test_example_of_an_own_carrier_builds(carrier, tmp_path):
    result = build(carrier, out_dir=tmp_path, station=StandIn, minimum_blocks=())
    assert result.bitstream.name == "qrelay-lab-carrier.bit"
    assert (result.cells["ODDRX2F"], result.cells["IDDRX2F"]) == (5, 3)


def test_example_identity(carrier):
    carrier.wiring.check()
    identity = carrier.facts(carrier.clock_plan()).identity
    assert (identity.board, identity.lines, identity.detectors) == ("lab-carrier", 4, 2)


def test_example_of_an_error_is_what_is_said():
    wiring = boards()["ulx3s-85f"].wiring
    with pytest.raises(PinError) as error:
        replace(wiring, lines=(*wiring.lines[:3], "0+", *wiring.lines[4:])).check()
    assert str(error.value) in README.replace("\n", " ")
