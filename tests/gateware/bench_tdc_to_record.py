"""cocotb: from the captures of four chains to click records, with both clocks, against the models."""

import dataclasses

import cocotb
import numpy as np
from amaranth.lib import data
from cocotb.triggers import Timer
from receiver_cases import split_bits, tick_bits
from receiver_scenarios import PREAMBLE, exactly_one_per_node, quiet, settings_of_all
from tdc_cases import integers
from tdc_channel_cases import ChannelCase

from benches import pack
from qrelay.protocol.registers import DETECTORS
from qrelay_gateware.layouts import WordRecords, config_layout
from qrelay_gateware.receiver import Receiver
from qrelay_gateware.tdc_encoder import TdcConfig
from qrelay_sim.golden.receiver import receiver, receiver_config

GEAR_PS = 6568
SKEW_PS = 1200
"""Word clock after gear clock."""
WORDS = 1200
CHANNEL_LATENCY = 8
_RECORDS = data.Layout.cast(WordRecords)


class World:
    """Two clocks in step; captures and words go in, records come out."""

    def __init__(self, dut):
        self.dut = dut
        self.records = []

    async def word(self, captures, tick=0):
        """One word clock period: the gear clock edges at its begin and in its middle, with their captures.

        As in the station, the word's tick comes after the edge at its begin.
        """
        dut = self.dut
        dut.gear_clk.value = 1
        # What the outputs hold before the edge belongs to the word that it ends.
        await Timer(SKEW_PS, unit="ps")
        self.records.append(int(dut.clicks.value))
        dut.clk.value = 1
        for half, taps in enumerate(captures):
            if half:
                dut.gear_clk.value = 1
                await Timer(SKEW_PS, unit="ps")
            dut.capture.value = 1 - half
            for d, bits in enumerate(taps):
                getattr(dut, f"taps_{d}").value = bits
            await Timer(GEAR_PS // 2 - SKEW_PS, unit="ps")
            dut.gear_clk.value = 0
            # Not at an edge of the word clock, which would take it or not by chance.
            dut.tick.value = tick
            if half:
                dut.clk.value = 0
            await Timer(GEAR_PS // 2, unit="ps")


@cocotb.test()
async def captures_to_click_records(dut):
    """Delays, gates and dead times behind calibrated times; every record of every word equals the models'."""
    cases = [ChannelCase(20 + d, WORDS, "68"[d % 2]) for d in range(DETECTORS)]
    latency = CHANNEL_LATENCY
    settings = {"enable": 1} | settings_of_all(
        delay_slots=[0, 3, 8, 1],
        delay_fine=[0, 100, 255, 17],
        dead_slots=[0, 12, 5, 0],
        gate_start=[0, 10, 200, 0],
        gate_width=[256, 180, 120, 256],
    )
    stimulus = quiet(WORDS, start_word=77)
    total = len(stimulus.running)
    valid = np.zeros((DETECTORS, 4 * total), bool)
    fine = np.zeros((DETECTORS, 4 * total), np.uint8)
    first = 4 * (PREAMBLE + latency)
    room = min(4 * WORDS, 4 * total - first)
    for d, case in enumerate(cases):
        valid[d, first : first + room] = case.words.valid[:room]
        fine[d, first : first + room] = case.words.fine[:room]
    stimulus = dataclasses.replace(stimulus, valid=valid, fine=fine)
    model = receiver(settings, exactly_one_per_node(), stimulus)

    world = World(dut)
    for name in ("clk", "gear_clk", "rst", "gear_rst", "capture", "tick", *(f"taps_{d}" for d in range(DETECTORS))):
        getattr(dut, name).value = 0
    dut.config.value = pack(data.Layout.cast(config_layout("receiver")), receiver_config(settings))
    idle = [[0] * DETECTORS] * 2
    # Each chain has its own span, so each detector its own settings.
    for d, case in enumerate(cases):
        getattr(dut, f"tdc_config_{d}").value = pack(data.Layout.cast(TdcConfig), case.config)
        getattr(dut, f"table_{d}__enable").value = 1
    for code in range(512):
        for d, case in enumerate(cases):
            getattr(dut, f"table_{d}__address").value = code
            getattr(dut, f"table_{d}__value").value = int(case.table[code])
        await world.word(idle)
    for d in range(DETECTORS):
        getattr(dut, f"table_{d}__enable").value = 0
    for _ in range(8):
        await world.word(idle)

    ticks = tick_bits(**{f: getattr(stimulus, f) for f in ("running", "slot_word", "segment", "frame", "frame_last")})
    taps = [[0] * (2 * PREAMBLE) + integers(case.taps) for case in cases]
    world.records.clear()
    for word in range(total):
        # The capture at the begin of a word is the last of the word before.
        captures = [[column[n] if 0 <= n < len(column) else 0 for column in taps] for n in (2 * word - 1, 2 * word)]
        await world.word(captures, ticks[word])
    seen = world.records[Receiver.latency + 1 :]
    records = split_bits([bits >> _RECORDS["valid"].offset for bits in seen], 1, 4)
    items = split_bits([bits >> _RECORDS["items"].offset for bits in seen], 14, 4)
    found = np.where(records, items, -1)
    expected = model.clicks[: len(found)]
    assert (expected >= 0).sum() > 400
    np.testing.assert_array_equal(found, expected)
    some = records.any(axis=1)
    words = np.array([bits & (1 << 46) - 1 for bits in seen])
    np.testing.assert_array_equal(words[some], stimulus.slot_word[: len(seen)][some])
