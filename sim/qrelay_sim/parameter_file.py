"""Parameter sets as TOML files: each number stands beside the place it comes from.

An entry is ``key = { value = ..., provenance = "..." }``; a bare value is taken and reported as given without a source.
``base = "A"`` starts from a preset; without it missing keys have the values of preset A and are marked as left out.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from qrelay_sim.parameters import RelayParameters
from qrelay_sim.timing import Timing

__all__ = ["PRESETS", "load_preset", "parse_parameters", "preset_text", "read_parameters"]

PRESETS: Final = ("A", "B", "C")
NO_SOURCE: Final = "given without a source"

_KEYS = tuple(f.name for f in dataclasses.fields(RelayParameters) if f.name not in ("name", "timing", "provenance"))
_TIMING_KEYS = tuple(f.name for f in dataclasses.fields(Timing))
_WHOLE = ("phase_slices", "dead_slots", "pairing_slots")
_TEXT = ("double_clicks", "pulse")
_LISTS = {"arms_km": 4, "node_overlaps": 3}


def preset_text(name: str) -> str:
    """Return the TOML text of a preset."""
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} does not exist; give one of {', '.join(PRESETS)}")
    return resources.files("qrelay_sim").joinpath("presets", f"{name}.toml").read_text(encoding="utf-8")


@lru_cache
def load_preset(name: str) -> RelayParameters:
    """Return a preset by name."""
    return parse_parameters(preset_text(name), f"preset {name}")


def read_parameters(name_or_file: str) -> RelayParameters:
    """Return a preset by its name, or what a file holds.

    Raises
    ------
    ValueError
        Naming the file, the key, the value and the limit.
    """
    if name_or_file in PRESETS:
        return load_preset(name_or_file)
    path = Path(name_or_file)
    if not path.is_file():
        raise ValueError(
            f"preset {name_or_file!r} is neither one of {', '.join(PRESETS)} nor a file; "
            "`qrelay keyrate --template` prints a file to start from"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return parse_parameters(text, str(path), default_name=path.stem)


def parse_parameters(text: str, source: str, default_name: str = "user") -> RelayParameters:
    """Read a parameter set from TOML text. Raises ValueError naming `source` and the key."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not valid TOML: {error}") from error
    name = table.pop("name", default_name)
    base_name = table.pop("base", None)
    if not isinstance(name, str) or not (base_name is None or isinstance(base_name, str)):
        raise ValueError(f"{source}: name and base must be texts")
    timing_table = table.pop("timing", None)
    values, provenance = _entries(table, _KEYS, source, "")
    if base_name is not None or set(_KEYS) - set(values) - {"node_overlaps"}:
        base = _base(base_name, source)
        inherited = {key: getattr(base, key) for key in _KEYS}
        sources = {key: base.provenance[key] for key in _KEYS if key in base.provenance}
        if base_name is None:
            sources = {key: f"left out, as in preset A: {text}" for key, text in sources.items()}
        values, provenance = inherited | values, sources | provenance
    timing = None
    if timing_table is not None:
        if not isinstance(timing_table, dict):
            raise ValueError(f"{source}: timing must be a table, [timing]")
        shapes, shape_sources = _entries(timing_table, _TIMING_KEYS, source, "timing.")
        provenance |= {f"timing.{key}": shape_sources.get(key, "left out, default") for key in _TIMING_KEYS}
        timing = _checked(Timing, shapes, source)
    provenance = {key: provenance.get(key, "default") for key in (*_KEYS, *provenance)}
    fields = {**values, "name": name, "timing": timing, "provenance": provenance}
    relay: RelayParameters = _checked(RelayParameters, fields, source)
    return relay


def _base(name: str | None, source: str) -> RelayParameters:
    if name is None:
        # Preset A itself leaves nothing out but node_overlaps, so this ends.
        return load_preset("A")
    if name not in PRESETS:
        raise ValueError(f"{source}: base {name!r} does not exist; give one of {', '.join(PRESETS)}")
    return load_preset(name)


def _entries(
    table: Mapping[str, Any], known: tuple[str, ...], source: str, prefix: str
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    provenance: dict[str, str] = {}
    for key, entry in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"there are {', '.join(known)}"
            raise ValueError(f"{source}: no key {prefix}{key}; {hint}")
        if isinstance(entry, dict):
            if "value" not in entry or set(entry) - {"value", "provenance"}:
                raise ValueError(f'{source}: {prefix}{key} {entry}; write {{ value = ..., provenance = "..." }}')
            values[key] = _typed(key, entry["value"], f"{source}: {prefix}{key}")
            provenance[key] = str(entry.get("provenance", NO_SOURCE))
        else:
            values[key], provenance[key] = _typed(key, entry, f"{source}: {prefix}{key}"), NO_SOURCE
    return values, provenance


def _typed(key: str, value: Any, where: str) -> Any:
    if key in _TEXT:
        if not isinstance(value, str):
            raise ValueError(f"{where} {value!r} must be a text in quotes")
        return value
    if key in _LISTS:
        if not isinstance(value, list) or len(value) != _LISTS[key] or not all(_is_number(item) for item in value):
            raise ValueError(f"{where} {value!r} must be a list of {_LISTS[key]} numbers")
        return tuple(float(item) for item in value)
    if not _is_number(value):
        raise ValueError(f"{where} {value!r} must be a number")
    if key in _WHOLE:
        if value != int(value):
            raise ValueError(f"{where} {value!r} must be a whole number")
        return int(value)
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(kind: type[Any], values: Mapping[str, Any], source: str) -> Any:
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
