"""What a role of a run needs of a station's pins: boards may have fewer lines or detectors than the design."""

from .config import RunConfig
from .errors import RunError
from .modulation import LINE_NAMES_SENDER, LINE_NAMES_SOURCE
from .protocol.identity import Capability, Identity

__all__ = ["check_wired", "lines_of"]

_OPTIONAL = ("frame marker", "")
"""Lines that a run does without."""


def lines_of(role: str) -> int:
    """Output lines that a role needs, counted from line 0; 0 for the receiver."""
    names = {"source": LINE_NAMES_SOURCE, "receiver": ()}.get(role, LINE_NAMES_SENDER)
    return max((number + 1 for number, name in enumerate(names) if name not in _OPTIONAL), default=0)


def check_wired(name: str, identity: Identity, config: RunConfig) -> None:
    """Raise RunError if station `name` has too few lines or detectors for its role in the run."""
    lines = lines_of(name)
    if identity.lines < lines:
        raise RunError(
            f"station {name} ({identity.board}) has {identity.lines} lines, its role needs {lines}: "
            "use a board with more, or this one as the source"
        )
    taps = [line for line, tap in enumerate(config.fine_delay_taps.of(name)) if tap]
    if taps and Capability.FINE_DELAY not in identity.capabilities:
        raise RunError(
            f"station {name} ({identity.board}) has no fine delay, fine_delay_taps.{name} asks for one on line "
            f"{taps[0]}: leave it out, or use a board with delay elements"
        )
    detectors = len(config.receiver.detectors) if name == "receiver" else 0
    if identity.detectors < detectors:
        raise RunError(
            f"station {name} ({identity.board}) has {identity.detectors} detectors, receiver.detectors lists "
            f"{detectors}: use a board with more, or list fewer"
        )
