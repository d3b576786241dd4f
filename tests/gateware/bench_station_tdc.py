"""cocotb: what a station does for its carry chains, through the link and the channels' ports."""

import cocotb
import numpy as np
from amaranth.lib import data
from station_bench import StationBench
from tdc_cases import packed

from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.windows import window
from qrelay_gateware.tdc_encoder import TdcConfig

_CONFIG = data.Layout.cast(TdcConfig)
CODES = 512


@cocotb.test()
async def times_reach_the_table_of_their_detector(dut):
    bench = StationBench(dut, seed=4)
    await bench.begin()
    entries = np.random.default_rng(8).integers(0, 512, DETECTORS * CODES)
    written = np.full((DETECTORS, CODES), -1)

    words = bench.words

    async def watched(count=1):
        for _ in range(count):
            await words(1)
            enable = int(dut.tdc__enable.value)
            for d in range(DETECTORS):
                if enable >> d & 1:
                    written[d, int(dut.tdc__address.value)] = int(dut.tdc__value.value)

    bench.words = watched
    await bench.write_table("tdc_times", entries)
    np.testing.assert_array_equal(written, entries.reshape(DETECTORS, CODES))


@cocotb.test()
async def settings_reach_their_channel(dut):
    bench = StationBench(dut, seed=5)
    await bench.begin()
    for d in range(DETECTORS):
        await bench.write(**{f"tdc__high_from_{d}": 20 + d, f"tdc__low_from_{d}": 30 + d})
        await bench.write(**{f"receiver__invert_{d}": d % 2})
        await bench.write(**{f"tdc__oscillator_{d}": int(d in (0, 2))})
    await bench.words(4)
    bits = int(dut.tdc__config.value)
    for d in range(DETECTORS):
        config = _CONFIG.from_bits(bits >> d * _CONFIG.size & (1 << _CONFIG.size) - 1)
        assert (config.invert, config.high_from, config.low_from) == (d % 2, 20 + d, 30 + d)
    assert int(dut.tdc__oscillator.value) == 0b0101


@cocotb.test()
async def codes_are_counted_for_one_detector(dut):
    """Random codes on all detectors; those of the chosen one are counted while `run` is set."""
    bench = StationBench(dut, seed=6)
    await bench.begin()
    random = np.random.default_rng(1)
    for chosen in (1, 3):
        await bench.write(tdc__clear=1)
        await bench.words(600)
        assert await bench.read("tdc.busy") == 0
        await bench.write(tdc__detector=chosen, tdc__run=1)
        await bench.words(8)
        counts = np.zeros(CODES, int)
        for _ in range(3000):
            codes = random.integers(0, 40, DETECTORS)
            valid = random.random(DETECTORS) < 0.7
            counts[codes[chosen]] += valid[chosen]
            hits = packed(valid, codes, np.zeros(DETECTORS, int))
            dut.tdc__density.value = sum(int(hit) << 15 * d for d, hit in enumerate(hits))
            await bench.words()
        dut.tdc__density.value = 0
        await bench.words(8)
        await bench.write(tdc__run=0)
        await bench.words(8)
        np.testing.assert_array_equal(await bench.read_words(window("tdc_codes").base, CODES), counts)


@cocotb.test()
async def closer_hits_are_counted(dut):
    bench = StationBench(dut, seed=7)
    await bench.begin()
    await bench.write(system__clear_counters=1)
    random = np.random.default_rng(2)
    totals = np.zeros(DETECTORS, int)
    for _ in range(200):
        extra = random.choice([0, 0, 0, 1, 31], (DETECTORS, 2))
        totals += extra.sum(axis=1)
        dut.tdc__extra.value = sum(int(part) << 5 * n for n, part in enumerate(extra.ravel()))
        await bench.words()
    dut.tdc__extra.value = 0
    await bench.words(4)
    assert [await bench.read(f"tdc.extra_{d}") for d in range(DETECTORS)] == totals.tolist()
    await bench.write(system__clear_counters=1)
    await bench.words(4)
    assert await bench.read("tdc.extra_2") == 0
