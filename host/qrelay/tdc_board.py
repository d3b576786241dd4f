"""Calibrate the carry chains of a station, and keep the result in a file.

The tables in the gateware are lost when the bitstream is loaded again: load them from the file, or calibrate anew. Taps
change with temperature and supply, and with every bitstream.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .board import Board
from .errors import CalibrationError, ConfigError, RunError
from .protocol.identity import Capability
from .protocol.registers import DETECTORS
from .protocol.status import State
from .protocol.tdc import CODE_BITS, GROUP_TAPS, SPAN_FINES, TAPS
from .protocol.units import SLOTS_PER_WORD
from .tdc_calibration import TdcCalibration, calibrate

__all__ = [
    "calibrated_detectors",
    "chained_detectors",
    "check_calibrated",
    "check_file",
    "closer_hits",
    "code_density",
    "load_calibrations",
    "load_file",
    "measure",
    "pads",
    "provenance",
    "report",
    "save_file",
    "simulated",
]

_CODES = 1 << CODE_BITS
_UNCALIBRATED = {"high_from": 1, "low_from": TAPS // GROUP_TAPS}
"""Settings of a chain whose span is not known: those after reset, and while codes are counted. No calibration gives
them, as its `low_from` leaves `SPARE_CODES` at the end of the chain."""
_SLOWEST_OSCILLATOR_HZ = 20e6
"""The oscillator on the die has 25.8 MHz, 15 % more or less."""
_LONGEST_CLEAR_S = 2.0
_POLL_S = 0.002
HITS = 4_000_000
"""Hits of a calibration on a board, a fifth of a second."""
SIMULATED_HITS = 100_000
"""Hits on a simulated station, a few seconds of its processor."""
_FILE_KIND = "qrelay tdc calibration 2"


def chained_detectors(board: Board) -> tuple[int, ...]:
    """Detectors of a station whose edges a carry chain measures."""
    return tuple(d for d in range(DETECTORS) if board.identity.chains >> d & 1)


def calibrated_detectors(board: Board) -> tuple[int, ...]:
    """Detectors with a carry chain that holds a calibration: its settings are not those after reset."""
    return tuple(
        d
        for d in chained_detectors(board)
        if any(board.read(f"tdc.{name}_{d}") != value for name, value in _UNCALIBRATED.items())
    )


def check_calibrated(name: str, board: Board, used: int) -> None:
    """Raise RunError if one of the first `used` detectors of station `name` has a chain without a calibration."""
    calibrated = calibrated_detectors(board)
    bare = [str(d) for d in chained_detectors(board) if d < used and d not in calibrated]
    if bare:
        raise RunError(
            f"station {name} ({board.identity.board}): the carry chain of detector {', '.join(bare)} is not "
            f"calibrated, all its hits would get one time; run `qrelay calibrate {board.url} --out tdc.json` "
            f"and keep the file, or bring back a kept one with `qrelay calibrate {board.url} --load tdc.json`"
        )


def _check(board: Board, detectors: Sequence[int]) -> None:
    known = chained_detectors(board)
    for detector in detectors:
        if detector not in known:
            there = ", ".join(map(str, known)) or "none"
            raise ConfigError(
                f"detector {detector} of {board.identity.board} has no carry chain; those that have: {there}"
            )


def code_density(board: Board, detector: int, hits: int) -> NDArray[np.int64]:
    """Count about `hits` hits of the oscillator on the die by code, int64[512].

    The detector sees the oscillator meanwhile. Its source is the pad again afterwards, whatever happens.

    Raises CalibrationError while a run is on, ConfigError where the detector has no chain.
    """
    _check(board, [detector])
    if board.state() & (State.RUNNING | State.ARMED):
        raise CalibrationError(f"{board.url}: a run is on, and calibration takes its detector away; disarm first")
    settings = {
        "tdc.run": 0,
        "tdc.detector": detector,
        # Pulses and gaps of the oscillator are longer than any span.
        **{f"tdc.{name}_{detector}": value for name, value in _UNCALIBRATED.items()},
        f"tdc.oscillator_{detector}": 1,
    }
    try:
        board.write_many(settings)
        board.write("tdc.clear", 1)
        end = time.monotonic() + _LONGEST_CLEAR_S
        while board.read("tdc.busy"):
            if time.monotonic() > end:
                raise CalibrationError(f"{board.url}: code counts are not cleared; is the clock of the station there?")
        board.write("tdc.run", 1)
        _wait(board, hits / _SLOWEST_OSCILLATOR_HZ)
        board.write("tdc.run", 0)
        return np.array(board.read_table("tdc_codes"), np.int64)
    finally:
        board.write_many({"tdc.run": 0, f"tdc.oscillator_{detector}": 0})


def _wait(board: Board, seconds: float) -> None:
    """Let time pass on the station, whose clock need not follow the wall's."""
    word_rate_hz = board.identity.slot_rate_numerator_hz / board.identity.slot_rate_denominator / SLOTS_PER_WORD
    now = board.read("system.uptime")
    end = now + seconds * word_rate_hz
    moved = time.monotonic()
    while now < end:
        # A simulated station runs while it is talked to.
        time.sleep(_POLL_S if simulated(board) else (end - now) / word_rate_hz)
        before, now = now, board.read("system.uptime")
        if now > before:
            moved = time.monotonic()
        elif time.monotonic() > moved + _LONGEST_CLEAR_S:
            raise CalibrationError(f"{board.url}: the station's clock stands; check its reference")


