"""The run file of `qrelay demo`, with what the command line changes."""

from importlib import resources
from typing import Any

from .errors import ConfigError
from .protocol.units import SLOTS_PER_BLOCK

__all__ = ["demo_text", "fast_text"]


def demo_text(
    *,
    slots: int | None = None,
    length_km: float | None = None,
    seed: int | None = None,
    dead_slots: int | None = None,
    output: str | None = None,
    fast: bool = False,
    reference: bool = False,
    board_keys: bool = False,
) -> str:
    """Return the demonstration's TOML text; what is given replaces the default, slots rounded up to whole blocks.

    With `reference` each frame begins with bright reference light, from which the run estimates the phase.
    With `board_keys` Alice and Bob make their own keys, a new one every 20 million slots.
    """
    import tomlkit

    document = tomlkit.parse(resources.files("qrelay").joinpath("demo.toml").read_text(encoding="utf-8"))
    if slots is not None:
        document["slots"] = -(-slots // SLOTS_PER_BLOCK) * SLOTS_PER_BLOCK
    if output is not None:
        document["output"] = output
    if length_km is not None:
        document["twin"]["length_km"] = length_km
    if seed is not None:
        document["seed"] = seed
        document["twin"]["seed"] = seed
    if dead_slots is not None:
        document["receiver"]["dead_slots"] = dead_slots
    if reference:
        _add_reference(document)
    if board_keys:
        document["choices"] |= {
            "alice_key": "board",
            "bob_key": "board",
            "reseed_slots": 20_000_000,
            "sample_words": 16,
        }
    return fast_text(tomlkit.dumps(document)) if fast else tomlkit.dumps(document)


def _add_reference(document: Any) -> None:
    """Reference, guard and quantum segments, and the light of the reference, in a parsed run file."""
    import tomlkit

    frame = document["frame"]
    frame["segments"] = [
        {"kind": "reference", "slots": 1280},
        {"kind": "guard", "slots": 128},
        {"kind": "quantum", "slots": 2688},
    ]
    frame["steps"] = [{"setting": "ref", "phase": phase} for phase in (0, 4, 8, 12)]
    frame["step_slots"] = 320
    bright = {"name": "ref", "probability": 0.0, "mean_photon_number": 0.07, "level_code": 3}
    document["settings"].append(tomlkit.item(bright))
    document["twin"]["reference_photon_number"] = 0.14


def fast_text(text: str) -> str:
    """Return a run file's text with the fast twin chosen, comments kept. Raises ConfigError if it is not TOML."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        document.setdefault("twin", tomlkit.table())["engine"] = "fast"
    except TOMLKitError as error:
        raise ConfigError(f"run file: not valid TOML: {error}") from error
    return tomlkit.dumps(document)
