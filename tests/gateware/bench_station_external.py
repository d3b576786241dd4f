"""cocotb: a whole station whose key bits come from outside: emitted as they came, kept, and never missed in silence."""

import cocotb
import numpy as np
from bench_station_entropy import KEY, STREAM, THRESHOLDS, NoisyBench
from cocotb.triggers import FallingEdge

from qrelay.choices import ChoiceStream
from qrelay.protocol.registers import AUDIT_WORDS
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.windows import window
from qrelay_sim.golden.audit import audit_choices


class ExternalBench(NoisyBench):
    """Bits follow from the number of the word; none come from word `stops_at` on."""

    stops_at = 1 << 40

    async def feed(self):
        while True:
            await FallingEdge(self.dut.clk)
            self.dut.external_bits.value = (self.word * 0x9E37 >> 7) & 0xF
            self.dut.external_valid.value = self.word < self.stops_at


@cocotb.test()
async def key_bits_from_outside(dut):
    bench = ExternalBench(dut, 11)
    start_slot = 8 * 999
    await bench.configure(start_slot, nonce=3)
    cocotb.start_soon(bench.feed())
    await bench.write(entropy__required=0, external__enable=1)
    first_slot = start_slot + 4 * 300
    await bench.write(audit__first_slot=first_slot)
    await bench.write(audit__arm=1)
    await bench.arm()
    await bench.start()
    await bench.words(1000 + AUDIT_WORDS)
    assert State.AUDIT_COMPLETE in State(await bench.read("system.state"))
    setting, phase, drawn = audit_choices(await bench.read_words(window("audit").base, 4 * AUDIT_WORDS))
    assert drawn.all()
    count = 200
    await bench.write_table("offsets", [5 * n for n in range(count)])
    await bench.write(external__base=first_slot)
    await bench.write(external__ask=count)
    await bench.words(10 * count)
    assert await bench.read("external.answered") == count
    answers = np.array(await bench.read_words(window("external").base, count))
    assert (answers >> 1 == 1).all()
    slots = np.arange(first_slot, first_slot + len(phase), dtype=np.uint64)
    expected = ChoiceStream(KEY, 3, STREAM, THRESHOLDS).at(slots)
    np.testing.assert_array_equal(setting, expected[0])
    np.testing.assert_array_equal(phase & 7, expected[1] & 7)
    assert (phase >> 3 != expected[1] >> 3).mean() > 0.3
    np.testing.assert_array_equal(phase[: 5 * count : 5] >> 3, answers & 1)
    assert await bench.alarms() == Alarm(0)

    # A slot ahead of the run is no answer.
    ahead = await bench.read("timebase.slot_now") + 4 * 40_000
    await bench.write(external__base=ahead)
    await bench.write(external__ask=1)
    await bench.words(50)
    assert (await bench.read_words(window("external").base, 1))[0] == 0

    bench.stops_at = bench.word
    await bench.words(40)
    assert await bench.alarms() == Alarm.ENTROPY_TEST_FAILED | Alarm.CHOICES_BEFORE_KEYSTREAM
    assert await bench.read("external.failed") == 1
    bench.stops_at = 1 << 40
    stopped = await bench.read("entropy.stopped_slot")
    await bench.words(40)
    assert await bench.read("entropy.stopped_slot") == stopped
    assert await bench.read("external.failed") == 1
