"""The delay of one detector, in slots and fines."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from qrelay.protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD

from .layouts import WordHits
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["DELAY_WORDS", "Delay"]

DELAY_WORDS = 1024
"""Words that the ring remembers: the longest delay is 4 * 1024 - 1 slots and 255 fines."""

_Sum = data.StructLayout({"fine": 8, "carry": 1, "valid": 1})


class Delay(wiring.Component):
    """Delay the hits of one detector.

    Whole words come from a ring in block RAM, the rest of the slots from a shift over the border of two words, the
    fines from an addition that may carry a hit into the next slot. A carried hit and the hit of the next slot can so
    meet in one slot: the earlier (the carried one) stays, the other is reported as `extra`.

    Only hits of the present run appear: the ring is not cleared between runs, its words are taken as empty until the
    run is old enough to have written them. Hits whose delayed slot is after the run's end are lost. A change of the
    delay acts on the words that are read after it.

    Latency: 4 words (from a word to the same word of the output, at delay 0).  Reset: no run, no hit.
    Overflow: see `extra`.

    Ports
    -----
    running : In(1)
        The word belongs to a run.
    hits : In(WordHits)
    delay_slots : In(12)
    delay_fine : In(8)
    delayed : Out(WordHits)
        `fine` means nothing where not `valid`.
    extra : Out(4)
        Lanes with a second hit, which was dropped.
    """

    running: In(1)
    hits: In(WordHits)
    delay_slots: In(range(SLOTS_PER_WORD * DELAY_WORDS))
    delay_fine: In(range(FINES_PER_SLOT))
    delayed: Out(WordHits)
    extra: Out(SLOTS_PER_WORD)

    latency = 4

    def elaborate(self, platform):
        m = Module()
        delay_lanes = self.delay_slots[:2]
        delay_words = self.delay_slots[2:]

        # Place of the word in the run, modulo the ring.
        place = Signal(range(DELAY_WORDS))
        ring_full = Signal()
        with m.If(self.running):
            m.d.sync += place.eq(place + 1)
            with m.If(place == DELAY_WORDS - 1):
                m.d.sync += ring_full.eq(1)
        with m.Else():
            m.d.sync += place.eq(0)
            m.d.sync += ring_full.eq(0)

        m.submodules.ring = ring = Memory(shape=WordHits, depth=DELAY_WORDS, init=[], attrs=ANY_ON_COLLISION)
        write = ring.write_port()
        m.d.comb += [
            write.addr.eq(place),
            write.data.eq(self.hits),
            write.en.eq(self.running),
        ]
        from_ring = WordHits(slow_read(m, ring, place - delay_words, name="from_ring", enable=self.running))

        # Word 1: the RAM's output. Word 2: its register; delay 0 comes past the RAM, which at equal addresses would
        # give the word written a whole ring ago.
        past_ring = [Signal(WordHits, name=f"past_ring_{word}") for word in (1, 2)]
        fresh = [Signal(name=f"fresh_{word}") for word in (1, 2)]
        running = [Signal(name=f"running_{word}") for word in (1, 2, 3)]
        through_ring = Signal()
        m.d.sync += [
            through_ring.eq(delay_words.any()),
            past_ring[0].eq(self.hits),
            past_ring[1].eq(past_ring[0]),
            fresh[0].eq(self.running & (ring_full | (place >= delay_words))),
            fresh[1].eq(fresh[0]),
            running[0].eq(self.running),
            running[1].eq(running[0]),
            running[2].eq(running[1]),
        ]

        # Word 3: fines added.
        whole = Signal(WordHits)
        m.d.comb += whole.eq(Mux(through_ring, from_ring, past_ring[1]))
        present = data.ArrayLayout(_Sum, SLOTS_PER_WORD)
        now = Signal(present)
        before = Signal(present)
        any_now = Signal()
        any_before = Signal()
        any_whole = Signal()
        m.d.comb += any_whole.eq(fresh[1] & Cat(hit.valid for hit in whole).any())
        m.d.sync += any_now.eq(any_whole)
        m.d.sync += any_before.eq(any_now)
        with m.If(any_whole):
            for lane in range(SLOTS_PER_WORD):
                m.d.sync += [
                    Cat(now[lane].fine, now[lane].carry).eq(whole[lane].fine + self.delay_fine),
                    now[lane].valid.eq(whole[lane].valid),
                ]
        with m.Elif(any_now):
            m.d.sync += now.eq(0)
        with m.If(any_now | any_before):
            m.d.sync += before.eq(now)

        # Word 4: lanes shifted. Slot k - 1 of the shifted stream is `shifted[k]`: a slot takes the hit carried out of
        # the slot before it, or else its own.
        active = Signal()
        m.d.comb += active.eq(running[2] & (any_now | any_before))
        stream = [*before, *now]
        shifted = [Signal(_Sum, name=f"shifted_{k}") for k in range(SLOTS_PER_WORD + 1)]
        carried = Signal(SLOTS_PER_WORD)
        own = Signal(SLOTS_PER_WORD)
        with m.If(active):
            for k, source in enumerate(shifted):
                m.d.comb += source.eq(Array(stream[SLOTS_PER_WORD - 1 + k - lanes] for lanes in range(4))[delay_lanes])
            for lane in range(SLOTS_PER_WORD):
                m.d.comb += [
                    carried[lane].eq(shifted[lane].valid & shifted[lane].carry),
                    own[lane].eq(shifted[lane + 1].valid & ~shifted[lane + 1].carry),
                ]
        m.d.sync += self.extra.eq(carried & own)
        for lane in range(SLOTS_PER_WORD):
            m.d.sync += self.delayed[lane].valid.eq(carried[lane] | own[lane])
            with m.If(active):
                m.d.sync += self.delayed[lane].fine.eq(Mux(carried[lane], shifted[lane].fine, shifted[lane + 1].fine))
        return m
