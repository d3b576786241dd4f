"""Events: whatever the link can take, every record is sent once, in order, or covered by a gap record."""

import random
from itertools import pairwise

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from benches import pack, unpack
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import FRAME_MODES
from qrelay_gateware.layouts import WordRecords, config_layout, status_layout
from qrelay_sim.golden.events import EventAccount, click_records, success_records

CONFIG = config_layout("events")
STATUS = status_layout("events")
ALL_ON = {f"enable_{kind.name.lower()}": 1 for kind in RecordKind} | {"frame_mode": FRAME_MODES.index("all")}

WITHOUT_SLOT = (RecordKind.FRAME, RecordKind.REFERENCE)


class Bench:
    """Offers records word by word, takes packets at a chosen pace, keeps the account of both."""

    def __init__(self, dut, seed: int):
        self.dut = dut
        self.random = random.Random(seed)
        self.accounts = [EventAccount()]
        """One for each time since an arm."""
        self.offered = {kind: [] for kind in RecordKind}
        self.order = []
        self.pace = 1.0
        self.slot_word = 0x3ABC_DEF0_1234
        self.packet = bytearray()

    @property
    def account(self) -> EventAccount:
        return self.accounts[-1]

    async def start(self, **config):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for port in ("success", "clicks", "clicks_beyond_four", "frame", "frame_valid", "alarms", "state", "arm"):
            getattr(dut, port).value = 0
        dut.reference.value = dut.reference_valid.value = 0
        dut.key.value = dut.key_valid.value = 0
        dut.packets__ready.value = 0
        dut.running.value = 1
        self.configure(**(ALL_ON | {"hold_words": 200} | config))
        dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        cocotb.start_soon(self.take())

    def configure(self, **config):
        self.dut.config.value = pack(CONFIG, config)

    async def take(self):
        """Take bytes of packets for ever, each clock with probability `pace`."""
        dut = self.dut
        offered_to = None
        while True:
            await FallingEdge(dut.clk)
            ready = self.random.random() < self.pace
            dut.packets__ready.value = ready
            if dut.packets__valid.value:
                offered_to = offered_to or self.account
                if ready:
                    byte = int(dut.packets__payload.value)
                    self.packet.append(byte & 0xFF)
                    if byte >> 8:
                        self.order.append(offered_to.packet(bytes(self.packet)))
                        self.packet = bytearray()
                        offered_to = None

    async def arm(self):
        """Arm; what is offered from now on goes to a new account."""
        self.dut.arm.value = 1
        await FallingEdge(self.dut.clk)
        self.dut.arm.value = 0
        self.accounts.append(EventAccount())
        for records in self.offered.values():
            records.clear()

    async def word(self, success=None, clicks=None, frame=None, beyond=0, flags=0, recorded=True, reference=None):
        """One word; items are four (lane, low, high) or None."""
        dut = self.dut
        self.slot_word += 1
        dut.slot_word.value = self.slot_word
        dut.clicks_beyond_four.value = beyond
        for port, items, records, kind in (
            (dut.success, success, success_records, RecordKind.SUCCESS),
            (dut.clicks, clicks, click_records, RecordKind.CLICK),
        ):
            port.value = _word_bits(self.slot_word, items) if items else 0
            if items and recorded:
                self.offered[kind] += records(self.slot_word, items, flags)
        dut.frame_valid.value = frame is not None
        if frame is not None:
            dut.frame.value = frame
            if recorded:
                self.offered[RecordKind.FRAME].append(frame)
        dut.reference_valid.value = reference is not None
        if reference is not None:
            dut.reference.value = reference
            if recorded:
                self.offered[RecordKind.REFERENCE].append(reference)
        await FallingEdge(dut.clk)
        for port in (dut.success, dut.clicks, dut.frame_valid, dut.reference_valid, dut.clicks_beyond_four):
            port.value = 0

    def items(self, density: float):
        """Up to four random items, or None."""
        return _some(self.random, density)

    def a_frame(self, number: int, successes: int = 1) -> int:
        fields = {"frame": number, "clicks": self.random.getrandbits(16), "successes": successes, "flags": 0}
        return RECORDS[RecordKind.FRAME].pack(fields)

    def a_reference(self, density: float) -> int | None:
        if self.random.random() >= density:
            return None
        return self.random.getrandbits(RECORDS[RecordKind.REFERENCE].offset("flags"))

    async def idle(self, clocks: int):
        for _ in range(clocks):
            await FallingEdge(self.dut.clk)

    async def drain(self):
        """Stop the run and wait until nothing moves."""
        self.dut.running.value = 0
        self.pace = 1.0
        quiet = 0
        while quiet < 50:
            await FallingEdge(self.dut.clk)
            quiet = 0 if self.dut.packets__valid.value else quiet + 1

    def status(self):
        return unpack(STATUS, int(self.dut.status.value))

    def balance(self, *kinds):
        status = self.status()
        for kind in kinds:
            name = kind.name.lower()
            dropped = status[f"dropped_{name}"]
            self.account.check(kind, self.offered[kind], dropped, has_slot=kind not in WITHOUT_SLOT)
            assert status[f"sent_{name}"] == len(self.account.received[kind])
            assert status[f"fill_{name}"] == 0
        assert status.sent_gap == len(self.account.received[RecordKind.GAP])
        assert status.dropped_gap == 0


