"""cocotb: a whole station behind its ports against the golden models of its blocks."""

import cocotb
import numpy as np
from receiver_cases import hit_bits
from station_bench import FACTS, StationBench
from station_plan import CLEARED, IDENTITY, LEAD_OUT, PROBE_SUCCESS, QUANTUM, Plan

from qrelay.protocol.identity import IDENTITY_WORDS, Identity
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import LINES
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.windows import window
from qrelay_gateware.probe import Probe


@cocotb.test()
async def identity(dut):
    """The identity block is that of the design, the key cannot be read, and what was written reads back."""
    bench = StationBench(dut, 1, pause=0.3)
    await bench.begin()
    words = await bench.read_words(window("identity").base, IDENTITY_WORDS)
    assert Identity.from_words(words) == IDENTITY
    key = [0x9E3779B9 * n & 0xFFFFFFFF for n in range(1, 9)]
    await bench.write_table("key", key)
    await bench.write(keystream__load=1)
    await bench.words(300)
    assert await bench.read_words(window("key").base, 8) == [0] * 8
    assert State.KEYSTREAM_READY in State(await bench.read("system.state"))
    await bench.write(timebase__start_slot=0xABCD_0123_4560)
    assert await bench.read("timebase.start_slot") == 0xABCD_0123_4560


@cocotb.test()
async def run_started_by_command(dut):
    """A run with pauses on the link: lines, audit, records and counters are those of the models; no record is lost."""
    bench = StationBench(dut, 2, pause=0.1)
    await bench.begin()
    plan = Plan(7, words=640, hit_rate=0.05)
    assert len(plan.records[RecordKind.SUCCESS]) > 20
    assert len(plan.records[RecordKind.CLICK]) > 80
    assert len(plan.records[RecordKind.FRAME]) == 3
    assert sum(RECORDS[RecordKind.REFERENCE].unpack(r)["first"] for r in plan.records[RecordKind.REFERENCE]) > 20
    ((_, counters),) = plan.model.counters
    for name in ("dead_", "gated_out_", "clicks_"):
        assert sum(value for key, value in counters.items() if key.startswith(name)) > 10
    assert min(counters["vetoed"], counters["doubles"], counters["slots"] - counters["live_slots"]) > 0
    await plan.load(bench)
    bench.recording = True
    await bench.words(LEAD_OUT)
    await bench.arm()
    await bench.words(CLEARED)
    assert State.ARMED in State(await bench.read("system.state"))
    await plan.run(bench, await bench.start())
    dropped = await plan.check_after(bench)
    assert not any(dropped.values())
    assert await bench.read("system.alarms") == 0


@cocotb.test()
async def run_started_by_the_start_input(dut):
    """More clicks than the link can carry: each is sent once, in order, or counted in a gap record."""
    bench = StationBench(dut, 3, pause=0.5)
    await bench.begin()
    plan = Plan(3, words=1000, hit_rate=0.3, windows=1)
    await plan.load(bench, start_source=1)
    bench.recording = True
    await bench.words(LEAD_OUT)
    await bench.arm()
    await bench.words(CLEARED)
    start_word = bench.word + 20
    bench.start_pulses[start_word] = 0b0111_1000
    await plan.run(bench, start_word)
    bench.pause = 0.0
    await bench.words(15_000)
    # Gap records wait for room in their queue like all others; the flag of later records shows the alarm.
    dropped = await bench.read_many([f"events.dropped_{kind.name.lower()}" for kind in RecordKind])
    assert dropped["events.dropped_click"] > 0
    assert Alarm.RECORDS_DROPPED in Alarm(await bench.read("system.alarms"))
    for kind, records in bench.account.received.items():
        if kind in plan.records:
            flags = ~0 << RECORDS[kind].offset("flags")
            bench.account.received[kind] = [record & ~flags for record in records]
    assert await bench.read("timebase.start_place") == 3
    await plan.check_after(bench)


@cocotb.test()
async def latency_contract(dut):
    """All latencies are the constants of the identity block, whatever the start: no jitter of a single word.

    The ports of the station are its pins here but for what the facts add for a board's own registers.
    """
    output_words, input_words = FACTS.output_latency, FACTS.pin_latency - FACTS.output_latency
    bench = StationBench(dut, 4)
    await bench.begin()
    await bench.write_table("lines", [0xFFFF] * window("lines").depth)
    await bench.write_table("segments", [QUANTUM | 1000 << 2])
    await bench.write_table("success", [0, 1] + [0] * 254)
    await bench.write_table("key", [1, 2, 3, 4, 5, 6, 7, 8])
    await bench.write(
        keystream__load=1,
        keystream__enable=1,
        modulator__enable=1,
        modulator__probe=PROBE_SUCCESS,
        receiver__enable=1,
        events__enable_success=1,
        events__hold_words=0,
        timebase__length=0,
    )
    bench.recording = True
    hit = int(hit_bits(np.array([False, True, False, False]), np.array([0, 7, 0, 0], np.uint8))[0])
    latencies = set()
    contract = set()
    for number, source in enumerate((0, 1, 0, 1, 1, 1, 0), start=1):
        start_slot = 8 * bench.random.randrange(1 << 45)
        await bench.write(timebase__start_source=source, timebase__start_slot=start_slot, keystream__nonce=number)
        await bench.arm()
        await bench.words(bench.random.randrange(100))
        bench.lines.clear()
        bench.probe.clear()
        bench.watched = {"drawn": {}, "records_busy": {}}
        if source:
            event = bench.word + 1 + bench.random.randrange(10)
            bench.start_pulses[event] = 0xFF << bench.random.randint(1, 6) & 0xFF
        else:
            event = await bench.start()
        hit_word = event + IDENTITY.start_latency + IDENTITY.receiver_latency
        assert bench.word < hit_word - 1
        bench.hits |= {hit_word - 1: hit, hit_word: hit}
        await bench.until(event + 300)
        first_line = min(word for word, value in bench.lines.items() if value)
        assert bench.lines[first_line] == (1 << 8 * LINES) - 1
        (success,) = [word for word, value in bench.probe.items() if value]
        assert bench.probe[success] == 0b0010
        (record,) = bench.account.received[RecordKind.SUCCESS]
        slot = RECORDS[RecordKind.SUCCESS].unpack(record)["slot"]
        assert slot == start_slot + 1  # the hit of the word before belongs to no run
        latencies.add((first_line - event, success - Probe.latency - hit_word))
        first_choice = min(bench.watched["drawn"])
        # A record is in its queue in the word after it was offered.
        queued = min(word for word in bench.watched["records_busy"] if word >= hit_word) + 1
        contract.add((first_line - first_choice + output_words, queued - hit_word + input_words))
        await bench.write(system__disarm=1)
        await bench.words(20)
    assert latencies == {(IDENTITY.start_latency + IDENTITY.line_latency, IDENTITY.event_latency)}
    assert contract == {(IDENTITY.choice_to_pin, IDENTITY.pin_to_event)}


