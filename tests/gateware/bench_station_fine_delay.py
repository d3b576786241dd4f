"""cocotb: settings of the fine delay reach the elements in the pins, through the link and the station's port."""

import cocotb
from amaranth.lib import data
from station_bench import StationBench

from qrelay.protocol.registers import LINES
from qrelay_gateware.fine_delay import TURN_WORDS, FineDelayPort
from qrelay_sim.golden.fine_delay import DelayElements

_PORT = data.Layout.cast(FineDelayPort)
ROUND_WORDS = LINES * TURN_WORDS


@cocotb.test()
async def elements_follow_their_registers(dut):
    bench = StationBench(dut, seed=9)
    await bench.begin()
    elements = DelayElements(LINES)
    words = bench.words

    async def watched(count=1):
        for _ in range(count):
            await words(1)
            port = _PORT.from_bits(int(dut.fine_delay.value))
            elements.word(port.load_n, port.direction, port.move)

    bench.words = watched
    for wanted in ([0, 1, 2, 3, 4, 5, 6, 7], [6, 0, 2, 5, 4, 1, 0, 7]):
        await bench.write(**{f"fine_delay__taps_{line}": taps for line, taps in enumerate(wanted)})
        # As a host does, which hears of the elements a round later at the earliest.
        await bench.words(ROUND_WORDS)
        while await bench.read("fine_delay.moving"):
            pass
        assert elements.taps == wanted
    # Elements that were disturbed are right again.
    elements.taps = [9] * LINES
    await bench.write(fine_delay__home=1)
    await bench.words(ROUND_WORDS)
    while await bench.read("fine_delay.moving"):
        pass
    assert elements.taps == wanted
