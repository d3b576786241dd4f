"""The stations of a run, opened: real boards at their URLs, or the digital twin's."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from .board import Board
from .closing import ClosedAtExit
from .config import STATIONS, RunConfig
from .errors import QrelayError, RunError
from .extras import how_to_get
from .protocol.identity import Capability, Identity, Phy
from .tdc_board import calibrated_detectors, check_calibrated, measure
from .wired import check_wired

__all__ = ["Bench", "describe_identity", "start_twin"]

_RTL_PHYS = (Phy.ECP5_X2, Phy.TDC, Phy.TWIN_X2, Phy.TWIN_TDC)
_INTERRUPTS = 3


def start_twin(config: RunConfig, progress: Callable[[str], None], *, link: str = "tcp") -> Any:
    """Start the digital twin of a run file. Raises RunError saying what is missing."""
    try:
        from qrelay_sim.twin import Twin
    except ImportError as error:
        raise RunError(f"the digital twin is not installed ({error}); {how_to_get('gateware')}") from error
    try:
        return Twin(config.twin_settings(), link="pty" if link == "pty" else "tcp", progress=progress)
    except QrelayError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        raise RunError(f"the digital twin does not start: {error}") from error


class Bench(ClosedAtExit):
    """Opens every station of a run and closes them, and the twin, at the end."""

    def __init__(self, config: RunConfig, progress: Callable[[str], None] = lambda _: None) -> None:
        self.boards: dict[str, Board] = {}
        self.twin: Any = None
        self._stack = ExitStack()
        try:
            urls: Mapping[str, str] = config.stations.urls()
            if config.simulated:
                self.twin = start_twin(config, progress)
                self._stack.callback(self.twin.close)
                urls = self.twin.urls
            for name in STATIONS:
                # A simulated board shares its processor with three others and the light between them.
                self.boards[name] = self._stack.enter_context(Board.open(urls[name], timeout_s=2.0))
            self._check(config)
            if self.twin is not None:
                # Its tables are empty, as those of a board that has just been loaded.
                for board in self.boards.values():
                    measure(board, progress=progress)
            check_calibrated("receiver", self.boards["receiver"], len(config.receiver.detectors))
            self.calibrated = {name: calibrated_detectors(board) for name, board in self.boards.items()}
            """Detectors of each station whose carry chain holds a calibration."""
        except BaseException:
            self._stack.close()
            raise

    def _check(self, config: RunConfig) -> None:
        rates = {
            name: (board.identity.slot_rate_numerator_hz, board.identity.slot_rate_denominator)
            for name, board in self.boards.items()
        }
        if len(set(rates.values())) > 1:
            listed = ", ".join(f"{name} {n}/{d} Hz" for name, (n, d) in rates.items())
            raise RunError(f"the stations have different slot rates ({listed}); flash builds with one clock plan")
        for name, needed in (
            ("alice", Capability.SENDER),
            ("bob", Capability.SENDER),
            ("source", Capability.SENDER),
            ("receiver", Capability.RECEIVER),
        ):
            identity = self.boards[name].identity
            if needed not in identity.capabilities:
                raise RunError(f"station {name} ({identity.board}) cannot be a {(needed.name or '').lower()}")
            check_wired(name, identity, config)

    def warnings(self) -> list[str]:
        """What a user must know about the clocks before trusting a joint run."""
        found = []
        for name, board in self.boards.items():
            identity = board.identity
            if not identity.capabilities & Capability.EXTERNAL_REFERENCE:
                found.append(
                    f"{name}: internal clock, {identity.clock_error_ppb / 1000:+g} ppm: not for joint operation"
                )
        return found

    def disarm(self) -> dict[str, str]:
        """Disarm every station that still answers, also where one does not; why, by station, for those that do not.

        Nothing ends it early, not even an interrupt or two: what is left armed or running goes on without a host.
        """
        reasons = {name: _disarm(board) for name, board in self.boards.items()}
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def close(self) -> None:
        """Close all links, and the twin."""
        self._stack.close()


def _disarm(board: Board) -> str | None:
    """Disarm a station; why it was not possible, or None."""
    for _ in range(_INTERRUPTS):
        try:
            board.disarm()
        except KeyboardInterrupt:
            continue
        except QrelayError as error:
            return str(error)
        return None
    return "interrupted again and again"


def describe_identity(identity: Identity) -> dict[str, Any]:
    """Identity block as plain values; ``rtl`` says whether the project's gateware answers, on a board or simulated."""
    return {
        "board": identity.board,
        "rtl": identity.phy in _RTL_PHYS,
        "simulated": bool(identity.capabilities & Capability.SIMULATED),
        "gateware_version": ".".join(map(str, identity.version)),
        "protocol_hash": f"{identity.protocol_hash:016x}",
        "build_id": f"{identity.build_id:016x}",
        "slot_rate_hz": identity.slot_rate_numerator_hz / identity.slot_rate_denominator,
        "clock_error_ppb": identity.clock_error_ppb,
        "external_reference": bool(identity.capabilities & Capability.EXTERNAL_REFERENCE),
        "fine_delay": Capability.FINE_DELAY in identity.capabilities,
        "detectors": identity.detectors,
        "lines": identity.lines,
        "phy": identity.phy.name.lower(),
        "fine_first": identity.fine_first,
        "fine_step": identity.fine_step,
        "detector_fines": [
            {"first": fines.start, "step": fines.step} for fines in map(identity.fines_of, range(identity.detectors))
        ],
        "chains": [d for d in range(identity.detectors) if identity.chains >> d & 1],
        "entropy": identity.entropy.name.lower(),
        "latency_words": {
            "start": identity.start_latency,
            "line": identity.line_latency,
            "pin": identity.pin_latency,
            "receiver": identity.receiver_latency,
            "event": identity.event_latency,
            "choice_to_pin": identity.choice_to_pin,
            "pin_to_event": identity.pin_to_event,
        },
        "fifo_records": {
            "success": identity.fifo_success,
            "click": identity.fifo_click,
            "frame": identity.fifo_frame,
            "gap": identity.fifo_gap,
            "status": identity.fifo_status,
            "reference": identity.fifo_reference,
            "key": identity.fifo_key,
        },
        "link_baud": identity.link_baud,
    }
