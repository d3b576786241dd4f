"""Host side of the qrelay quantum relay: boards, runs, sifting, key."""

__version__ = "0.1.0"