def _some(generator, density):
    if generator.random() >= density:
        return None

    def item():
        return generator.randrange(4), generator.randrange(256), generator.randrange(16)

    items = [item() if generator.random() < 0.6 else None for _ in range(4)]
    return items if any(items) else None


def _word_bits(slot_word, items) -> int:
    return pack(
        WordRecords,
        {
            "slot_word": slot_word,
            "valid": sum((item is not None) << n for n, item in enumerate(items)),
            "items": [dict(zip(("lane", "low", "high"), item or (0, 0, 0), strict=True)) for item in items],
        },
    )


async def begin(dut, seed, **config) -> Bench:
    bench = Bench(dut, seed)
    await bench.start(**config)
    return bench


@cocotb.test()
async def light_load_loses_nothing(dut):
    """Below the rate of the link every record arrives, none dropped, packets of one kind."""
    bench = await begin(dut, 1)
    for n in range(6000):
        frame = bench.a_frame(n) if bench.random.random() < 0.002 else None
        await bench.word(bench.items(0.01), bench.items(0.01), frame, reference=bench.a_reference(0.01))
    await bench.drain()
    bench.balance(RecordKind.SUCCESS, RecordKind.CLICK, RecordKind.FRAME, RecordKind.REFERENCE)
    status = bench.status()
    assert status.dropped_success == status.dropped_click == status.dropped_frame == status.dropped_reference == 0
    assert len(bench.offered[RecordKind.REFERENCE]) > 30
    assert len(bench.offered[RecordKind.CLICK]) > 100


@cocotb.test()
@cocotb.parametrize(port=("success", "clicks"))
async def four_per_word_until_full(dut, port):
    """A queue takes four records in each of 512 consecutive words without loss; the next words are dropped."""
    kind = {"success": RecordKind.SUCCESS, "clicks": RecordKind.CLICK}[port]
    name = kind.name.lower()
    bench = await begin(dut, 2)
    bench.pace = 0.0
    items = [(lane, 16 * lane, lane + 1) for lane in range(4)]
    for _ in range(512):
        await bench.word(**{port: items})
    await bench.idle(4)
    assert bench.status()[f"dropped_{name}"] == 0
    for _ in range(10):
        await bench.word(**{port: items})
    await bench.idle(4)
    status = bench.status()
    assert status[f"fill_{name}"] == status[f"high_water_{name}"] == 512
    assert status[f"dropped_{name}"] == 40
    await bench.drain()
    bench.balance(kind)
    assert len(bench.account.gaps(kind)) == 1


