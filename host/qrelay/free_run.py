"""A station that counts clicks by itself: no start input, no end, and no light of its own."""

from .board import Board
from .protocol.registers import SEGMENT_KINDS
from .protocol.units import SLOTS_PER_WORD
from .protocol.windows import window

__all__ = ["start_free_run"]

_SEGMENT_SLOTS = 4096
_REGISTERS = {
    "timebase.start_source": 0,
    "timebase.start_slot": 0,
    "timebase.length": 0,
    "timebase.sync_period": 0,
    "sequencer.segments": 1,
    "sequencer.steps": 1,
    "sequencer.step_words": 1,
    "keystream.enable": 0,
    "modulator.enable": 0,
    "receiver.enable": 1,
}


def start_free_run(board: Board) -> None:
    """Disarm the station and start its slot counter by command, its receiver on and all its slots quantum ones.

    What is set for detectors, gates and events stays. End it by `Board.disarm`; a run configures the station anew.
    """
    board.disarm()
    board.write_many(_REGISTERS)
    segment = {"kind": SEGMENT_KINDS.index("quantum"), "words": _SEGMENT_SLOTS // SLOTS_PER_WORD}
    board.write_table("segments", [window("segments").entry.pack(segment)])
    board.arm()
    board.start()
