"""A channel of the time-to-digital converter, from captured taps to words, against its model."""

import numpy as np
import pytest
from amaranth.lib import data
from amaranth.sim import Simulator
from tdc_cases import integers
from tdc_channel_cases import SLOT_PS, ChannelCase
from tdc_to_record import CaptureToRecord

from benches import run_bench
from qrelay.protocol.units import FINES_PER_SLOT
from qrelay_gateware.tdc_channel import TdcChannel, TdcWord
from qrelay_gateware.tdc_encoder import TapHit

_WORD = data.Layout.cast(TdcWord)
_TAP_HIT = data.Layout.cast(TapHit)
TABLE_WORDS = 512 + 4
CHANNEL_LATENCY = 8


def channel_outputs(case, skew_ps):
    """`word` and `density` by word, and the latency; the word clock comes `skew_ps` after the gear clock."""
    channel = TdcChannel()
    taps = [0] * (2 * TABLE_WORDS) + integers(case.taps)
    seen = []

    async def captures(ctx):
        # Capture n of a word is in the taps from the gear clock's edge on that took it.
        for number, bits in enumerate(taps):
            ctx.set(channel.capture, number % 2)
            ctx.set(channel.taps, bits)
            await ctx.tick("gear")

    async def words(ctx):
        ctx.set(channel.config, case.config)
        ctx.set(channel.table.enable, 1)
        for address, value in enumerate(case.table):
            ctx.set(channel.table.address, address)
            ctx.set(channel.table.value, int(value))
            await ctx.tick()
        ctx.set(channel.table.enable, 0)
        await ctx.tick().repeat(TABLE_WORDS - 512)
        for _ in range(len(case.taps) // 2):
            seen.append((ctx.get(channel.word.as_value()), ctx.get(channel.density.as_value())))
            await ctx.tick()

    simulator = Simulator(channel)
    simulator.add_clock(6e-9, phase=6e-9, domain="gear")
    simulator.add_clock(12e-9, phase=(6000 + skew_ps) * 1e-12)
    simulator.add_testbench(captures)
    simulator.add_testbench(words)
    simulator.run()
    return np.array(seen, object), channel.latency


@pytest.mark.parametrize("skew_ps", [-1200, 1500])
def test_words_against_the_model(skew_ps):
    """Wherever the word clock's edge lies around the gear clock's, words are whole and have one latency."""
    case = ChannelCase(11, 160)
    seen, latency = channel_outputs(case, skew_ps)
    assert latency == CHANNEL_LATENCY
    model = case.words
    assert model.valid.sum() > 20
    for number, (word, density) in enumerate(seen[latency:]):
        word, density = _WORD.from_bits(int(word)), _TAP_HIT.from_bits(int(density))
        for lane in range(4):
            slot = 4 * number + lane
            assert word.hits[lane].valid == model.valid[slot], f"slot {slot}"
            if model.valid[slot]:
                assert word.hits[lane].fine == model.fine[slot], f"slot {slot}"
        assert [word.extra[half] for half in range(2)] == model.extra[2 * number : 2 * number + 2].tolist()
    # The density leaves before the table.
    for number, (_, density) in enumerate(seen[latency - 1 : len(model.first) - 1]):
        density = _TAP_HIT.from_bits(int(density))
        assert density.valid == model.first[number]
        if density.valid:
            assert density.code == model.first_code[number]


@pytest.mark.parametrize("grade", ["6", "8"])
def test_hits_are_where_the_edges_are(grade):
    """The model's own promise: every edge has one hit, its rms error is that of the calibration and the jitter."""
    case = ChannelCase(3, 4000, grade)
    errors = (case.times_fines() - case.edges_fines) * SLOT_PS / FINES_PER_SLOT
    assert len(errors) == len(case.edges_fines)
    # 20 ps of the specification; the jitter of 4.5 ps comes on top of the calibration's own error.
    assert 5 < errors.std() < 20
    # An edge is seen once it has passed four taps: a constant, like the way from the pad to the chain.
    assert 80 < errors.mean() < 180
    assert errors.std() < 1.1 * np.hypot(case.calibration.rms_error_ps, 5) + 2


def test_refuses_a_chain_that_tears_words():
    message = "taps 64: encoder and table take 11 captures, an odd number that tears words apart; give 128 to 288 taps"
    with pytest.raises(ValueError, match=message):
        TdcChannel(64)


@pytest.mark.cocotb
def test_captures_to_records(tmp_path):
    run_bench(CaptureToRecord(), "bench_tdc_to_record", tmp_path)
