"""What `qrelay calibrate` does."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .bitstream_file import check_bitstream
from .board import Board
from .errors import ConfigError
from .json_output import print_json
from .loopback import measure_offsets
from .protocol.units import FINES_PER_SLOT
from .tdc_board import (
    calibrated_detectors,
    chained_detectors,
    check_file,
    load_file,
    measure,
    provenance,
    report,
    save_file,
    simulated,
)
from .tdc_offsets import Offset, load_offsets, save_offsets

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
    hits: int | None,
    out: Path | None,
    load: Path | None,
    bitstream: Path | None,
    wires: Sequence[str] = (),
    cable_ns: float = 0.0,
    as_json: bool,
) -> int:
    """Calibrate the carry chains of a station, or load a calibration that was kept; return the exit code."""
    # Not at the top: the self-test prints the figures of a calibration.
    from .commands_selftest import parse_wires

    wanted = parse_wires(wires)
    if wanted and bitstream is None:
        raise ConfigError("--wire needs --bitstream: offsets are kept under the hash of the file that was flashed")
    if load is not None and out is not None:
        raise ConfigError("--load and --out together: give --out to keep a new calibration, --load to use an old one")
    if out is not None:
        check_file(out)
    with Board.open(url) as board:
        if not chained_detectors(board):
            raise ConfigError(
                f"{url}: {board.identity.board} has no carry chains; its detectors have two bins per slot and need no "
                "calibration"
            )
        sha256 = "" if bitstream is None else check_bitstream(bitstream, board.identity)
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
        offsets = _offsets(board, wanted, cable_ns, sha256)
        shown: dict[str, Any] = {
            "url": url,
            "board": board.identity.board,
            "build_id": f"{board.identity.build_id:016x}",
            "bitstream_sha256": sha256,
            "simulated": simulated(board),
            "provenance": provenance(board),
            "detectors": {
                str(detector): {name: entry[name] for name in entry if name != "times_fines"}
                for detector, entry in found.items()
            },
            "offsets": {str(d): {**asdict(o), "standard_error": o.standard_error} for d, o in offsets.items()},
        }
    if as_json:
        print_json(shown)
        return 0
    print(f"Carry chains of {url}, {shown['provenance']}")
    print_figures(shown["detectors"])
    for detector, entry in shown["offsets"].items():
        text = f"{entry['fines']:+.2f} fines, standard error {entry['standard_error']:.2f} ({entry['n']} edges)"
        print(f"detector {detector}: offset {text}")
    return 0


def _offsets(board: Board, wires: Mapping[int, int], cable_ns: float, sha256: str) -> dict[int, Offset]:
    """Measure and keep the offsets of wired detectors; nothing without wires."""
    if not wires:
        return {}
    plain = sorted(set(wires) - set(chained_detectors(board)))
    if plain:
        raise ConfigError(f"--wire: detector {plain[0]} has no carry chain, so that it has no offset to keep")
    bare = sorted(set(wires) - set(calibrated_detectors(board)))
    if bare:
        raise ConfigError(
            f"--wire: detector {bare[0]} is not calibrated, its hits have no time that an offset could be told from; "
            f"add --detector {bare[0]}, or leave --detector out"
        )
    load_offsets(sha256, board.identity.board)  # what cannot be added to is told before the measurement
    rate = board.identity.slot_rate_numerator_hz / board.identity.slot_rate_denominator
    offsets = measure_offsets(board, wires, cable_fines=round(cable_ns * 1e-9 * rate * FINES_PER_SLOT))
    path = save_offsets(sha256, board.identity.board, offsets, board.identity.build_id)
    print(f"offsets kept in {path}", file=sys.stderr)
    return offsets


def print_figures(detectors: Mapping[str, Mapping[str, float]]) -> None:
    """Print what `tdc_board.report` says of each detector."""
    for detector, entry in detectors.items():
        print(f"detector {detector}")
        for name, text in _SHOWN.items():
            print(f"  {text:<26}{entry[name]:10.2f}")
