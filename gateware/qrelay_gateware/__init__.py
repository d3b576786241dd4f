"""The gateware of a qrelay station, in Amaranth."""
