"""The run file of `qrelay demo`, with what the command line changes."""

from importlib import resources

from .protocol.units import SLOTS_PER_BLOCK

__all__ = ["demo_text"]


def demo_text(
    *,
    slots: int | None = None,
    length_km: float | None = None,
    seed: int | None = None,
    dead_slots: int | None = None,
    output: str | None = None,
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
    return tomlkit.dumps(document)
