"""cocotb: a whole station and its noise source: what arms, what stops, what the stream says of it."""

import math

import cocotb
import numpy as np
from bench_station import IDENTITY, QUANTUM
from station_bench import StationBench

from qrelay.choices import ChoiceStream
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import AUDIT_WORDS, window
from qrelay.status import Alarm, State
from qrelay_sim.golden.audit import audit_choices

KEY = bytes(range(32))
STREAM = 9
THRESHOLDS = (500, 1000, 1500, 2000, 2500, 3000, 3500)
SAMPLE_WORDS = 4


class NoisyBench(StationBench):
    """A station with a fair noise source that sticks at 1 from word `fails_at` on."""

    def __init__(self, dut, seed: int):
        super().__init__(dut, seed)
        self.fails_at = math.inf
        coin = np.random.default_rng(seed)
        self.noise = lambda word: 1 if word >= self.fails_at else int(coin.integers(2))

    async def configure(self, start_slot: int, nonce: int):
        """A sender that draws in every slot."""
        await self.begin()
        await self.write_table("segments", [QUANTUM | 1000 << 2])
        await self.write_table("key", np.frombuffer(KEY, "<u4"))
        await self.write(
            entropy__sample_words=SAMPLE_WORDS,
            entropy__repetition_cutoff=41,
            entropy__required=1,
            timebase__start_slot=start_slot,
            timebase__length=0,
            keystream__enable=1,
            keystream__nonce=nonce,
            keystream__stream=STREAM,
            **{f"keystream__threshold_{k}": threshold for k, threshold in enumerate(THRESHOLDS, 1)},
        )
        await self.write(keystream__load=1, entropy__restart=1)

    async def alarms(self) -> Alarm:
        """Latched alarms; they are cleared."""
        alarms = Alarm(await self.read("system.alarms"))
        await self.write(system__alarms=0xFFFF)
        return alarms


@cocotb.test()
async def choices_stop_with_their_source(dut):
    """A required source: no arm before its start-up test; draws until it fails, then none, and the stream says so."""
    bench = NoisyBench(dut, 8)
    start_slot = 8 * 12345
    await bench.configure(start_slot, nonce=77)
    assert await bench.read("entropy.health") == 0b0001
    await bench.arm()
    assert await bench.alarms() == Alarm.ARM_REFUSED
    await bench.words(SAMPLE_WORDS * 1024)
    assert await bench.read("entropy.health") == 0b0011
    samples = await bench.read("entropy.samples")
    assert 1024 <= samples <= bench.word / SAMPLE_WORDS

    audit_word = 600
    await bench.write(audit__first_slot=start_slot + 4 * audit_word)
    await bench.write(audit__arm=1)
    await bench.arm()
    assert State.ARMED in State(await bench.read("system.state"))
    first_word = await bench.start() + IDENTITY.start_latency
    bench.fails_at = first_word + audit_word
    await bench.until(first_word + audit_word + AUDIT_WORDS + 50)

    stopped = await bench.read("entropy.stopped_slot")
    stopped_word = (stopped - start_slot) // 4
    # The last samples before were perhaps equal too; some words lie between the source and the choices.
    assert 20 * SAMPLE_WORDS < stopped_word - audit_word <= 41 * SAMPLE_WORDS + 40
    assert await bench.alarms() == Alarm.ENTROPY_TEST_FAILED | Alarm.CHOICES_BEFORE_KEYSTREAM
    assert await bench.read("entropy.health") == 0b0101
    failed_at = await bench.read("entropy.failed_at")
    assert samples < failed_at <= await bench.read("entropy.samples")
    assert await bench.read("entropy.longest_run") >= 41

    setting, phase, drawn = audit_choices(await bench.read_words(window("audit").base, 4 * AUDIT_WORDS))
    before = stopped - start_slot - 4 * audit_word
    expected = ChoiceStream(KEY, 77, STREAM, THRESHOLDS).block(start_slot + 4 * audit_word, before)
    np.testing.assert_array_equal(setting[:before], expected[0])
    np.testing.assert_array_equal(phase[:before], expected[1])
    assert drawn[:before].all()
    assert not setting[before:].any()
    assert not phase[before:].any()
    assert not drawn[before:].any()

    records = [RECORDS[RecordKind.STATUS].unpack(record) for record in bench.account.received[RecordKind.STATUS]]
    (failed, *_) = [record for record in records if record["alarms"] & Alarm.ENTROPY_TEST_FAILED]
    assert abs(failed["slot"] - stopped) < 4 * 20

    # A source that works again is trusted after a restart only.
    bench.fails_at = math.inf
    await bench.write(system__disarm=1, keystream__nonce=78)
    await bench.alarms()
    await bench.words(SAMPLE_WORDS * 1100)
    await bench.arm()
    assert await bench.alarms() == Alarm.ARM_REFUSED
    await bench.write(entropy__restart=1)
    await bench.words(SAMPLE_WORDS * 1100)
    await bench.arm()
    assert await bench.alarms() == Alarm(0)
    assert State.ARMED in State(await bench.read("system.state"))


@cocotb.test()
async def a_source_that_is_not_required_only_warns(dut):
    """With a key from the host the choices go on; the failure is an alarm and a status record."""
    bench = NoisyBench(dut, 9)
    await bench.configure(start_slot=80, nonce=5)
    await bench.write(entropy__required=0)
    bench.fails_at = bench.word + 10
    await bench.arm()
    await bench.start()
    await bench.words(SAMPLE_WORDS * 60)
    assert await bench.alarms() == Alarm.ENTROPY_TEST_FAILED
    await bench.words(500)
    assert await bench.alarms() == Alarm(0)  # once per failure; `entropy.health` goes on telling
    assert await bench.read("entropy.health") == 0b0101
