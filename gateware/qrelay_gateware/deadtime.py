"""The dead time of one detector, four slots per clock."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import SLOTS_PER_WORD

__all__ = ["DEAD_SLOTS_BITS", "DeadTime"]

DEAD_SLOTS_BITS = 16


class DeadTime(wiring.Component):
    """Let a hit through unless its detector is blind, and tell in which slots it is blind.

    A live hit in slot s makes slots s + 1 .. s + `dead_slots` blind; a hit in a blind slot is lost and does not extend
    the dead time. The slot of the hit itself is not blind.

    The state is the number of blind slots left at the start of the word, with flags for the comparisons of each lane,
    so that no lane waits for an addition of another.

    Latency: 1 word.  Reset, no run, or not enabled: not blind.  Overflow: none.
    A change of `dead_slots` acts on live hits from two words later on.

    Parameters
    ----------
    config_domain : str
        Clock domain of what follows from `dead_slots` alone: any that is clocked when it changes, and in the word
        after.

    Ports
    -----
    running : In(1)
        The word belongs to a run.
    enable : In(1)
        The detector is in use. Otherwise it has no hits and is never blind.
    valid : In(4)
        Hits by lane.
    dead_slots : In(16)
    live : Out(4)
        Hits that pass.
    blind : Out(4)
        Slots in which a hit would be lost.
    """

    running: In(1)
    enable: In(1)
    valid: In(SLOTS_PER_WORD)
    dead_slots: In(DEAD_SLOTS_BITS)
    live: Out(SLOTS_PER_WORD)
    blind: Out(SLOTS_PER_WORD)

    latency = 1

    def __init__(self, *, config_domain: str = "sync"):
        self._config_domain = config_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        lanes = range(SLOTS_PER_WORD)

        # Blind slots left at the end of a word with its last live hit in each lane, and whether that or the dead time
        # reaches a number of slots.
        reload = [Signal(DEAD_SLOTS_BITS, name=f"reload_{lane}") for lane in lanes]
        reload_reaches = [Signal(SLOTS_PER_WORD, name=f"reload_reaches_{lane}") for lane in lanes]
        hit_reaches = Signal(SLOTS_PER_WORD)
        config = m.d[self._config_domain]
        for lane in lanes:
            passed = SLOTS_PER_WORD - 1 - lane
            rest = Signal(DEAD_SLOTS_BITS, name=f"rest_{lane}")
            m.d.comb += rest.eq(Mux(self.dead_slots > passed, self.dead_slots - passed, 0))
            config += reload[lane].eq(rest)
            config += reload_reaches[lane].eq(Cat(self.dead_slots > passed + slots for slots in lanes))
        config += hit_reaches.eq(Cat(self.dead_slots > slots for slots in lanes))

        # `reaches[k]`: more than k blind slots left, so that lane k is blind from the words before.
        left = Signal(DEAD_SLOTS_BITS)
        reaches = Signal(SLOTS_PER_WORD)
        blind = Signal(SLOTS_PER_WORD)
        live = Signal(SLOTS_PER_WORD)
        with m.If(~(self.running & self.enable)):
            m.d.sync += [left.eq(0), reaches.eq(0)]
        with m.Elif(self.valid.any() | reaches[0]):
            for lane in lanes:
                in_word = Cat(live[earlier] & hit_reaches[lane - earlier - 1] for earlier in range(lane)).any()
                m.d.comb += blind[lane].eq(reaches[lane] | (in_word if lane else Const(0)))
                m.d.comb += live[lane].eq(self.valid[lane] & ~blind[lane])
            with m.If(live[3]):
                m.d.sync += [left.eq(reload[3]), reaches.eq(reload_reaches[3])]
            with m.Elif(live[2]):
                m.d.sync += [left.eq(reload[2]), reaches.eq(reload_reaches[2])]
            with m.Elif(live[1]):
                m.d.sync += [left.eq(reload[1]), reaches.eq(reload_reaches[1])]
            with m.Elif(live[0]):
                m.d.sync += [left.eq(reload[0]), reaches.eq(reload_reaches[0])]
            with m.Else():
                beyond_next = left[3:].any()
                m.d.sync += left.eq(Mux(reaches[3], left - SLOTS_PER_WORD, 0))
                m.d.sync += reaches.eq(
                    Cat(
                        beyond_next | (left[2] & left[:2].any()),
                        beyond_next | (left[2] & left[1]),
                        beyond_next | (left[2] & left[1] & left[0]),
                        beyond_next,
                    )
                )
        m.d.sync += self.live.eq(live)
        m.d.sync += self.blind.eq(blind)
        return m
