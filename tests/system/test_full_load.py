"""The receiver at full rate, in the station library of the twin: nothing is lost up to the stated limits, and beyond
them sent + dropped is what the golden model counts.

Edges go in at the pins, bytes come out of the link, and nothing else is looked at.
"""

from collections import deque

import numpy as np
import pytest

from qrelay.link_rate import bytes_per_packet
from qrelay.protocol.packets import EVENT_BASE, MAX_RECORDS, MAX_WORDS, PacketKind, frame_packet, parse_packet
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import (
    DETECTORS,
    FINE_SOURCES,
    GROUPS,
    REFERENCE_BINS,
    REFERENCE_MODES,
    SEGMENT_KINDS,
    register,
)
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.windows import window
from qrelay_gateware.events import FIFO_DEPTHS
from qrelay_sim.golden.events import EventAccount
from qrelay_sim.golden.histograms import fine_counts, fine_kept
from qrelay_sim.golden.receiver import ReceiverInput, receiver
from qrelay_sim.golden.sequencer import ticks
from qrelay_sim.twin.identity import TWIN_FACTS
from qrelay_sim.twin.native import build_library
from qrelay_sim.twin.station import HIT_DTYPE, PULSE_DTYPE, NativeStation

pytestmark = pytest.mark.slow

WORDS = 1_000_000
START_SLOT = (1 << 40) + 8
SEGMENTS = [(SEGMENT_KINDS.index("reference"), 250), (SEGMENT_KINDS.index("quantum"), 750)]
STEPS = [(0, phase) for phase in range(REFERENCE_BINS)]
STEP_WORDS = 7
STATUS_WORDS = 997
IDENTITY = TWIN_FACTS.identity
BATCH_WORDS = 1 << 16
AFTER_WORDS = 4
NO_HITS = np.zeros(0, HIT_DTYPE)
NO_PULSES = np.zeros(0, PULSE_DTYPE)
COUNTERS = [item.name for group in GROUPS if group.name == "counters" for item in group.registers]
HAVE_SLOT = (RecordKind.SUCCESS, RecordKind.CLICK)
COUNTED_KINDS = (*HAVE_SLOT, RecordKind.FRAME, RecordKind.REFERENCE)
OTHER_BLOCKS = {
    "reference.mode": REFERENCE_MODES.index("all"),
    "reference.bins": REFERENCE_BINS,
    "histograms.enable_fine": 1,
    "histograms.fine_source": FINE_SOURCES.index("clicks"),
    "histograms.enable_lag": 1,
    "histograms.lag_a": 0,
    "histograms.lag_b": 1,
}
"""Settings that make every block of the receiver work at once."""


