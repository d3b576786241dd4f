"""Offsets of detectors with carry chains: how late their hits are, by the way from pad to chain.

They belong to a bitstream, as each has its own ways, and are kept in the user's data folder under its SHA-256. The
user says which file was flashed, and its build id must be the station's. They are taken from the detector's delay, not from its table of times: the table knows only two slots, and an earlier time than its first would end in the slots
of another capture.
"""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from .bitstream_file import check_bitstream
from .config import RunConfig
from .errors import ConfigError
from .protocol.identity import Identity
from .protocol.units import FINES_PER_SLOT

__all__ = ["Offset", "load_offsets", "offsets_path", "save_offsets", "subtract_offsets"]

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


def load_offsets(sha256: str, board: str) -> dict[int, Offset]:
    """Offsets by detector, none if none are kept. Raises ConfigError for a cut file or one of something else."""
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
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} holds no offsets ({error!r}); move it away and {_REMEDY}") from error
    if found != (_KIND, sha256, board):
        raise ConfigError(
            f"{path}: {found[0]!r} of board {found[2]!r} and bitstream {str(found[1])[:12]} is not for {board!r} and "
            f"{sha256[:12]}; move it away and {_REMEDY}"
        )
    return offsets


def save_offsets(sha256: str, board: str, offsets: Mapping[int, Offset]) -> Path:
    """Keep offsets beside those of other detectors, all or nothing. Raises ConfigError as `load_offsets`."""
    path = offsets_path(sha256)
    merged = {**load_offsets(sha256, board), **offsets}
    document = {
        "kind": _KIND,
        "bitstream_sha256": sha256,
        "board": board,
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


def subtract_offsets(config: RunConfig, identity: Identity) -> tuple[RunConfig, list[str]]:
    """Take the receiver's offsets from its detectors' delays; returns the settings and warnings.

    Raises ConfigError for a bitstream or file that cannot be read, or a delay that would be below 0.
    """
    chained = [d for d in range(len(config.receiver.detectors)) if identity.chains >> d & 1]
    if not chained or not config.receiver.subtract_tdc_offsets:
        return config, []
    if config.receiver.bitstream is None:
        return config, [f"receiver.bitstream is not set: hits are not corrected for the way to the chain; {_REMEDY}"]
    offsets = load_offsets(check_bitstream(Path(config.receiver.bitstream), identity), identity.board)
    detectors = list(config.receiver.detectors)
    warnings = []
    for d in chained:
        if d not in offsets:
            warnings.append(f"detector {d}: no offset is kept for {config.receiver.bitstream}; {_REMEDY}")
            continue
        old = detectors[d]
        wanted = old.delay_slots * FINES_PER_SLOT + old.delay_fines - round(offsets[d].fines)
        if wanted < 0:
            raise ConfigError(
                f"receiver.detectors[{d}].delay_slots: hits are {offsets[d].fines:.1f} fines late and cannot be moved "
                f"before their time; add {-(wanted // FINES_PER_SLOT)} slots to the delay of every detector"
            )
        slots, fines = divmod(wanted, FINES_PER_SLOT)
        detectors[d] = old.model_copy(update={"delay_slots": slots, "delay_fines": fines})
    receiver = config.receiver.model_copy(update={"detectors": tuple(detectors)})
    return config.model_copy(update={"receiver": receiver}), warnings
