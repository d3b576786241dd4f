"""Minimum of flip-flops and memories by part of the station, on netlists made for the purpose."""

import json

import pytest

from qrelay_boards import boards
from qrelay_boards.block_check import missing_blocks
from qrelay_boards.board import Block
from qrelay_boards.ecp5_variants import with_rings

BLOCKS = (
    Block("station.keystream", 4, 2, 0, "choices"),
    Block("station.keystream.pipeline", 3, 2, 0, "AES"),
    Block("station.choices", 2, 0, 1, "mapping"),
)
CELLS = {
    "station.keystream.pipeline.round_0_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.keystream.pipeline.round_0_TRELLIS_FF_Q_1": "TRELLIS_FF",
    "station.keystream.pipeline.state[0].row_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.keystream.go_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.keystream.pipeline.sbox_0.0.0": "DP16KD",
    "station.keystream.pipeline.sbox_1.0.0": "DP16KD",
    "station.choices$285.map_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.choices$285.deep.map_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.choices$285.table.0.0": "TRELLIS_DPR16X4",
    # Neither of them: other blocks whose names begin alike.
    "station.keystream_pipeline.old_TRELLIS_FF_Q": "TRELLIS_FF",
    "other.station.choices.map_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.choices_TRELLIS_FF_Q": "TRELLIS_FF",
    "station.keystream.pipeline.round_0_LUT4_Z": "LUT4",
}


def netlist(tmp_path, cells):
    top = {"attributes": {"top": "1"}, "cells": {name: {"type": kind} for name, kind in cells.items()}}
    library = {"cells": {f"station.choices.a.{name}": {"type": "TRELLIS_FF"} for name in "bc"}}
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"modules": {"EHXPLLL": library, "top": top}}))
    return path


def test_a_whole_station_passes(tmp_path):
    assert missing_blocks(netlist(tmp_path, CELLS), BLOCKS) == []


@pytest.mark.parametrize(
    ("lost", "sentences"),
    [
        ("go_", ["station.keystream holds 3 flip-flops, at least 4 expected (choices)"]),
        (
            "sbox_1",
            [
                "station.keystream holds 1 block RAMs, at least 2 expected (choices)",
                "station.keystream.pipeline holds 1 block RAMs, at least 2 expected (AES)",
            ],
        ),
        ("table", ["station.choices holds 0 memories of look-up tables, at least 1 expected (mapping)"]),
        ("deep", ["station.choices holds 1 flip-flops, at least 2 expected (mapping)"]),
        (
            "$285",
            [
                "station.choices holds 0 flip-flops, at least 2 expected (mapping)",
                "station.choices holds 0 memories of look-up tables, at least 1 expected (mapping)",
            ],
        ),
    ],
)
def test_what_is_lost_is_named(tmp_path, lost, sentences):
    cells = {name: kind for name, kind in CELLS.items() if lost not in name}
    remedy = ": it was removed in part, or the gateware needs less and `block_check` must say so"
    assert missing_blocks(netlist(tmp_path, cells), BLOCKS) == [sentence + remedy for sentence in sentences]


def paths(board):
    return [block.path for block in board.blocks]


@pytest.mark.parametrize("name", boards())
def test_each_board_needs_the_blocks_that_it_has(name):
    board = boards()[name]
    wiring = board.wiring
    needed = paths(board)
    assert len(set(needed)) == len(needed)
    assert {"station.keystream.pipeline", "station.events.queue_click", "station.receiver.histograms.lag"} <= {*needed}
    for part, number in (("station.receiver.gate", len(wiring.detectors)), ("chains.channel", len(wiring.chains))):
        assert [path for path in needed if path.startswith(part)] == [f"{part}_{d}" for d in range(number)]
    assert ("station.external" in needed) is bool(wiring.key_bits)
    assert ("station.probe" in needed) is (wiring.probe is not None)
    assert ("station.tdc" in needed) is bool(wiring.chains)
    with_noise = {*paths(with_rings(board))} - {*needed}
    assert with_noise == {f"station.entropy.{part}" for part in ("sampler", "core", "keeper", "regenerator", "raw")}


@pytest.mark.parametrize(
    ("name", "least"),
    # Gears of ulx3s-85f hold 197 and 148 flip-flops, those of orangecrab-85f 97 and 62.
    [("ulx3s-85f", (152, 115)), ("orangecrab-85f", (76, 46)), ("ulx3s-85f-tdc", (152, 23))],
)
def test_gears_are_held_by_their_pins(name, least):
    needed = {block.path: block.flip_flops for block in boards()[name].blocks}
    assert (needed["outputs.gear"], needed["inputs.gear"]) == least


def test_a_chip_keeps_key_bits_in_place_of_block_rams():
    (plain,) = (block for block in boards()["ulx3s-85f"].blocks if block.path == "station.external")
    (sdram,) = (block for block in boards()["ulx3s-85f-sdram"].blocks if block.path == "station.external")
    assert (plain.block_rams, sdram.block_rams) == (9, 1)
