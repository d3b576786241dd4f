"""The run file of `qrelay demo`, with what the command line changes."""

from importlib import resources

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
) -> str:
    """Return the demonstration's TOML text; what is given replaces the default, slots rounded up to whole blocks."""
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
    return fast_text(tomlkit.dumps(document)) if fast else tomlkit.dumps(document)


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
