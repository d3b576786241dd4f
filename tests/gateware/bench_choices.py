"""cocotb: the exported choice mapper against its golden model."""

import cocotb
from amaranth.lib import data
from choice_cases import TICK_LAYOUT, expected_words, random_words
from clocked import clocked_words

from benches import pack
from qrelay_gateware.choices import ChoiceMapper
from qrelay_gateware.layouts import config_layout
from qrelay_sim.golden.sequencer import TICKS

CONFIG = data.Layout.cast(config_layout("keystream"))


@cocotb.test()
@cocotb.parametrize(seed=list(range(100, 110)))
async def random(dut, seed):
    ticks, draws, thresholds, enable = random_words(seed, 800)
    columns = {
        "tick": [pack(TICK_LAYOUT, {name: int(tick[name]) for name in TICKS.names}) for tick in ticks],
        "draws": [sum(int(draw) << 16 * lane for lane, draw in enumerate(four)) for four in draws],
    }
    config = pack(CONFIG, {"enable": enable} | {f"threshold_{k}": t for k, t in enumerate(thresholds, 1)})
    seen = await clocked_words(dut, columns, ["choices", "tick_out"], config=config)
    late = ChoiceMapper.latency
    assert seen["choices"][late:] == expected_words(ticks, draws, thresholds, enable)[:-late]
    assert seen["tick_out"][late:] == columns["tick"][:-late]
