"""Registers in the pads of an SDRAM chip.

The chip's clock leaves by a gearbox at half a word clock, so that it rises in the middle of what leaves by all other
gearboxes: 6.5 ns before and after. Its data are there from 6.0 ns after that edge to 2.5 ns after the next one (CAS
latency 2, grade -7), and are taken with a falling edge of the word clock, 13.1 ns after the one that gave the clock:
the ways out and back together may take up to 7.1 ns, about 2.3 ns put the sample in the middle. The tool does not know
them, nobody has measured them. Whole clocks in the cells on the way need not be known: the
ring finds them out (`qrelay_gateware.sdram_ring`).
"""

from amaranth.build import Attrs, Pins, Resource, Subsignal
from amaranth.hdl import Cat, Const
from amaranth.lib import io

from .sdram_wiring import SdramWiring

__all__ = ["add_sdram"]

_INPUTS = {"data": "io"}
_FALLING = 1
"""Sample of a gearbox at the falling edge."""


def add_sdram(m, platform, wiring: SdramWiring, level: str, pins) -> None:
    """Connect `pins` (`qrelay_gateware.sdram.SdramPins`, of the station) to the chip at the pads."""
    platform.add_resources(
        [
            Resource(
                "sdram",
                0,
                *(
                    Subsignal(name, Pins(" ".join(places), dir=_INPUTS.get(name, "o")))
                    for name, places in wiring.buses.items()
                ),
                Attrs(IO_TYPE=level, SLEWRATE="FAST", DRIVE="4", PULLMODE="NONE"),
            )
        ]
    )
    port = platform.request("sdram", dir="-")
    m.submodules.sdram_clk = clock = io.DDRBuffer("o", port.clk)
    m.d.comb += clock.o.eq(Cat(Const(0, 1), Const(1, 1)))
    command = pins.command.as_value()
    for name, value in (
        ("ras", command[2]),
        ("cas", command[1]),
        ("we", command[0]),
        ("bank", pins.bank),
        ("address", pins.address),
        ("mask", pins.mask.replicate(2)),
    ):
        # Through the same kind of cell as the clock: equally late.
        m.submodules[f"sdram_{name}"] = buffer = io.DDRBuffer("o", getattr(port, name))
        m.d.comb += [half.eq(value) for half in buffer.o]
    m.submodules.sdram_data = data = io.DDRBuffer("io", port.data)
    m.d.comb += [*(half.eq(pins.data) for half in data.o), data.oe.eq(pins.drive)]
    m.d.comb += pins.read_data.eq(data.i[_FALLING])
    for name, level_of_pin in (("cke", 1), ("cs", 0)):
        m.submodules[f"sdram_{name}"] = fixed = io.Buffer("o", getattr(port, name))
        m.d.comb += fixed.o.eq(level_of_pin)
