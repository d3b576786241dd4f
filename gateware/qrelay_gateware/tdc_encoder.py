"""A captured carry chain becomes at most one hit with a tap code.

An edge moves along the chain from tap 0 on, so tap k holds the level at the pad d_k before the capture, and a new
rising edge shows as ones up to some tap and zeros beyond it. Around that tap unequal flip-flops leave bubbles. Groups
of eight taps vote for the level; the place of the edge is the number of ones in the two groups at the border.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.tdc import CODE_BITS, GROUP_TAPS, TAPS

from .counting import ones, sum_of_two

__all__ = ["EXTRA_BITS", "TapHit", "TdcConfig", "TdcEncoder", "tdc_config"]

_NIBBLE = 4
_BLOCK_GROUPS = 4
_BLOCK_TAPS = _BLOCK_GROUPS * GROUP_TAPS
_MOST_TAPS = 512
_BRANCH = 3
"""Blocks that one stage joins."""
_FINE_BITS = 3
"""Low bits of a group's number that are compared apart from the others."""
EXTRA_BITS = 5
_LATENCY_OF_ONE_BLOCK = 7
_GROUP_BITS = (_MOST_TAPS // GROUP_TAPS).bit_length()


class TapHit(data.Struct):
    """A hit of one capture. `code`: taps that its edge has passed, less four; it means nothing where not `valid`."""

    valid: 1
    code: CODE_BITS
    extra: EXTRA_BITS
    """Further edges in the same capture, which are counted and not placed."""


class TdcConfig(data.Struct):
    """Settings of one channel; they are held while hits are wanted."""

    invert: 1
    """The detector pulses low: hits are falling edges."""
    high_from: _GROUP_BITS
    """First group that is older than the capture before, if the level was high then."""
    low_from: _GROUP_BITS
    """First group that is older than the capture before, if the level was low then."""


def tdc_config(taps=TAPS):
    """Settings before calibration: all codes may occur; pulses and gaps must be longer than the chain."""
    return {"invert": 0, "high_from": 1, "low_from": taps // GROUP_TAPS}


class TdcEncoder(wiring.Component):
    """Find the rising edge that came between two captures.

    The majority of taps 0 to 7 is the level at the time of the capture. Taps beyond two slots show what the capture
    before has seen already: from group `high_from` on they count as high if that level was high, from `low_from` on as
    low if it was low. So each edge is found in one capture only, whatever the bubbles; before the span of the chain is
    known (`tdc_config`) this still holds for pulses and gaps longer than the chain.

    An edge is a border of two high groups (one at the start of the chain) and an older low one. Its code is the number
    of ones in the groups on both sides: bubbles within three taps of the edge count as they would with all taps summed.
    Pulses of at least 15 taps and gaps of at least 9 are always seen, shorter ones may be taken for bubbles; a pulse
    must be 16 taps long for an exact code. With several edges the oldest is the hit and the others are `extra`: at most
    one hit per capture, that is, per two slots.

    A chain that is too short gives codes up to the last, `codes_of(taps) - 1`: calibration refuses it.

    Latency: `latency` captures, 9 for 128 to 288 taps.
    Reset: none; the registers start as if the input had been high (no hit from a line that idles high), and a reset of
    the clock domain does not disturb them.
    Overflow: none, one result per capture.

    Parameters
    ----------
    taps : int
        A multiple of 32, 64 to 512.

    Ports
    -----
    config : In(TdcConfig)
    taps : In(taps)
        Captured levels, tap 0 the newest. They may be metastable: each goes to one flip-flop.
    hit : Out(TapHit)
    """

    def __init__(self, taps: int = TAPS):
        if taps % _BLOCK_TAPS or not 2 * _BLOCK_TAPS <= taps <= _MOST_TAPS:
            raise ValueError(
                f"taps {taps}: a chain has a multiple of {_BLOCK_TAPS} taps, {2 * _BLOCK_TAPS} to {_MOST_TAPS}"
            )
        self.latency = _LATENCY_OF_ONE_BLOCK + _levels(taps // _BLOCK_TAPS)
        super().__init__({"config": In(TdcConfig), "taps": In(taps), "hit": Out(TapHit)})

    def elaborate(self, platform):
        m = Module()
        groups = len(self.taps) // GROUP_TAPS
        blocks = groups // _BLOCK_GROUPS

        def register(value, name, init=0):
            copy = Signal(len(value), name=name, init=init, reset_less=True)
            m.d.sync += copy.eq(value)
            return copy

        # 1: settle, and choose the polarity. 2: ones of nibbles. 3: ones of groups.
        levels = register(self.taps ^ self.config.invert.replicate(len(self.taps)), "levels", init=-1)
        nibbles = [
            register(ones(levels.word_select(n, _NIBBLE)), f"nibble_{n}", init=_NIBBLE)
            for n in range(len(self.taps) // _NIBBLE)
        ]
        counts = [
            register((nibbles[2 * g] + nibbles[2 * g + 1])[:4], f"count_{g}", init=GROUP_TAPS) for g in range(groups)
        ]

        # 4: levels of groups; those of the time before the last capture are known.
        before = register(counts[0][2] | counts[0][3], "before", init=1)
        # In two steps, as a comparison with all of a setting's bits would be the longest way of the channel.
        from_high = _from_group(register, self.config.high_from, "high_from", groups)
        from_low = _from_group(register, self.config.low_from, "low_from", groups)
        high = []
        for g, count in enumerate(counts):
            known_high = register(from_high[g], f"known_high_{g}", init=1)
            known_low = register(from_low[g], f"known_low_{g}")
            majority = count[2] | count[3]
            high.append(register((majority | (before & known_high)) & (before | ~known_low), f"high_{g}", init=1))
        # A high group has 4 to 8 ones: 0 to 4 beyond half. A low one has 0 to 3.
        beyond_half = [register(Cat(count[:2], count[3]), f"beyond_half_{g}") for g, count in enumerate(counts)]

        # 5: edges of each block of four groups, of which it can hold two: the groups 0 and 3.
        newer, older = [Const(1), *high[:-1]], [*high[1:], Const(1)]
        edges = [newer[g] & high[g] & ~older[g] for g in range(groups)]
        found, oldest, further = [], [], []
        for b in range(blocks):
            edge = edges[b * _BLOCK_GROUPS : (b + 1) * _BLOCK_GROUPS]
            found.append(register(reduce(or_, edge), f"found_{b}"))
            oldest.append(register(Cat(edge[3] | (edge[1] & ~edge[2]), edge[3] | edge[2]), f"oldest_{b}"))
            further.append(register(edge[0] & edge[3], f"further_{b}"))
        beyond_half = [register(value, f"beyond_half_at_edge_{g}") for g, value in enumerate(beyond_half)]

        # 6: each block offers its oldest edge; the oldest block that has one is chosen.
        offers = []
        for b in range(blocks):
            inside = Cat(beyond_half[b * _BLOCK_GROUPS : (b + 1) * _BLOCK_GROUPS]).word_select(oldest[b], 3)
            following = [*beyond_half, Const(0, 3)][b * _BLOCK_GROUPS + 1 : (b + 1) * _BLOCK_GROUPS + 1]
            outside = Cat(value[:2] for value in following).word_select(oldest[b], 2)
            content = register(Cat(inside, outside, oldest[b]), f"offer_{b}")
            chosen = register(found[b] & ~Cat(found[b + 1 :]).any(), f"chosen_{b}")
            offers.append(Cat(content, Const(b, _BLOCK_GROUPS), Const(1)) & chosen.replicate(len(content) + 5))
        # Found and further ones are counted apart: two look-up tables deep, where a sum of three pairs would be five.
        totals = [
            register(sum_of_two(ones(some)[:2], ones(rest)[:2]), f"total_{i}")
            for (i, some), (_, rest) in zip(_threes(found), _threes(further), strict=True)
        ]

        # 7 to 8: three values become one. 9: the ones on both sides of the edge.
        while len(offers) > 1:
            offers = [register(reduce(or_, some), f"offer_of_{len(offers)}_{i}") for i, some in _threes(offers)]
        while len(totals) > 1:
            totals = [register(sum(some, Const(0)), f"total_of_{len(totals)}_{i}") for i, some in _threes(totals)]
        (offer,), total = offers, register(totals[0], "total")
        inside, outside, group, valid = offer[:3], offer[3:5], offer[5:-1], offer[-1]
        m.d.comb += self.hit.eq(
            register(Cat(valid, (inside + outside)[:3], group, (total - valid)[:EXTRA_BITS]), "hit")
        )
        return m


def _from_group(register, first, name, groups):
    """For each group whether it is `first` or a later one, a clock after `first` was."""
    fine, coarse = first[:_FINE_BITS], first[_FINE_BITS:]
    within = [register(_is_one_of(fine, range(n + 1)), f"{name}_within_{n}") for n in range(1 << _FINE_BITS)]
    rows = range(-(-groups >> _FINE_BITS))
    before = [register(_is_one_of(coarse, range(row)), f"{name}_before_{row}") for row in rows]
    at = [register(coarse == row, f"{name}_at_{row}") for row in rows]
    places = [divmod(g, 1 << _FINE_BITS) for g in range(groups)]
    return [before[row] | (at[row] & within[n]) for row, n in places]


def _is_one_of(value, numbers):
    return reduce(or_, [value == number for number in numbers], Const(0))


def _threes(values):
    """Up to three values at a time, numbered."""
    return enumerate(values[start : start + _BRANCH] for start in range(0, len(values), _BRANCH))


def _levels(values):
    """Stages until three at a time have become one."""
    return 0 if values == 1 else 1 + _levels(-(-values // _BRANCH))