def pads(board: Board) -> dict[str, int]:
    """Registers by which the chains see their pads, whatever a calibration that broke off has left; none without."""
    chained = chained_detectors(board)
    return {f"tdc.oscillator_{d}": 0 for d in chained} | ({"tdc.run": 0} if chained else {})


def closer_hits(board: Board, used: int) -> dict[str, int]:
    """Hits of the first `used` detectors that their chains only counted, by names for the counters: ``extra_<i>``."""
    return {f"extra_{d}": board.read(f"tdc.extra_{d}") for d in chained_detectors(board) if d < used}


def load_calibrations(board: Board, calibrations: Mapping[int, TdcCalibration]) -> None:
    """Bring tables and settings of calibrated detectors to the station."""
    _check(board, list(calibrations))
    for detector, calibration in calibrations.items():
        board.write_table("tdc_times", calibration.table, first=detector * _CODES)
        board.write_many(
            {
                f"tdc.high_from_{detector}": calibration.high_from,
                f"tdc.low_from_{detector}": calibration.low_from,
            }
        )


def measure(
    board: Board,
    detectors: Sequence[int] | None = None,
    *,
    hits: int | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[int, TdcCalibration]:
    """Calibrate detectors of a station, all that have a chain by default, and load their tables.

    By default with `HITS`, or `SIMULATED_HITS` where the station is simulated.

    Raises CalibrationError naming the detector whose counts allow no calibration; those before it are loaded.
    """
    found: dict[int, TdcCalibration] = {}
    chosen = chained_detectors(board) if detectors is None else tuple(detectors)
    _check(board, chosen)
    if hits is None:
        hits = SIMULATED_HITS if simulated(board) else HITS
    oscillator = "simulated oscillator" if simulated(board) else "oscillator on the die"
    rate = Fraction(board.identity.slot_rate_numerator_hz, board.identity.slot_rate_denominator)
    for detector in chosen:
        progress(f"detector {detector}: {hits} hits of the {oscillator}")
        counts = code_density(board, detector, hits)
        try:
            found[detector] = calibrate(counts, slot_rate_hz=rate)
        except CalibrationError as error:
            raise CalibrationError(f"detector {detector}: {error}") from error
        load_calibrations(board, {detector: found[detector]})
    return found


def simulated(board: Board) -> bool:
    """Whether the chains of a station are modelled."""
    return Capability.SIMULATED in board.identity.capabilities


def provenance(board: Board) -> str:
    """Where figures of merit of a station's chains come from, in words."""
    if simulated(board):
        return "simulated: tap widths come from the timing model of place and route, nothing was measured on a board"
    return "from the code density of the oscillator on the die"


def report(calibration: TdcCalibration) -> dict[str, float]:
    """Figures of merit of a calibrated chain."""
    return {
        "codes": calibration.last_code + 1,
        "mean_width_ps": float(calibration.widths_ps.mean()),
        "largest_width_ps": float(calibration.widths_ps.max()),
        "dnl_min_lsb": float(calibration.dnl_lsb.min()),
        "dnl_max_lsb": float(calibration.dnl_lsb.max()),
        "inl_min_lsb": float(calibration.inl_lsb.min()),
        "inl_max_lsb": float(calibration.inl_lsb.max()),
        "rms_error_ps": calibration.rms_error_ps,
        "statistical_error_ps": calibration.statistical_error_ps,
        "effective_resolution_ps": calibration.effective_resolution_ps,
    }


def check_file(path: Path) -> None:
    """Raise ConfigError if `path` is no place for a calibration, before one is measured."""
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}; make it, or give another file")
    if path.exists() and not path.is_file():
        raise ConfigError(f"--out {path}: that is no file that could be written over; give another one")


