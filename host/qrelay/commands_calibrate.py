"""What `qrelay calibrate` does."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .board import Board
from .errors import ConfigError
from .tdc_board import chained_detectors, load_file, measure, report, save_file

__all__ = ["calibrate_station", "print_figures"]

_SHOWN = {
    "codes": "codes",
    "mean_width_ps": "mean width (ps)",
    "dnl_max_lsb": "DNL max (LSB)",
    "inl_max_lsb": "INL max (LSB)",
    "inl_min_lsb": "INL min (LSB)",
    "rms_error_ps": "rms error (ps)",
    "effective_resolution_ps": "effective resolution (ps)",
}


def calibrate_station(
    url: str,
    *,
    detectors: Sequence[int],
    hits: int,
    out: Path | None,
    load: Path | None,
    bitstream: Path | None,
    as_json: bool,
) -> int:
    """Calibrate the carry chains of a station, or load a calibration that was kept; return the exit code."""
    sha256 = ""
    if bitstream is not None:
        try:
            sha256 = hashlib.sha256(bitstream.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"--bitstream {bitstream}: {error.strerror}; give the file that was flashed") from error
    if load is not None and out is not None:
        raise ConfigError("--load and --out together: give --out to keep a new calibration, --load to use an old one")
    with Board.open(url) as board:
        if not chained_detectors(board):
            raise ConfigError(
                f"{url}: {board.identity.board} has no carry chains; its detectors have two bins per slot and need no "
                "calibration"
            )
        if load is not None:
            found: dict[int, dict[str, Any]] = load_file(load, board, sha256)
        else:
            calibrations = measure(
                board,
                detectors or None,
                hits=hits,
                progress=lambda message: print(message, file=sys.stderr, flush=True),
            )
            if out is not None:
                save_file(out, board, calibrations, sha256)
            found = {detector: dict(report(calibration)) for detector, calibration in calibrations.items()}
        shown: dict[str, Any] = {
            "url": url,
            "board": board.identity.board,
            "bitstream_sha256": sha256,
            "detectors": {
                str(detector): {name: entry[name] for name in entry if name != "times_fines"}
                for detector, entry in found.items()
            },
        }
    if as_json:
        sys.stdout.write(json.dumps(shown, indent=2, allow_nan=False) + "\n")
        return 0
    print_figures(shown["detectors"])
    return 0


def print_figures(detectors: Mapping[str, Mapping[str, float]]) -> None:
    """Print what `tdc_board.report` says of each detector."""
    for detector, entry in detectors.items():
        print(f"detector {detector}")
        for name, text in _SHOWN.items():
            print(f"  {text:<26}{entry[name]:10.2f}")
