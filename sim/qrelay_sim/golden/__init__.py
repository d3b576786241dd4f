"""Bit-exact NumPy models of the gateware blocks."""
