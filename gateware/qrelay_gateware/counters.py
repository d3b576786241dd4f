"""Counters of a receiver, and copies of them that can be read in peace."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from qrelay.protocol.registers import DETECTORS, GROUPS, OUTCOMES
from qrelay.protocol.units import SLOTS_PER_WORD

from .aes import BLOCK_RAM
from .clicks import LaneBits
from .counting import ones
from .layouts import stored_read
from .matcher import Outcomes
from .slow_read import ANY_ON_COLLISION, slow_read

__all__ = ["COUNTER_BITS", "Counters"]

_GROUP = next(group for group in GROUPS if group.name == "counters")
_NAMES = [register.name for register in _GROUP.registers]
COUNTER_BITS = 48
_PLACES = len(_NAMES)
_RECENT_BITS = ((2 * _PLACES + 1) * (SLOTS_PER_WORD + 1)).bit_length()
"""Holds what two rounds and the word between can bring, at most five in a word."""


def _memory(width: int) -> Memory:
    return Memory(shape=unsigned(width), depth=_PLACES, init=[], attrs=BLOCK_RAM | ANY_ON_COLLISION)


class Counters(wiring.Component):
    """Count what each word brings.

    `latch` and `clear` ride along with the word they are presented with: the copies show all words before that word,
    and the counters start again from zero with that word itself. Given together, no event is lost or counted twice. All
    counters are copied at the same word, so that sums hold exactly in a copy: singles = dead + gated out + clicks.

    The counters stand in a memory. Every counter has a small register for what came in recently, and each word one
    counter takes that in. A latch puts the small registers aside, all in the same word, and the next round through the
    memory adds them and writes the copies.

    Latency: `latency` words from a word with `latch` to the last of the copies.
    Reset: memories keep what they hold, all 0 after power-up; give a `clear`.
    Overflow: 48 bits, beyond the length of a run; modulo 2^48. A `latch` less than `round_words` words after another is
    not seen; `clear` may come at any time, and makes the round a word longer.

    Parameters
    ----------
    config_domain : str
        Clock domain of `copies`, of the same clock as the counters' own.

    Ports
    -----
    latch, clear : In(1)
    counted : In(1)
        The word's slots count.
    live : In(4)
        Slots in which all detectors of the rule were live; used where `counted`.
    hits, extra, passed, clicks : In(LaneBits)
        Hits after the delay; second hits of a slot; hits not lost to the dead time; of these, gated clicks.
    doubles, vetoed : In(4)
    outcomes : In(Outcomes)
        0 where no success.
    copies : In(stored_read)
        Words of the group `counters` of the register map.
    """

    copies_port = In(stored_read(_GROUP.depth))

    latch: In(1)
    clear: In(1)
    counted: In(1)
    live: In(SLOTS_PER_WORD)
    hits: In(LaneBits)
    extra: In(LaneBits)
    passed: In(LaneBits)
    clicks: In(LaneBits)
    doubles: In(SLOTS_PER_WORD)
    vetoed: In(SLOTS_PER_WORD)
    outcomes: In(Outcomes)
    copies: copies_port

    round_words = _PLACES + 1
    latency = 1 + round_words + 3

    def __init__(self, *, config_domain: str = "sync"):
        self._config_domain = config_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        latch = Signal()
        clear = Signal()
        pause = Signal()
        place = Signal(range(_PLACES))
        # Places that a latch or a clear has still to visit, and whether there are any, from a register.
        to_latch = Signal(range(_PLACES + 1))
        to_clear = Signal(range(_PLACES + 1))
        latching = Signal()
        clearing = Signal()
        from_zero = Signal()
        """The latch found a clear that had not been through the memory: all counts as zero."""
        m.d.comb += pause.eq(latch | clear)
        m.d.sync += [latch.eq(self.latch & (to_latch <= 1) & ~latch), clear.eq(self.clear)]
        with m.If(~pause):
            m.d.sync += [
                place.eq(Mux(place == _PLACES - 1, 0, place + 1)),
                to_latch.eq(to_latch - latching),
                to_clear.eq(to_clear - clearing),
                latching.eq(to_latch > 1),
                clearing.eq(to_clear > 1),
            ]
        with m.If(latch):
            m.d.sync += [to_latch.eq(_PLACES), latching.eq(1), from_zero.eq(clearing), to_clear.eq(0), clearing.eq(0)]
        with m.If(clear):
            m.d.sync += [to_clear.eq(_PLACES), clearing.eq(1)]

        recent = {name: Signal(_RECENT_BITS, name=f"recent_{name}") for name in _NAMES}
        aside = {name: Signal(_RECENT_BITS, name=f"aside_{name}") for name in _NAMES}
        step = self._steps(m, recent)
        with m.If(latch):
            m.d.sync += [aside[name].eq(recent[name]) for name in _NAMES]
        # One counter hands over what came in recently. Not in the word of a latch or clear, nor in the round after it,
        # which is theirs.
        added = Signal(_RECENT_BITS)
        with m.Switch(place):
            for n, name in enumerate(_NAMES):
                with m.Case(n):
                    with m.If(latching):
                        m.d.sync += added.eq(aside[name])
                    with m.Else():
                        m.d.sync += added.eq(recent[name])
                        with m.If(~clearing):
                            m.d.sync += recent[name].eq(step[name])
        with m.If(pause):
            m.d.sync += [recent[name].eq(step[name]) for name in _NAMES]
        visit = {
            "place": place,
            "acts": ~pause,
            "copies": latching,
            "clears": clearing,
            "from_zero": from_zero & latching,
        }
        self._totals(m, added, visit)
        return m

    def _totals(self, m, added, visit) -> None:
        """Totals and their copies: read, take the answer, add, write, each in a word of its own."""
        at = [visit]
        for word in (1, 2, 3):
            at.append({name: Signal.like(bits, name=f"{name}_{word}") for name, bits in visit.items()})
            m.d.sync += [at[word][name].eq(at[word - 1][name]) for name in visit]
        addend = Signal.like(added)
        total = Signal(COUNTER_BITS)
        changes = Signal()
        m.submodules.totals = totals = _memory(COUNTER_BITS)
        write = totals.write_port()
        base = slow_read(m, totals, visit["place"], name="base")
        m.d.sync += [
            addend.eq(added),
            total.eq(Mux(at[2]["from_zero"], 0, base) + addend),
            changes.eq(at[2]["acts"] & ((addend != 0) | at[2]["copies"] | at[2]["clears"])),
        ]
        m.d.comb += [
            write.addr.eq(at[3]["place"]),
            write.data.eq(Mux(at[3]["clears"], 0, total)),
            write.en.eq(changes),
        ]

        # A register holds each half before one is chosen: a block RAM is slow to answer.
        half = Signal(2)
        m.d[self._config_domain] += half.eq(Cat(self.copies.address[0], half))
        halves = []
        for name, part in (("low", total[:32]), ("high", total[32:])):
            m.submodules[f"copies_{name}"] = copies = _memory(len(part))
            copied = copies.write_port()
            m.d.comb += [
                copied.addr.eq(at[3]["place"]),
                copied.data.eq(part),
                copied.en.eq(at[3]["copies"] & at[3]["acts"]),
            ]
            halves.append(
                slow_read(m, copies, self.copies.address >> 1, name=f"copy_{name}", domain=self._config_domain)
            )
        m.d.comb += self.copies.value.eq(Mux(half[1], halves[1], halves[0]))

    def _steps(self, m, recent):
        """What this word adds to each counter, from a register; the small registers take it."""
        steps = {}

        def count(event, sums, *, event_is_late=False):
            """Registered sums of a word, 0 where it has no `event`.

            They are so by themselves, and a simulation need not make them then; from a late event that is a long way.
            """
            any_step = Signal()
            step = {name: Signal(range(maximum + 1), name=f"step_{name}") for name, (_, maximum) in sums.items()}
            m.d.sync += any_step.eq(event)
            if event_is_late:
                m.d.sync += [step[name].eq(value) for name, (value, _) in sums.items()]
            else:
                with m.If(event):
                    m.d.sync += [step[name].eq(value) for name, (value, _) in sums.items()]
                with m.Elif(any_step):
                    m.d.sync += [value.eq(0) for value in step.values()]
            with m.If(any_step):
                m.d.sync += [recent[name].eq(recent[name] + step[name]) for name in sums]
            steps.update(step)

        count(
            self.counted,
            {"slots": (SLOTS_PER_WORD, SLOTS_PER_WORD), "live_slots": (ones(self.live), SLOTS_PER_WORD)},
        )
        of_detector = {}
        for d in range(DETECTORS):
            extra = ones(self.extra[d])
            # A fine delay can put five hits of one detector in a word, never more.
            of_detector[f"singles_{d}"] = (ones(self.hits[d]) + extra, SLOTS_PER_WORD + 1)
            of_detector[f"dead_{d}"] = (ones(self.hits[d] & ~self.passed[d]) + extra, SLOTS_PER_WORD + 1)
            of_detector[f"gated_out_{d}"] = (ones(self.passed[d] & ~self.clicks[d]), SLOTS_PER_WORD)
            of_detector[f"clicks_{d}"] = (ones(self.clicks[d]), SLOTS_PER_WORD)
        count(self.hits.as_value().any(), of_detector)
        in_pattern = {
            "doubles": (ones(self.doubles), SLOTS_PER_WORD),
            "vetoed": (ones(self.vetoed), SLOTS_PER_WORD),
        }
        one_hot = [Const(1, OUTCOMES) << self.outcomes[lane] for lane in range(SLOTS_PER_WORD)]
        for outcome in range(1, OUTCOMES):
            same = Cat(bits[outcome] for bits in one_hot)
            in_pattern[f"outcome_{outcome}"] = (ones(same), SLOTS_PER_WORD)
        some = self.doubles.any() | self.vetoed.any() | self.outcomes.as_value().any()
        count(some, in_pattern, event_is_late=True)
        return steps
