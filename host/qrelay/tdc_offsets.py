"""Offsets of detectors with carry chains: how late their hits are, by the way from pad to chain.

They belong to a bitstream, as each has its own ways, and are kept in the user's data folder under its SHA-256, with the
build id by which a station tells which bitstream it holds. They are taken from the detector's delay, not from its table
of times: the table knows only two slots, and an earlier time than its first would end in the slots of another capture.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .bitstream_file import check_bitstream
from .config import RunConfig
from .errors import ConfigError
from .protocol.identity import Capability, Identity
from .protocol.units import FINES_PER_SLOT

__all__ = [
    "KeptOffsets",
    "Offset",
    "Subtraction",
    "delay_without",
    "kept_offsets",
    "load_offsets",
    "offsets_path",
    "save_offsets",
    "subtract_offsets",
]

_KIND = "qrelay tdc offsets 1"
_REMEDY = "measure with `qrelay calibrate URL --bitstream FILE --wire LINE:DETECTOR`"


@dataclass(frozen=True)
class Offset:
    """Measured less expected arrival of `n` edges, in fines (1/256 slot)."""

    fines: float
    std: float
    """Standard deviation of one edge."""
    n: int

    @property
    def standard_error(self) -> float:
        """Of the mean, by scatter alone: all edges meet the same code, whose error in the table stays."""
        return self.std / math.sqrt(self.n)


def offsets_path(sha256: str) -> Path:
    """Where the offsets of a bitstream are kept."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "qrelay" / "tdc-offsets" / f"{sha256}.json"


@dataclass(frozen=True)
class KeptOffsets:
    """What is kept for one bitstream."""

    bitstream_sha256: str
    date: str
    """Of the latest measurement, ISO 8601."""
    offsets: dict[int, Offset]
    """By detector."""

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        detectors = {str(d): {**asdict(o), "standard_error": o.standard_error} for d, o in self.offsets.items()}
        return {"bitstream_sha256": self.bitstream_sha256, "date": self.date, "detectors": detectors}


def _load(sha256: str, board: str) -> KeptOffsets | None:
    path = offsets_path(sha256)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = tuple(document[key] for key in ("kind", "bitstream_sha256", "board"))
        offsets = {
            int(detector): Offset(float(entry["fines"]), float(entry["std"]), int(entry["n"]))
            for detector, entry in document["offsets"].items()
        }
        if not all(math.isfinite(o.fines) and o.std >= 0 and o.n > 0 for o in offsets.values()):
            raise ValueError("offsets need finite fines, std of 0 or more and n of 1 or more")
        kept = KeptOffsets(sha256, str(document["date"]), offsets)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds no offsets ({error!r}); move it away and {_REMEDY}") from error
    if found != (_KIND, sha256, board):
        raise ConfigError(
            f"{path}: {found[0]!r} of board {found[2]!r} and bitstream {str(found[1])[:12]} is not for {board!r} and "
            f"{sha256[:12]}; move it away and {_REMEDY}"
        )
    return kept


def load_offsets(sha256: str, board: str) -> dict[int, Offset]:
    """Offsets by detector, none if none are kept. Raises ConfigError for a cut file or one of something else."""
    kept = _load(sha256, board)
    return {} if kept is None else kept.offsets


def kept_offsets(identity: Identity, bitstream: Path | None = None) -> KeptOffsets | None:
    """What is kept for the bitstream that a station holds: `bitstream`, or the one with the station's build id.

    A simulated station has no bitstream; for it a file must be named (`check_bitstream`).

    Raises ConfigError for a file that is not the station's, or offsets that cannot be read.
    """
    if bitstream is not None:
        return _load(check_bitstream(bitstream, identity), identity.board)
    if not identity.build_id:
        return None
    for path in sorted(offsets_path("").parent.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = document["build_id"], document["board"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not ours to judge: what is asked for is read with all checks below
        if found == (f"{identity.build_id:016x}", identity.board):
            return _load(path.stem, identity.board)
    return None


def save_offsets(sha256: str, board: str, offsets: Mapping[int, Offset], build_id: int = 0) -> Path:
    """Keep offsets beside those of other detectors, all or nothing. Raises ConfigError as `load_offsets`."""
    path = offsets_path(sha256)
    merged = {**load_offsets(sha256, board), **offsets}
    document = {
        "kind": _KIND,
        "bitstream_sha256": sha256,
        "board": board,
        "build_id": f"{build_id:016x}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "offsets": {str(detector): asdict(offset) for detector, offset in sorted(merged.items())},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as new:
            new.write(json.dumps(document, indent=1) + "\n")
            new.flush()
            os.fsync(new.fileno())
        Path(new.name).replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; set XDG_DATA_HOME to a folder that can be written") from error
    return path


@dataclass(frozen=True)
class Subtraction:
    """Settings of a run after the offsets have been taken from them."""

    config: RunConfig
    warnings: tuple[str, ...] = ()
    kept: KeptOffsets | None = None
    """The offsets that were taken, of the detectors that the run has."""

    def of_station(self) -> dict[str, Any] | None:
        """For the manifest: what was subtracted from the receiver's detectors."""
        return None if self.kept is None else self.kept.plain()


def delay_without(offset: Offset, delay_fines: int, name: str) -> tuple[int, int]:
    """Slots and fines of a detector's delay, `delay_fines`, less its offset. Raises ConfigError if that is below 0."""
    wanted = delay_fines - round(offset.fines)
    if wanted < 0:
        raise ConfigError(
            f"{name}: hits are {offset.fines:.1f} fines late and cannot be moved before their time; add "
            f"{-(wanted // FINES_PER_SLOT)} slots to the delay of every detector"
        )
    slots, fines = divmod(wanted, FINES_PER_SLOT)
    return slots, fines


def subtract_offsets(config: RunConfig, identity: Identity) -> Subtraction:
    """Take the receiver's offsets from its detectors' delays. A bitstream that is named is checked in any case.

    Raises ConfigError for a bitstream that is not the station's, a file that cannot be read, or a delay below 0.
    """
    chained = [d for d in range(len(config.receiver.detectors)) if identity.chains >> d & 1]
    named = config.receiver.bitstream
    if not chained or not config.receiver.subtract_tdc_offsets:
        if named is not None:
            check_bitstream(Path(named), identity)
        return Subtraction(config)
    kept = kept_offsets(identity, None if named is None else Path(named))
    if kept is None and Capability.SIMULATED in identity.capabilities and named is None:
        return Subtraction(config)
    what = f"build id {identity.build_id:016x}" if named is None else named
    if kept is None:
        warning = f"no offsets are kept for {what}: hits are not corrected for the way to the chain; {_REMEDY}"
        return Subtraction(config, (warning,))
    detectors = list(config.receiver.detectors)
    warnings = []
    for d in chained:
        if d not in kept.offsets:
            warnings.append(f"detector {d}: no offset is kept for {what}; {_REMEDY}")
            continue
        old = detectors[d]
        slots, fines = delay_without(
            kept.offsets[d],
            old.delay_slots * FINES_PER_SLOT + old.delay_fines,
            f"receiver.detectors[{d}].delay_slots",
        )
        detectors[d] = old.model_copy(update={"delay_slots": slots, "delay_fines": fines})
    receiver = config.receiver.model_copy(update={"detectors": tuple(detectors)})
    taken = replace(kept, offsets={d: o for d, o in kept.offsets.items() if d in chained})
    return Subtraction(config.model_copy(update={"receiver": receiver}), tuple(warnings), taken)