@cocotb.test()
@cocotb.parametrize(pace=(1.0, 0.3))
async def saturated_queues_account_for_every_record(dut, pace):
    """Far more than the link takes, at several paces: sent + dropped is what was offered, gaps say where."""
    bench = await begin(dut, 3)
    bench.pace = pace
    overflows = 0
    for n in range(7000):
        frame = bench.a_frame(n) if n % 8 == 0 else None
        await bench.word(bench.items(0.3), bench.items(0.5), frame, reference=bench.a_reference(0.3))
        overflows += int(dut.overflow.value)
    assert overflows > 100
    await bench.drain()
    bench.balance(RecordKind.SUCCESS, RecordKind.CLICK, RecordKind.FRAME, RecordKind.REFERENCE)
    status = bench.status()
    for name in ("success", "click", "frame", "reference"):
        assert status[f"dropped_{name}"] > 100
        assert status[f"high_water_{name}"] == {"frame": 64}.get(name, 512)
    # A gap ends only when an eighth of the queue is free: gap records stay rare.
    assert len(bench.account.received[RecordKind.GAP]) < 100


@cocotb.test()
async def bursts_recover(dut):
    """Bursts that overflow and pauses in which the queues drain: several gaps, each with its place and count."""
    bench = await begin(dut, 5)
    for _ in range(4):
        for n in range(1500):
            await bench.word(bench.items(0.8), bench.items(0.8), bench.a_frame(n) if n % 4 == 0 else None)
        await bench.idle(9000)
    await bench.drain()
    bench.balance(RecordKind.SUCCESS, RecordKind.CLICK, RecordKind.FRAME)
    assert len(bench.account.gaps(RecordKind.SUCCESS)) >= 4


@cocotb.test()
async def status_records(dut):
    """One every `status_words` words and one when an alarm rises; those that find the queue full are accounted for."""
    bench = await begin(dut, 6, status_words=100)
    dut.state.value = 0x1_C2
    for _ in range(1010):
        await bench.word()
    for alarms in (0x0001, 0x0003, 0x0002, 0x0802):
        dut.alarms.value = alarms
        await bench.word()
        await bench.word()
    bench.configure(**(ALL_ON | {"hold_words": 10}))
    await bench.drain()
    records = [RECORDS[RecordKind.STATUS].unpack(word) for word in bench.account.received[RecordKind.STATUS]]
    periodic = [r for r in records if r["alarms"] == 0]
    assert len(periodic) == 10
    steps = {b["slot_word"] - a["slot_word"] for a, b in pairwise(periodic)}
    assert steps == {100}
    assert [r["alarms"] for r in records[10:]] == [0x001, 0x003, 0x802]
    assert {r["state"] for r in records} == {0x02}
    # Faster than the link: every record is sent, dropped and counted, or in a gap.
    dut.alarms.value = 0
    bench.pace = 0.05
    bench.configure(**(ALL_ON | {"hold_words": 10, "status_words": 5}))
    dut.running.value = 1
    await bench.idle(4000)
    bench.configure(**ALL_ON)
    await bench.drain()
    status = bench.status()
    made = len(bench.account.received[RecordKind.STATUS]) - 13 + status.dropped_status
    assert made in (800, 801)
    assert sum(count for _, count in bench.account.gaps(RecordKind.STATUS)) == status.dropped_status > 0


@cocotb.test()
async def priority(dut):
    """With everything waiting, packets leave in the order gap, status, key, success, frame, reference, click."""
    bench = await begin(dut, 7)
    bench.pace = 0.0
    for n in range(700):
        await bench.word(bench.items(1.0), bench.items(1.0), bench.a_frame(n), reference=bench.a_reference(1.0))
    dut.alarms.value = 1
    await bench.word()
    bench.order.clear()
    await bench.drain()
    # The packet that was begun first goes first; gaps of a kind are due only when its queue has room again.
    order = bench.order[1:]
    assert order[0] == RecordKind.STATUS
    first_other = next(n for n, kind in enumerate(order) if kind in (*WITHOUT_SLOT, RecordKind.CLICK))
    assert order[1:first_other].count(RecordKind.SUCCESS) > 30
    assert RecordKind.SUCCESS not in order[first_other:]
    first_reference = order.index(RecordKind.REFERENCE)
    first_click = order.index(RecordKind.CLICK)
    assert RecordKind.FRAME not in order[first_reference:]
    assert RecordKind.REFERENCE not in order[first_click:]
    bench.balance(RecordKind.SUCCESS, RecordKind.CLICK, RecordKind.FRAME, RecordKind.REFERENCE)


