"""Why a station refused to arm or to start: what its registers say, and what to do about it."""

from .board import Board
from .protocol.identity import Capability, Entropy
from .protocol.status import Alarm, State
from .station_entropy import KEY_MADE_ON_BOARD, StationEntropy

__all__ = ["REFUSALS", "why_refused"]

REFUSALS = Alarm.START_REFUSED | Alarm.ARM_REFUSED | Alarm.CHOICES_BEFORE_KEYSTREAM
"""Alarms after which a run cannot begin."""


def why_refused(name: str, board: Board, refused: Alarm) -> str:
    """Say why the station raised these alarms, each with its remedy."""
    found = []
    if refused & Alarm.START_REFUSED:
        place = board.read("timebase.start_place")
        found.append(
            f"start refused (start pulse seen in bin {place} of its word; bins 0 and 7 are too close to the edge: "
            "change the start cable by a few ns)"
        )
    if refused & Alarm.ARM_REFUSED:
        found.append(f"arm refused ({'; '.join(_against_arming(board))})")
    if refused & Alarm.CHOICES_BEFORE_KEYSTREAM:
        slot = board.read("entropy.stopped_slot")
        found.append(f"its keystream was not ready and choices stopped at slot {slot} (start the run again)")
    return f"station {name}: {', '.join(found)}"


def _against_arming(board: Board) -> list[str]:
    """What stands against arming now, as the station itself decides it."""
    state = board.state()
    found = []
    if State.CLOCK_LOCKED not in state:
        external = Capability.EXTERNAL_REFERENCE in board.identity.capabilities
        remedy = "connect its reference clock and check level and frequency" if external else "power it up again"
        found.append(f"its clock is not locked: {remedy}")
    if board.read("keystream.enable"):
        entropy = board.read_group("entropy")
        if State.NONCE_FRESH not in state:
            found.append(_no_fresh_nonce(board, state))
        if entropy["required"] or entropy["on_board"]:
            found += _unhealthy(board)
        made_here = bool(entropy["key_state"] & KEY_MADE_ON_BOARD)
        if made_here != bool(entropy["on_board"]):
            has, wants = ("the station", "the host") if made_here else ("the host", "the station")
            found.append(
                f"its key was made by {has}, and entropy.on_board = {entropy['on_board']} asks for one made by {wants}"
                ": start the run again, which brings the kind of key that its run file names"
            )
    shown = ", ".join(state.names()) or "none"
    return found or [f"nothing stands against it any more; its state bits: {shown}; start the run again"]


def _no_fresh_nonce(board: Board, state: State) -> str:
    if State.KEYSTREAM_READY not in state:
        return "its keystream has no key: start the run again, which loads or makes one"
    nonce = board.read("keystream.nonce")
    return (
        f"its nonce {nonce} is not larger than all that were used under this key: start the run again, which takes a "
        "new nonce; if that is refused too, set the clock of the host, from which nonces are taken"
    )


def _unhealthy(board: Board) -> list[str]:
    if board.identity.entropy == Entropy.HOST:
        return ["it has no noise source: build its bitstream with --rings, or take keys of the host under [choices]"]
    health = StationEntropy(board).health()
    if health.healthy:
        return []
    if health.failures:
        return [
            f"its noise source is not healthy, {' and '.join(health.failures)} failed at sample {health.failed_at}"
            f": see `qrelay entropy health {board.url}`"
        ]
    return [f"its noise source has not passed the start-up test: see `qrelay entropy health {board.url}`"]
