"""cocotb: a whole station and its noise source: what arms, what stops, what the stream says of it."""

import math

import cocotb
import numpy as np
from station_bench import StationBench
from station_plan import IDENTITY, QUANTUM

from qrelay.choices import ChoiceStream
from qrelay.protocol.choice import PHASE_BITS, PHASES
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import AUDIT_WORDS
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.windows import window
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
    assert abs(4 * failed["slot_word"] - stopped) < 4 * 20

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


def choices_of(draws):
    """Setting and phase of draws."""
    return np.searchsorted(THRESHOLDS, draws >> PHASE_BITS, side="right"), draws & (PHASES - 1)


@cocotb.test()
async def keys_made_on_board(dut):
    """No key leaves the station: what was emitted is what it answers for, before and after a change of key in a run."""
    bench = NoisyBench(dut, 10)
    start_slot = 8 * 777
    await bench.configure(start_slot, nonce=5)
    await bench.write(entropy__sample_words=2, entropy__on_board=1, entropy__required=0)
    await bench.write(entropy__restart=1)
    await bench.words(2200)
    await bench.arm()
    assert await bench.alarms() == Alarm.ARM_REFUSED  # the host's key is not the one that is wanted

    async def make(number):
        await bench.write(entropy__make=1)
        for _ in range(60):
            await bench.words(400)
            if not await bench.read("entropy.key_state") & 1:
                break
        assert await bench.read("entropy.key_number") == number

    async def audit(word):
        """Choices of the slots from a word of the run on."""
        await bench.write(audit__first_slot=start_slot + 4 * word)
        await bench.write(audit__arm=1)
        return start_slot + 4 * word

    async def check(first_slot, place):
        slots = range(100)
        assert State.AUDIT_COMPLETE in State(await bench.read("system.state"))
        setting, phase, drawn = audit_choices(await bench.read_words(window("audit").base, 4 * AUDIT_WORDS))
        await bench.write_table("offsets", [7 * n for n in slots])
        await bench.write(
            entropy__regenerate_place=place,
            entropy__regenerate_nonce=5,
            entropy__regenerate_stream=STREAM,
            entropy__regenerate_base=first_slot,
        )
        await bench.write(entropy__regenerate=len(slots))
        for _ in range(100):
            if await bench.read("entropy.answered") == len(slots):
                break
            await bench.words(300)
        answers = np.array(await bench.read_words(window("draws").base, len(slots)))
        assert (answers >> 16 == 1).all()
        expected = choices_of(answers & 0xFFFF)
        np.testing.assert_array_equal(setting[: 7 * len(slots) : 7], expected[0])
        np.testing.assert_array_equal(phase[: 7 * len(slots) : 7], expected[1])
        assert drawn.all()
        assert len(set(answers.tolist())) > 90

    await make(1)
    assert await bench.read("entropy.keys") == 0b0001
    # Neither the host's words nor its load get through to the keystream.
    await bench.write_table("key", [0xFFFFFFFF] * 8)
    await bench.write(keystream__load=1)
    first_slot = await audit(600)
    await bench.arm()
    assert State.ARMED in State(await bench.read("system.state"))
    start = await bench.start()
    await bench.until(start + IDENTITY.start_latency + 600 + AUDIT_WORDS + 100)
    await check(first_slot, 0)

    await make(2)
    now = (await bench.read("timebase.slot_now") - start_slot) // 4
    first_slot = await audit(now + 3000)
    await bench.words(3000 + AUDIT_WORDS + 100)
    await check(first_slot, 1)

    keys = [RECORDS[RecordKind.KEY].unpack(record) for record in bench.account.received[RecordKind.KEY]]
    assert [(key["place"], key["number"]) for key in keys] == [(0, 1), (1, 2)]
    assert keys[0]["slot"] == start_slot
    assert start_slot < keys[1]["slot"] < first_slot
    assert keys[1]["slot"] % 8 == 0
    assert await bench.alarms() == Alarm(0)

    # The key in use is kept while the station runs; then all are erased, and nothing arms.
    await bench.write(entropy__erase=0b0011)
    await bench.words(500)
    assert await bench.read("entropy.keys") == 0b0010
    assert await bench.read("entropy.key_state") == 0b110
    await bench.write(system__disarm=1)
    await bench.words(10)
    await bench.write(entropy__erase=0b0010, keystream__nonce=6)
    await bench.words(1000)
    assert await bench.read("entropy.keys") == 0
    await bench.arm()
    assert await bench.alarms() == Alarm.ARM_REFUSED
    # The host's key is as good as ever.
    await bench.write(entropy__on_board=0)
    await bench.write_table("key", np.frombuffer(KEY, "<u4"))
    await bench.write(keystream__load=1)
    await bench.words(200)
    await bench.arm()
    assert await bench.alarms() == Alarm(0)
    assert State.ARMED in State(await bench.read("system.state"))
