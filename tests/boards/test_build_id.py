"""The build id: the same for the same build, another one for anything that changes the bitstream."""

import dataclasses

import pytest
from amaranth.hdl import Module
from stand_in import StandIn

from qrelay.bitstream_file import BUILD_ID_COMMENT
from qrelay.protocol.identity import Identity
from qrelay_boards import boards, build
from qrelay_boards.build_id import build_id, mark_config, stable_names
from qrelay_boards.ecp5_variants import with_rings

BOARD = boards()["ulx3s-85f"]
TOOLS = {"yosys": "package 1", "nextpnr-ecp5": "package 2"}


class Other(StandIn):
    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.tx.valid.eq(self.clock_locked)
        return m


def elaborated(folder, board=BOARD, station=StandIn, seeds=1, tools=TOOLS, free_running=False):
    plan = board.clock_plan(free_running)
    return build._elaborate(board, plan, station, seeds, tools, folder, lambda message: None)[0]


def test_everything_that_decides_the_bitstream_decides_the_id(tmp_path):
    stations = []

    def station(facts):
        stations.append(StandIn(facts))
        return stations[-1]

    first = elaborated(tmp_path, station=station)
    assert elaborated(tmp_path) == first
    identity = Identity.from_words(stations[-1].facts.identity.to_words())
    assert [stations[0].facts.identity.build_id, identity.build_id] == [0, first]
    others = [
        elaborated(tmp_path, station=Other),
        elaborated(tmp_path, seeds=2),
        elaborated(tmp_path, tools=TOOLS | {"yosys": "package 2"}),
        elaborated(tmp_path, board=boards()["ecpix5-85f"]),
        elaborated(tmp_path, board=with_rings(BOARD)),
        elaborated(tmp_path, free_running=True),
        elaborated(tmp_path, board=dataclasses.replace(BOARD, device_options=(*BOARD.device_options, "--speed", "7"))),
    ]
    assert len({first, *others}) == 1 + len(others)
    assert 0 not in others


def test_places_in_the_source_do_not_count():
    text = 'attribute \\src "/somewhere/station.py:12"\nmodule \\top\nend\n'
    moved = text.replace("somewhere", "elsewhere")
    assert build_id({"il": text}, [], TOOLS) == build_id({"il": moved}, [], TOOLS)
    assert build_id({"il": text}, [], TOOLS) != build_id({"il": text.replace("top", "tip")}, [], TOOLS)


def test_tools_of_unknown_version_make_each_build_its_own():
    tools = TOOLS | {"nextpnr-ecp5": "from NEXTPNR_ECP5"}
    assert build_id({}, [], tools) != build_id({}, [], tools)


def test_config_without_a_device_is_refused(tmp_path):
    config = tmp_path / "seed1.config"
    config.write_text(".device LFE5U-85F\n\n.tile\n")
    mark_config(config, 0xAB)
    assert config.read_text() == f".device LFE5U-85F\n.comment {BUILD_ID_COMMENT}00000000000000ab\n\n.tile\n"
    config.write_text("\n.tile\n")
    with pytest.raises(ValueError, match="it should name the device"):
        mark_config(config, 0xAB)


def test_names_do_not_hold_where_objects_are():
    """Twice the same design with a USB device, whose library puts addresses into names."""
    board = boards()["ecpix5-85f-usb"]
    texts = []
    for _ in range(2):
        plan = board.clock_plan()
        files = board.platform().prepare(board.top(plan, StandIn(board.facts(plan))), "top", debug_verilog=False).files
        text = files["top.il"]
        texts.append(text if isinstance(text, str) else text.decode())
    assert texts[0] != texts[1]
    first, second = map(stable_names, texts)
    assert first == second
    assert stable_names("a_139982612818320 b_139982612818321 c_139982612818320.x") == "a_0 b_1 c_0.x"