def save_file(path: Path, board: Board, found: Mapping[int, TdcCalibration], bitstream_sha256: str = "") -> None:
    """Keep calibrations in a JSON file, with the station's build id; `bitstream_sha256` tells of which bitstream.

    The file appears as a whole or stays as it was. Raises RunError if it cannot be written.
    """
    document = {
        "kind": _FILE_KIND,
        "board": board.identity.board,
        "build_id": f"{board.identity.build_id:016x}",
        "bitstream_sha256": bitstream_sha256,
        "detectors": {
            str(detector): {
                "times_fines": calibration.table.tolist(),
                "high_from": calibration.high_from,
                "low_from": calibration.low_from,
                **report(calibration),
            }
            for detector, calibration in found.items()
        },
    }
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise RunError(
            f"{path}: {error.strerror or error}; the calibration of detector {', '.join(map(str, found))} is not kept, "
            "but stays loaded in the station until its bitstream is loaded again: calibrate again with another --out"
        ) from error


def load_file(path: Path, board: Board, bitstream_sha256: str = "") -> dict[int, dict[str, Any]]:
    """Load tables and settings of a file into the station; returns what it says of each detector.

    Raises ConfigError for a file of another kind, board, build id or (where both are known) bitstream.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kind, name, build_id = document["kind"], document["board"], document["build_id"]
        detectors = {int(detector): entry for detector, entry in document["detectors"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no calibration ({error!r}); make one with `qrelay calibrate --out`") from error
    if kind != _FILE_KIND or name != board.identity.board:
        raise ConfigError(
            f"{path}: {kind!r} of board {name!r} is not for {board.identity.board!r}; calibrate this board"
        )
    held = f"{board.identity.build_id:016x}"
    if build_id != held:
        raise ConfigError(
            f"{path} belongs to build id {build_id}, but the station holds {held}: every bitstream has its own chains; "
            "calibrate again"
        )
    written = document.get("bitstream_sha256", "")
    if written and bitstream_sha256 and written != bitstream_sha256:
        raise ConfigError(
            f"{path} belongs to bitstream {written[:12]}, not to {bitstream_sha256[:12]}: every bitstream has its own "
            "chains; calibrate again"
        )
    _check(board, list(detectors))
    for detector, entry in detectors.items():
        times = np.asarray(entry["times_fines"], np.int64)
        if times.shape != (_CODES,) or times.min() < 0 or times.max() >= SPAN_FINES:
            raise ConfigError(f"{path}: detector {detector} needs {_CODES} times of 0 to {SPAN_FINES - 1} fines")
    for detector, entry in detectors.items():
        board.write_table("tdc_times", entry["times_fines"], first=detector * _CODES)
        board.write_many({f"tdc.{name}_{detector}": entry[name] for name in ("high_from", "low_from")})
    return detectors
