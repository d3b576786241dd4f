"""Pins of an SDRAM chip with 16 data pins, for the key bits from outside."""

from dataclasses import dataclass

__all__ = ["SdramWiring"]

_FIXED = ("cke", "cs")


@dataclass(frozen=True, kw_only=True)
class SdramWiring:
    """Pins of the chip: packages' names, or those of the header. Tuples begin with bit 0."""

    clk: str
    cke: str
    cs: str
    ras: str
    cas: str
    we: str
    mask: tuple[str, ...]
    bank: tuple[str, ...]
    address: tuple[str, ...]
    data: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, count in (("mask", 2), ("bank", 2), ("address", 13), ("data", 16)):
            given = len(getattr(self, name))
            if given != count:
                raise ValueError(f"{given} {name} pins of the SDRAM: the chip has {count}")

    @property
    def buses(self) -> dict[str, tuple[str, ...]]:
        """Pins by signal."""
        one = {name: (getattr(self, name),) for name in ("clk", "cke", "cs", "ras", "cas", "we")}
        return one | {name: getattr(self, name) for name in ("mask", "bank", "address", "data")}

    @property
    def uses(self) -> dict[str, str]:
        """Pins by use."""
        return {
            f"sdram_{name}" + (f"_{bit}" if len(pins) > 1 else ""): pin
            for name, pins in self.buses.items()
            for bit, pin in enumerate(pins)
        }

    @property
    def pads(self) -> tuple[str, ...]:
        """Beginnings of the names of the pads that are not at one level for good."""
        return tuple(f"sdram_0__{name}_" for name in self.buses if name not in _FIXED)

    @property
    def pad_cells(self) -> int:
        """Registers in pads: one at each of these."""
        return sum(len(pins) for name, pins in self.buses.items() if name not in _FIXED)

    @property
    def cells(self) -> dict[str, int]:
        """Cells that the netlist must have."""
        return {"ODDRX1F": self.pad_cells, "IDDRX1F": len(self.data)}
