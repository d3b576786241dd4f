"""Hold each part of the station against what it holds when nothing of it was removed.

Synthesis removes what has no effect, and what is left keeps its timing all the better. So the synthesised netlist must
hold so many flip-flops and memories of each part: about four fifths of what the present gateware has, on the board that
has least of it, but of block RAMs all, because each holds something of its own. Who makes a part that much smaller
changes its line of the table.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from .board import Block

__all__ = ["blocks_of", "missing_blocks"]

_KINDS = {"TRELLIS_FF": "flip-flops", "DP16KD": "block RAMs", "TRELLIS_DPR16X4": "memories of look-up tables"}

_EVERY_STATION = (
    Block("station.link.bank", 2450, 5, 0, "registers and their decoder"),
    Block("station.link.link", 390, 2, 0, "frames in and out"),
    Block("station.timebase", 145, 0, 0, "slot numbers, start and end of a run"),
    Block("station.sequencer", 215, 0, 12, "segments of a frame"),
    Block("station.keystream.expansion", 240, 1, 384, "round keys"),
    Block("station.keystream.pipeline", 720, 56, 0, "rounds of AES and their tables"),
    Block("station.choices", 135, 0, 0, "choices from random bits"),
    Block("station.modulator", 325, 4, 51, "settings and phases of the lines"),
    Block("station.audit", 70, 3, 0, "choices and lines of asked slots"),
    Block("station.events.packets", 335, 0, 0, "records in packets"),
    Block("station.events.queue_gap", 135, 0, 12, "queue of gaps"),
)
# Of each line or input; lines make up for what start, probe and the way of the word phase take besides.
_LINE = Block("outputs.gear", 19, 0, 0, "bins of the outputs")
_GEARED_INPUT = Block("inputs.gear", 23, 0, 0, "bins of the inputs")
_PROBE = (Block("station.probe", 175, 0, 0, "what the probe output shows"),)
_RECEIVER = (
    Block("station.events.queue_success", 135, 3, 0, "queue of successes"),
    Block("station.events.queue_click", 130, 3, 0, "queue of clicks"),
    Block("station.events.queue_frame", 90, 2, 0, "queue of frames"),
    Block("station.events.queue_reference", 100, 2, 0, "queue of reference counts"),
    Block("station.receiver.matcher", 50, 0, 50, "success table"),
    Block("station.receiver.click_records", 495, 0, 0, "records of clicks"),
    Block("station.receiver.reference_counters", 380, 0, 25, "clicks by phase step"),
    Block("station.receiver.counters", 680, 4, 0, "counters"),
    Block("station.receiver.rate_meter", 240, 0, 0, "clicks per second"),
    Block("station.receiver.histograms.fine", 750, 6, 32, "places in the slot"),
    Block("station.receiver.histograms.lag", 540, 6, 38, "pairs of clicks"),
)
_DETECTOR = (
    Block("station.receiver.delay_{}", 168, 2, 0, "delay of a detector"),
    Block("station.receiver.dead_time_{}", 78, 0, 0, "dead time of a detector"),
    Block("station.receiver.gate_{}", 60, 0, 0, "gate of a detector"),
)
# The chain itself is walked tap by tap (`chain_check`).
_CHAIN = (Block("chains.channel_{}", 1110, 1, 0, "hits of a carry chain and their table of times"),)
_CHAINS = (Block("station.tdc", 320, 1, 0, "code density and settings of the chains"),)
_KEY_BITS = (Block("station.external", 180, 9, 12, "key bits from outside until they are read"),)
_KEY_BITS_IN_SDRAM = (Block("station.external", 420, 1, 16, "key bits from outside, in a chip"),)
_RINGS = (
    Block("station.entropy.sampler", 200, 0, 0, "samples of the rings and their health tests"),
    Block("station.entropy.core", 265, 3, 0, "AES that makes keys of samples"),
    Block("station.entropy.keeper", 160, 0, 0, "keys made on board"),
    Block("station.entropy.regenerator", 70, 2, 0, "draws of asked slots"),
    Block("station.entropy.raw", 56, 1, 0, "raw samples"),
)


def blocks_of(
    *,
    lines: int,
    geared_inputs: int,
    detectors: int,
    chains: Sequence[int],
    rings: bool,
    key_bits: bool,
    sdram: bool,
    probe: bool,
) -> tuple[Block, ...]:
    """What the station of a board must hold, which depends on what the board has."""
    return (
        *_EVERY_STATION,
        _times(_LINE, lines),
        _times(_GEARED_INPUT, geared_inputs),
        *(_PROBE if probe else ()),
        *(_RECEIVER if detectors else ()),
        *(_of(block, d) for d in range(detectors) for block in _DETECTOR),
        *(_CHAINS if chains else ()),
        *(_of(block, d) for d in chains for block in _CHAIN),
        *((_KEY_BITS_IN_SDRAM if sdram else _KEY_BITS) if key_bits else ()),
        *(_RINGS if rings else ()),
    )


def _times(block: Block, pins: int) -> Block:
    return replace(block, flip_flops=block.flip_flops * pins)


def _of(block: Block, detector: int) -> Block:
    return replace(block, path=block.path.format(detector))


def missing_blocks(netlist: Path, blocks: Iterable[Block]) -> list[str]:
    """Sentences on each part of the design that holds less in a netlist of Yosys than it must.

    The netlist is flat, but the names of its flip-flops and memories begin with the submodules that they are from.
    """
    modules = json.loads(netlist.read_text())["modules"].values()
    held = {kind: Counter[str]() for kind in _KINDS}
    for module in modules:
        if module.get("attributes", {}).get("top"):
            for name, cell in module["cells"].items():
                if cell["type"] in _KINDS:
                    held[cell["type"]].update(_parts(name))
    sentences = []
    for block in blocks:
        least = (block.flip_flops, block.block_rams, block.small_rams)
        for (kind, what), minimum in zip(_KINDS.items(), least, strict=True):
            count = held[kind][block.path]
            if count < minimum:
                sentences.append(
                    f"{block.path} holds {count} {what}, at least {minimum} expected ({block.why}): it was removed in "
                    f"part, or the gateware needs less and `block_check` must say so"
                )
    return sentences


def _parts(cell: str) -> Iterable[str]:
    """Paths of all parts of the design that a cell is in, from its name: ``a.b`` and ``a`` for ``a.b.value_FF_Q``.

    A submodule whose name a signal has too gets a number, as in ``station.choices$285``.
    """
    names = [re.sub(r"\$\d+$", "", name) for name in cell.split(".")[:-1]]
    return (".".join(names[:depth]) for depth in range(1, len(names) + 1))
