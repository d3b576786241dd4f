"""Proof: the dead time equals a reference that counts slot by slot, for every dead time and every sequence of hits."""

import pytest
from amaranth.hdl import Assert, Assume, Mux, Signal
from formal import Harness, mutant, proves, refutes

from qrelay.protocol.units import SLOTS_PER_WORD
from qrelay_gateware.deadtime import DEAD_SLOTS_BITS, DeadTime


class DeadTimeHarness(Harness):
    """A dead time that holds still; hits, runs and enables that do not."""

    def __init__(self, deadtime=DeadTime):
        super().__init__()
        self.deadtime = deadtime

    def elaborate(self, platform):
        m = self.module()
        m.submodules.dut = dut = self.deadtime()
        valid = self.free(SLOTS_PER_WORD, "valid")
        running = self.free(1, "running")
        enable = self.free(1, "enable")
        dead_slots = self.constant(m, DEAD_SLOTS_BITS, "dead_slots")
        m.d.comb += [
            dut.valid.eq(valid),
            dut.running.eq(running),
            dut.enable.eq(enable),
            dut.dead_slots.eq(dead_slots),
            # A new dead time acts on hits two words later.
            Assume(~self.first(m) | (valid == 0)),
        ]

        left = Signal(DEAD_SLOTS_BITS)
        """Blind slots left, in the reference."""
        rest = left
        expected_live = Signal(SLOTS_PER_WORD)
        expected_blind = Signal(SLOTS_PER_WORD)
        live_now, blind_now = [], []
        for slot in range(SLOTS_PER_WORD):
            blind = Signal(name=f"blind_{slot}")
            live = Signal(name=f"live_{slot}")
            after = Signal(DEAD_SLOTS_BITS, name=f"after_{slot}")
            m.d.comb += blind.eq(running & enable & (rest != 0))
            m.d.comb += live.eq(running & enable & valid[slot] & (rest == 0))
            m.d.comb += after.eq(Mux(live, dead_slots, Mux(rest == 0, 0, rest - 1)))
            blind_now.append(blind)
            live_now.append(live)
            rest = after
        for slot in range(SLOTS_PER_WORD):
            m.d.sync += expected_live[slot].eq(live_now[slot])
            m.d.sync += expected_blind[slot].eq(blind_now[slot])
        m.d.sync += left.eq(Mux(running & enable, rest, 0))
        m.d.comb += Assert(dut.live == expected_live)
        m.d.comb += Assert(dut.blind == expected_blind)

        # What makes the induction close: the block and the reference agree about the slots left.
        self.invariant(m, self.peek(DEAD_SLOTS_BITS, "dut.left") == left)
        reaches = self.peek(SLOTS_PER_WORD, "dut.reaches")
        hit_reaches = self.peek(SLOTS_PER_WORD, "dut.hit_reaches")
        for slot in range(SLOTS_PER_WORD):
            self.invariant(m, reaches[slot] == (left > slot))
            self.invariant(m, self.first(m) | (hit_reaches[slot] == (dead_slots > slot)))
            passed = SLOTS_PER_WORD - 1 - slot
            reload = self.peek(DEAD_SLOTS_BITS, f"dut.reload_{slot}")
            reload_reaches = self.peek(SLOTS_PER_WORD, f"dut.reload_reaches_{slot}")
            self.invariant(m, self.first(m) | (reload == Mux(dead_slots > passed, dead_slots - passed, 0)))
            for reached in range(SLOTS_PER_WORD):
                self.invariant(m, self.first(m) | (reload_reaches[reached] == (dead_slots > passed + reached)))
        return m


def test_deadtime(tmp_path):
    proves(DeadTimeHarness(), tmp_path, clocks=2, induction=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # One slot too short, one slot too long, a lost hit extends the dead time, a hit in the same word is forgotten.
        ("hit_reaches[lane - earlier - 1]", "hit_reaches[lane - earlier]"),
        ("Cat(self.dead_slots > passed + slots for", "Cat(self.dead_slots >= passed + slots for"),
        ("with m.If(live[3])", "with m.If(self.valid[3])"),
        ("Const(0))", "Const(0)) & ~self.valid[0]"),
        ("beyond_next | (left[2] & left[1]),", "beyond_next | left[2],"),
        ("[left.eq(0), reaches.eq(0)]", "[left.eq(0)]"),
    ],
)
def test_deadtime_mutants(tmp_path, old, new):
    refutes(DeadTimeHarness(mutant(DeadTime, old, new)), tmp_path, clocks=6)
