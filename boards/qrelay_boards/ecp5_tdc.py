"""Carry chains of the ECP5 as time-to-digital converters: the cells that measure, one chain per detector pad.

A chain that synthesis understands is a chain that synthesis removes: what a row of carry cells computes from constants
and one pad can be foreseen. So the cells go through synthesis as a black box of another name and get their own name
back afterwards. `chain_check` looks at what place and route made of them.

The tap widths that anything here relies on come from the timing model of the place-and-route tool. Bin widths and
linearity on silicon are unknown until measured on a board.
"""

from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.tdc import TAPS

__all__ = [
    "BLACK_BOX",
    "CARRY_CELL",
    "START_TABLES",
    "START_TAPS",
    "TAP_TABLE",
    "UNSEAL",
    "CarryChain",
    "FreeOscillator",
]

CARRY_CELL = "QRELAY_CARRY"
"""Name of the carry cell during synthesis."""

BLACK_BOX = f"""(* blackbox *)
module {CARRY_CELL}(
    input CIN, A0, B0, C0, D0, A1, B1, C1, D1,
    output S0, S1, COUT
);
    parameter [15:0] INIT0 = 0;
    parameter [15:0] INIT1 = 0;
    parameter INJECT1_0 = "NO";
    parameter INJECT1_1 = "NO";
endmodule
"""
"""Verilog that synthesis reads beforehand."""

UNSEAL = f"chtype -set CCU2C t:{CARRY_CELL}"
"""Synthesis command that comes last."""

START_TAPS = 2
"""Places in the carry chain before the first tap: the cell that takes pad and oscillator."""

# Half a carry cell gives CIN where its four-input table is 1, else what its two-input table (the lowest four entries)
# gives (FPGA-TN-02229). D is tied high, so the upper eight entries are the four-input table.
START_TABLES = (
    0x0002,  # carry = A and not B
    0x77FF,  # carry = carry or (A and B)
)
TAP_TABLE = 0xFFFF  # carry = carry, sum = not carry

OSCILLATOR_DIVIDER = 12
"""25.8 MHz of the nominal 310 MHz (FPGA-TN-02200): pulses and gaps twice as long as a chain, and one hit in 5.9
captures on average, which is no simple part of the capture rate."""


class FreeOscillator(wiring.Component):
    """OSCG, the oscillator on the die: locked neither to the reference nor to the board's own oscillator.

    Its rate is between 85 % and 115 % of nominal. It serves as source of hits for code density and clocks nothing.

    Latency, reset, overflow: none; it runs from configuration on.

    Ports
    -----
    level : Out(1)
        Asynchronous.
    """

    level: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.oscg = Instance("OSCG", p_DIV=OSCILLATOR_DIVIDER, o_OSC=self.level)
        return m


class CarryChain(wiring.Component):
    """The level at a pad, sampled at many ages at once.

    An edge runs along the carry chain. All taps are captured by the same clock edge, each in the flip-flop of its own
    slice, so tap k shows the level that the pad had the chain's delay up to k before. The chain's first cell has the
    two sources as inputs of its own look-up tables: nothing stands between pad and chain.

    Latency: 1 gear clock from the pad to `taps`, plus the delays of pad and wire to the chain, which belong to the
    bitstream.  Reset: none; the flip-flops start as if the pad had been high.  Overflow: none. A flip-flop whose input
    changes at the clock edge may be metastable: each tap may go to one flip-flop only.

    Parameters
    ----------
    taps : int
        An even number; a carry cell has two.

    Ports
    -----
    pad : In(1)
        From an input buffer; it may feed nothing else.
    oscillator : In(1)
        Other source, for calibration.
    use_oscillator : In(1)
        Any domain but the gear clock's: its way to the last tap is longer than a gear clock. Pulses of either source
        may be cut where it changes.
    taps : Out(taps)
        Captured levels, tap 0 the newest; domain ``gear``.
    """

    def __init__(self, taps: int = TAPS):
        if taps < 2 or taps % 2:
            raise ValueError(f"taps {taps}: carry cells hold two taps each; give an even number")
        super().__init__({"pad": In(1), "oscillator": In(1), "use_oscillator": In(1), "taps": Out(taps)})

    def elaborate(self, platform):
        m = Module()
        carry = Signal(name="carry_start")
        m.submodules.start = Instance(
            CARRY_CELL,
            a_keep=1,
            p_INIT0=Const(START_TABLES[0], 16),
            p_INIT1=Const(START_TABLES[1], 16),
            p_INJECT1_0="NO",
            p_INJECT1_1="NO",
            i_A0=self.pad,
            i_B0=self.use_oscillator,
            i_A1=self.oscillator,
            i_B1=self.use_oscillator,
            **{f"i_{pin}": Const(1) for pin in ("C0", "D0", "C1", "D1")},
            i_CIN=Const(0),
            o_COUT=carry,
        )
        sums = Signal(len(self.taps))
        for number in range(len(sums) // 2):
            # The last one leads nowhere; place and route wants it none the less, and ends it with a cell of its own.
            onward = Signal(name=f"carry_{number}")
            m.submodules[f"cell_{number}"] = Instance(
                CARRY_CELL,
                a_keep=1,
                p_INIT0=Const(TAP_TABLE, 16),
                p_INIT1=Const(TAP_TABLE, 16),
                p_INJECT1_0="NO",
                p_INJECT1_1="NO",
                **{f"i_{pin}{half}": Const(1) for pin in "ABCD" for half in (0, 1)},
                i_CIN=carry,
                o_S0=sums[2 * number],
                o_S1=sums[2 * number + 1],
                o_COUT=onward,
            )
            carry = onward
        captured = Signal(len(self.taps), reset_less=True)
        m.d.gear += captured.eq(sums)
        m.d.comb += self.taps.eq(~captured)
        return m