class LoadedStation:
    """A station in the native library, asked and answered by bytes."""

    def __init__(self):
        self.account = EventAccount()
        self._station = NativeStation(build_library())
        self._frame = b""
        self._answers = deque()
        self._sequence = 0

    def step(self, words, hits=NO_HITS, starts=NO_PULSES, rx=b""):
        """Let words pass; returns the bytes that the station sent."""
        stepped = self._station.step(words, hits, starts, rx)
        assert stepped.rx_used == len(rx)
        *frames, self._frame = (self._frame + stepped.tx).split(b"\0")
        for frame in filter(None, frames):
            packet = parse_packet(frame)
            assert packet is not None, f"damaged packet: {frame.hex()}"
            kind, sequence, body = packet
            if EVENT_BASE <= kind < EVENT_BASE + len(RecordKind):
                self.account.packet(bytes((kind, sequence)) + body)
            else:
                self._answers.append(packet)
        return len(stepped.tx)

    def ask(self, kind, body):
        """The answer to a request."""
        self._sequence = (self._sequence + 1) & 0xFF
        self.step(2000, rx=frame_packet(kind, self._sequence, body))
        (answer,) = self._answers
        self._answers.clear()
        assert answer[1] == self._sequence
        return answer[0], answer[2]

    def write_words(self, address, values):
        for first in range(0, len(values), MAX_WORDS):
            part = [int(value).to_bytes(4, "little") for value in values[first : first + MAX_WORDS]]
            answer = self.ask(PacketKind.WRITE, (address + first).to_bytes(2, "little") + b"".join(part))
            assert answer == (PacketKind.WRITE_DONE, bytes((len(part),)))

    def write(self, values):
        for name, value in values.items():
            address, spec = register(name)
            words = -(-spec.width // 32)
            self.write_words(address, [value >> 32 * n & 0xFFFFFFFF for n in range(words)])

    def read_words(self, address, count):
        kind, body = self.ask(PacketKind.READ, address.to_bytes(2, "little") + bytes((count,)))
        assert kind == PacketKind.READ_DATA
        return body

    def read(self, name):
        address, spec = register(name)
        return int.from_bytes(self.read_words(address, -(-spec.width // 32)), "little")

    def read_window(self, name):
        parts = [self.read_words(window(name).base + first, 32) for first in range(0, window(name).depth, 32)]
        return np.frombuffer(b"".join(parts), "<u4").astype(np.int64)

    def run(self, settings, table, valid, fine, *, frames, everything):
        """A run of `WORDS` with hits [detector, slot] from its first slot on, then words until everything is sent."""
        values = {
            "timebase.start_source": 1,
            "timebase.start_slot": START_SLOT,
            "timebase.length": 4 * WORDS,
            "sequencer.segments": len(SEGMENTS),
            "sequencer.steps": len(STEPS),
            "sequencer.step_words": STEP_WORDS,
            "events.frame_mode": int(frames),
        } | {f"receiver.{name}": value for name, value in settings.items()}
        values |= OTHER_BLOCKS if everything else {}
        for kind in RecordKind:
            values[f"events.enable_{kind.name.lower()}"] = 1
        self.write(values)
        self.write_words(window("segments").base, [kind | words << 2 for kind, words in SEGMENTS])
        self.write_words(window("steps").base, [setting | phase << 3 for setting, phase in STEPS])
        self.write_words(window("success").base, table.tolist())
        self.write({"system.arm": 1})
        self.account = EventAccount()
        # After arm, or its answer would share the step with the first records.
        self.write({"events.status_words": STATUS_WORDS if everything else 0})
        while self.read("histograms.busy"):
            self.step(100)
        lead = IDENTITY.start_latency + IDENTITY.receiver_latency
        self.step(lead, starts=np.array([(0, 0b0111_1000)], PULSE_DTYPE))
        by_word = valid.reshape(DETECTORS, WORDS, 4)
        fine_by_word = fine.reshape(DETECTORS, WORDS, 4)
        for first in range(0, WORDS, BATCH_WORDS):
            part = slice(first, first + BATCH_WORDS)
            word, detector, lane = np.nonzero(by_word[:, part].swapaxes(0, 1))
            hits = np.empty(len(word), HIT_DTYPE)
            hits["word"], hits["place"] = word, 4 * detector + lane
            hits["fine"] = fine_by_word[detector, first + word, lane]
            self.step(min(BATCH_WORDS, WORDS - first), hits)
        self.write({"events.status_words": 0})
        while self.step(20_000):
            pass


def model(settings, table, valid, fine, everything):
    """The golden receiver, with some words behind the run, the last of which latches the counters."""
    after = (0, AFTER_WORDS)
    tick = ticks(np.arange(WORDS), SEGMENTS, STEPS, STEP_WORDS, START_SLOT // 4)
    stimulus = ReceiverInput(
        running=np.pad(np.ones(WORDS, bool), after),
        slot_word=np.pad(tick["slot_word"].astype(np.int64), after),
        segment=np.pad(tick["segment"].astype(np.int64), after),
        frame=np.pad(tick["frame"].astype(np.int64), after),
        frame_last=np.pad(tick["frame_last"].astype(bool), after),
        latch=np.arange(WORDS + AFTER_WORDS) == WORDS + AFTER_WORDS - 1,
        clear=np.zeros(WORDS + AFTER_WORDS, bool),
        valid=np.pad(valid, ((0, 0), (0, 4 * AFTER_WORDS))),
        fine=np.pad(fine, ((0, 0), (0, 4 * AFTER_WORDS))),
        phase=np.pad(tick["phase"].astype(np.int64), after),
    )
    reference = {"mode": OTHER_BLOCKS["reference.mode"], "bins": REFERENCE_BINS, "sum_frames": 1}
    return receiver(settings, table, stimulus, reference=reference if everything else None)


def slot_records(kind, items, fields):
    """Records of the golden items [words, 4], in order."""
    low, high = (np.uint64(RECORDS[kind].offset(name)) for name in fields)
    word, place = np.nonzero(items >= 0)
    item = items[word, place].astype(np.uint64)
    slot = np.uint64(START_SLOT) + 4 * word.astype(np.uint64) + (item & np.uint64(3))
    packed = slot | (item >> np.uint64(2) & np.uint64(0xFF)) << low | item >> np.uint64(10) << high
    return packed.tolist()


def check_histograms(station, expected):
    """Each click is in the fine-time histogram or counted as lost there, and so with the pairs."""
    station.write({"histograms.swap": 1})
    while station.read("histograms.busy"):
        station.step(100_000)
    kept = fine_kept(expected.click_bits, [])
    counts = fine_counts(kept, expected.fines, slice(0, WORDS))
    np.testing.assert_array_equal(station.read_window("fine_counts"), counts.ravel())
    lost = np.count_nonzero(expected.click_bits & ~kept)
    assert station.read("histograms.lost_fine") == lost > 0
    for name, d in (("a", 0), ("b", 1)):
        paired, lost = (station.read(f"histograms.{what}_{name}") for what in ("clicks", "lost"))
        assert paired + lost == np.count_nonzero(expected.click_bits[d])
        assert min(paired, lost) > 0


def check_status(station):
    """One record each period of the run, and one for the alarm that records were dropped."""
    spec = RECORDS[RecordKind.STATUS]
    records = [spec.unpack(word) for word in station.account.received[RecordKind.STATUS]]
    slots = np.array([4 * record["slot_word"] for record in records if record["state"] & State.RUNNING])
    assert (np.diff(slots) > 0).all()
    at_period = (slots - slots[-1]) % (4 * STATUS_WORDS) == 0
    assert np.count_nonzero(at_period) in (WORDS // STATUS_WORDS, WORDS // STATUS_WORDS + 1)
    assert np.count_nonzero(~at_period) == 1


def loaded(table, valid, fine, *, frames=True, everything=False):
    """Run a station and the model; everything must balance. Returns records dropped and received by kind."""
    settings = {"enable": 1, "live_mask": 0b1111, "windows": 0}
    station = LoadedStation()
    station.run(settings, table, valid, fine, frames=frames, everything=everything)
    expected = model(settings, table, valid, fine, everything)
    offered = {
        RecordKind.SUCCESS: slot_records(RecordKind.SUCCESS, expected.success, ("pattern", "outcome")),
        RecordKind.CLICK: slot_records(RecordKind.CLICK, expected.clicks, ("fine", "detector")),
        RecordKind.FRAME: [record for _, record in expected.frames] if frames else [],
        RecordKind.REFERENCE: [record for _, records in expected.reference for record in records],
    }
    dropped = {kind: station.read(f"events.dropped_{kind.name.lower()}") for kind in RecordKind}
    received = station.account.received
    # Records behind the first drop carry the alarm.
    assert (Alarm.RECORDS_DROPPED in Alarm(station.read("system.alarms"))) == any(dropped.values())
    for kind in COUNTED_KINDS:
        below_flags = (1 << RECORDS[kind].offset("flags")) - 1
        received[kind] = [record & below_flags for record in received[kind]]
        station.account.check(kind, offered[kind], dropped[kind], has_slot=kind in HAVE_SLOT)
    assert station.read("events.clicks_beyond_four") == int(expected.clicks_beyond_four.sum())
    station.write({"system.latch_counters": 1})
    ((_, counters),) = expected.counters
    assert {name: station.read(f"counters.{name}") for name in COUNTERS} == counters
    if everything:
        assert station.read("reference.missed") == len(expected.reference_missed) == 0
        check_status(station)
        check_histograms(station, expected)
    return dropped, {kind: len(records) for kind, records in received.items()}


def fines(seed, valid):
    return np.where(valid, np.random.default_rng(seed).integers(0, 256, valid.shape), 0).astype(np.uint8)


def test_four_records_a_word_fill_the_queue_and_none_is_lost():
    """Bursts of as many words as the queue holds, each with four records, and time to send them between."""
    valid = np.zeros((DETECTORS, 4 * WORDS), bool)
    words = FIFO_DEPTHS[RecordKind.CLICK] - 1
    pause = 4 * words * bytes_per_packet() // MAX_RECORDS + 2000
    bursts = np.arange(0, WORDS - words - pause, words + pause)
    lane = np.random.default_rng(1).integers(0, 4, (len(bursts), words))
    valid[:, 4 * (bursts[:, np.newaxis] + np.arange(words)) + lane] = True
    dropped, received = loaded(np.zeros(256, np.uint8), valid, fines(2, valid))
    assert not any(dropped.values())
    assert received[RecordKind.CLICK] == 4 * words * len(bursts) > 100_000


@pytest.mark.parametrize("kind", [RecordKind.CLICK, RecordKind.SUCCESS], ids=["clicks", "clicks_and_successes"])
def test_what_the_link_carries_arrives(kind):
    """One record after the other at the rate that the packets' length allows, for a million words."""
    random = np.random.default_rng(3)
    # A click is one record, or with its success two. No frames: a short packet between long ones costs the link nearly
    # the time of a long one, as it buffers two and sends whole ones only.
    records = 1 if kind == RecordKind.CLICK else 2
    distance = -(-102 * records * bytes_per_packet() // (100 * MAX_RECORDS))
    word = np.arange(0, WORDS, distance)
    valid = np.zeros((DETECTORS, 4 * WORDS), bool)
    valid[random.integers(0, DETECTORS, len(word)), 4 * word + random.integers(0, 4, len(word))] = True
    table = np.zeros(256, np.uint8)
    if kind == RecordKind.SUCCESS:
        table[[1, 2, 4, 8]] = [1, 2, 3, 4]
    dropped, received = loaded(table, valid, fines(4, valid), frames=False)
    assert not any(dropped.values())
    assert received[RecordKind.CLICK] == len(word)
    assert received[RecordKind.SUCCESS] == (len(word) if kind == RecordKind.SUCCESS else 0)


@pytest.mark.parametrize("outcome", [0, 7], ids=["clicks", "clicks_and_successes"])
def test_every_detector_clicks_in_every_slot(outcome):
    """With reference counts, status records and histograms besides."""
    valid = np.ones((DETECTORS, 4 * WORDS), bool)
    table = np.zeros(256, np.uint8)
    table[0b1111] = outcome
    dropped, received = loaded(table, valid, fines(5, valid), everything=True)
    carried = WORDS // (bytes_per_packet() / MAX_RECORDS)
    frequent = RecordKind.SUCCESS if outcome else RecordKind.CLICK
    assert received[frequent] + dropped[frequent] == 4 * WORDS
    # Short packets of the other kinds each take nearly the time of a full one (see above).
    assert sum(received.values()) > 0.6 * carried
    assert dropped[RecordKind.STATUS] == dropped[RecordKind.GAP] == 0
    if not outcome:
        # Clicks come last: they leave the link to all others.
        assert {kind for kind in RecordKind if dropped[kind]} == {RecordKind.CLICK}
    else:
        # Successes leave nothing to clicks but at the ends of the run.
        assert received[RecordKind.CLICK] < 5 * FIFO_DEPTHS[RecordKind.CLICK]
        assert received[RecordKind.CLICK] + dropped[RecordKind.CLICK] == 4 * WORDS