@cocotb.test()
async def company_and_patience(dut):
    """A lone record waits `hold_words` while running, 29 do not wait, and none waits when the run has stopped."""
    bench = await begin(dut, 8, hold_words=500)
    await bench.word(success=[(1, 2, 3), None, None, None])
    await bench.idle(480)
    assert not dut.packets__valid.value
    await bench.idle(60)
    assert bench.order == [RecordKind.SUCCESS]
    for _ in range(8):
        await bench.word(success=[(lane, 2, 3) for lane in range(4)])
    await bench.idle(300)
    # 32 records wait: 29 at once, three after their time.
    assert bench.order == [RecordKind.SUCCESS] * 2
    assert len(bench.account.received[RecordKind.SUCCESS]) == 30
    dut.running.value = 0
    await bench.idle(60)
    await bench.word(success=[(1, 2, 3), None, None, None])
    await bench.idle(40)
    assert len(bench.account.received[RecordKind.SUCCESS]) == 34


@cocotb.test()
async def switches(dut):
    """A kind that is off leaves no record and no drop; frame modes select; clicks beyond four are counted anyway."""
    bench = await begin(dut, 9, enable_success=0, enable_click=0, frame_mode=FRAME_MODES.index("with_success"))
    for n in range(1200):
        frame = bench.a_frame(n, successes=n % 100 == 0) if n % 10 == 0 else None
        await bench.word(bench.items(1.0), bench.items(1.0), frame, beyond=5, recorded=False)
        if frame is not None and n % 100 == 0:
            bench.offered[RecordKind.FRAME].append(frame)
    bench.configure(**(ALL_ON | {"frame_mode": FRAME_MODES.index("off")}))
    await bench.word(frame=bench.a_frame(1), recorded=False)
    await bench.drain()
    bench.balance(RecordKind.SUCCESS, RecordKind.CLICK, RecordKind.FRAME)
    assert len(bench.offered[RecordKind.FRAME]) == 12
    status = bench.status()
    assert status.clicks_beyond_four == 6000
    assert status.high_water_success == status.high_water_click == 0
    assert status.dropped_success == status.dropped_click == 0


@cocotb.test()
async def flags_follow_alarms(dut):
    """Bit 0 of the flags says that an alarm was latched when the record was made."""
    bench = await begin(dut, 10, enable_status=0)
    for alarms in (0, 0x8000, 0):
        dut.alarms.value = alarms
        await bench.idle(3)
        flag = int(alarms != 0)
        await bench.word(bench.items(1.0), bench.items(1.0), flags=flag)
        frame = bench.a_frame(3)
        reference = bench.a_reference(1.0)
        await bench.word(frame=frame, recorded=False, reference=reference)
        for kind, record in ((RecordKind.FRAME, frame), (RecordKind.REFERENCE, reference)):
            bench.offered[kind].append(record | flag << RECORDS[kind].offset("flags"))
    await bench.drain()
    bench.balance(RecordKind.SUCCESS, RecordKind.CLICK, RecordKind.FRAME, RecordKind.REFERENCE)


@cocotb.test()
async def gaps_wait_for_their_switch(dut):
    """With gap records off the dropped numbers add up; switched on, one record reports them."""
    bench = await begin(dut, 11, enable_gap=0)
    for _ in range(2):
        for _ in range(1500):
            await bench.word(success=bench.items(1.0))
        await bench.idle(9000)
    assert not bench.account.received[RecordKind.GAP]
    bench.configure(**ALL_ON)
    await bench.drain()
    bench.balance(RecordKind.SUCCESS)
    assert len(bench.account.gaps(RecordKind.SUCCESS)) == 1


@cocotb.test()
async def arming_restarts(dut):
    """Arm at every place of a packet: a begun packet ends soon with old numbers, then all counts are from zero."""
    bench = await begin(dut, 12)
    for attempt in range(60):
        bench.pace = 0.8
        for _ in range(40):
            await bench.word(bench.items(1.0), bench.items(0.2))
        await bench.idle(attempt)
        await bench.arm()
        for _ in range(30):
            await bench.word(bench.items(0.5), bench.items(0.5))
        await bench.drain()
        bench.balance(RecordKind.SUCCESS, RecordKind.CLICK)
        assert len(bench.offered[RecordKind.SUCCESS]) > 20
        dut.running.value = 1
