"""The digital twin: the boards' own RTL, compiled to native code, with the optics between the boards."""

from .loop import STATIONS, Twin
from .native import BuildError

__all__ = ["STATIONS", "BuildError", "Twin"]
