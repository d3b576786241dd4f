"""The result of a run folder, made anew from its records, choices and manifest alone."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .analysis import analyse
from .choice_keys import ChoiceKey
from .config import RunConfig, load_config
from .draw_store import DrawStore
from .errors import RunFolderError
from .run_folder import RecordedAnnouncements, RecordedReference
from .sifting import DrawsChoices

__all__ = ["Replay", "replay"]


@dataclass(frozen=True)
class Replay:
    """What a run folder gives: `result` as for ``result.json``, the sifted bits of both senders, and `same`."""

    config: RunConfig
    manifest: dict[str, Any]
    result: dict[str, Any]
    sifted: dict[str, NDArray[np.uint8]]
    damage: list[str]
    """What of the records cannot be read, in words."""
    same: bool | None
    """Whether the folder's ``result.json`` is this result, to the last digit; None where there is none."""


def replay(folder: Path | str) -> Replay:
    """Analyse the run in `folder` again. Nothing is written.

    Raises RunFolderError naming the file that is missing or damaged.
    """
    folder = Path(folder)
    config_file = folder / "config.toml"
    if not config_file.is_file():
        raise RunFolderError(f"{folder} is no run folder: there is no config.toml; give the folder that a run named")
    config = load_config(config_file)
    manifest = _json(folder / "manifest.json")
    choices: dict[str, DrawsChoices] = {}
    try:
        for name, about in manifest["keys"].items():
            path = folder / about["file"]
            if about["source"] == "board":
                choices[name] = DrawStore.read(path, config.thresholds())
            else:
                choices[name] = ChoiceKey.from_json(path.read_bytes()).choices()
    except OSError as error:
        raise RunFolderError(
            f"cannot read {error.filename}: {error.strerror}; without it there is no result"
        ) from error
    damage: dict[str, None] = {}
    announcements = RecordedAnnouncements(folder, damage.setdefault)
    reference = RecordedReference(folder, damage.setdefault)
    result, sifted = analyse(config, manifest, announcements, choices, reference)
    before = folder / "result.json"
    same = _json(before) == json.loads(json.dumps(result)) if before.is_file() else None
    return Replay(config, manifest, result, sifted, list(damage), same)


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(
            f"{path} is missing: the run was killed before its end; its records are kept, but not what they count for"
        ) from None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"cannot read {path}: {error}") from error
    return content