@cocotb.test()
async def arming_needs_a_fresh_nonce(dut):
    """No key, no fresh nonce, no lock: no arm, and an alarm; with all three it arms, once per nonce."""
    bench = StationBench(dut, 5)
    await bench.begin()

    async def refused() -> bool:
        await bench.write(system__alarms=0xFFFF)
        await bench.arm()
        await bench.words(5)
        armed = State.ARMED in State(await bench.read("system.state"))
        alarm = Alarm.ARM_REFUSED in Alarm(await bench.read("system.alarms"))
        assert armed != alarm
        return alarm

    await bench.write(keystream__enable=1, keystream__nonce=5, timebase__length=64, events__enable_status=0)
    assert await refused()  # no key
    await bench.write_table("key", range(8))
    await bench.write(keystream__load=1)
    await bench.words(200)
    assert not await refused()
    await bench.start()
    await bench.words(200)
    assert await refused()  # used
    await bench.write(keystream__nonce=4)
    assert await refused()  # older
    await bench.write(keystream__nonce=6)
    dut.clock_locked.value = 0
    await bench.words(3)
    assert await refused()  # no clock
    dut.clock_locked.value = 1
    await bench.words(3)
    assert not await refused()
    await bench.write(system__disarm=1)
    await bench.write(keystream__enable=0, keystream__nonce=0)
    assert not await refused()  # a station that draws nothing needs none


@cocotb.test()
async def bytes_lost_at_the_serial_port(dut):
    """Each is counted by its kind, also with the link at rest, and latches the alarm."""
    bench = StationBench(dut, 9)
    await bench.begin()
    counted = {"framing_errors": 0, "overruns": 0}
    for framing_error, overrun in ((1, 0), (0, 1), (1, 1), (1, 0)):
        await bench.words(2000)
        dut.framing_error.value = framing_error
        dut.overrun.value = overrun
        await bench.words()
        dut.framing_error.value = 0
        dut.overrun.value = 0
        counted["framing_errors"] += framing_error
        counted["overruns"] += overrun
        await bench.words(4)
        for name, value in counted.items():
            assert await bench.read(f"link.{name}") == value
        assert Alarm(await bench.read("system.alarms")) == Alarm.SERIAL_BYTE_LOST
        await bench.write(system__alarms=int(Alarm.SERIAL_BYTE_LOST))


@cocotb.test()
async def lock_loss(dut):
    """Without lock the lines are idle from the next word but one on; the run is over; the alarm stays until cleared."""
    bench = StationBench(dut, 6)
    await bench.begin()
    idle = 0b0101_0011
    await bench.write_table("lines", [0x3C5A] * window("lines").depth)
    await bench.write_table("segments", [1 << 2])
    settings = {f"modulator__idle_{i}": idle >> i & 1 for i in range(LINES)}
    await bench.write(modulator__enable=1, timebase__length=0, events__status_words=0, **settings)
    idle_lines = sum(0xFF << 8 * i for i in range(LINES) if idle >> i & 1)
    await bench.arm()
    await bench.start()
    await bench.words(200)
    bench.recording = True
    await bench.words(10)
    assert idle_lines not in bench.lines.values()
    assert len(set(bench.lines.values())) == 1
    dut.clock_locked.value = 0  # in the word that is present
    lost = bench.word
    await bench.words(50)
    assert [bench.lines[word] for word in range(lost + 1, bench.word + 1)] == [idle_lines] * (bench.word - lost)
    dut.clock_locked.value = 1
    await bench.words(50)
    state = State(await bench.read("system.state"))
    assert State.CLOCK_LOCKED in state
    assert not state & (State.ARMED | State.RUNNING)
    assert {bench.lines[word] for word in range(lost + 1, bench.word + 1)} == {idle_lines}
    assert Alarm(await bench.read("system.alarms")) == Alarm.CLOCK_LOCK_LOST
    (record,) = bench.account.received[RecordKind.STATUS]
    assert RECORDS[RecordKind.STATUS].unpack(record)["alarms"] == Alarm.CLOCK_LOCK_LOST
    await bench.write(system__alarms=int(Alarm.CLOCK_LOCK_LOST))
    assert await bench.read("system.alarms") == 0
