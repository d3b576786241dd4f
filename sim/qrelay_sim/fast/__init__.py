"""The fast twin: a relay run drawn event by event, with the choices of exactly the slots where something happens.

Beside the twin that steps the RTL it is bit-exact in its choices and statistically exact in its clicks, at a cost per
event and not per slot. It runs no gateware, and every station it stands for says so.
"""

from .parts import Part
from .receiver_sweep import COUNTERS
from .relay import FastRelay

__all__ = ["COUNTERS", "FastRelay", "Part"]
