"""A station in Python: the packet protocol over TCP and a register store, with faults on demand.

It stands in for board and twin where the host itself is under test. `FakeRelay` wires four of them: started together,
its receiver announces successes drawn from the closed form and from what the two senders' keys say they emitted.
"""

import contextlib
import socket
import threading
import time
from dataclasses import replace

import numpy as np

from qrelay.choices import ChoiceStream
from qrelay.modulation import sender_lines
from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.identity import Capability, Entropy, Identity, Phy
from qrelay.protocol.packets import EVENT_BASE, MAX_RECORDS, ErrorCode, PacketKind, frame_packet, parse_packet
from qrelay.protocol.records import RECORDS, RecordKind
from qrelay.protocol.registers import GROUPS, register
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.windows import WINDOWS, window
from qrelay.record_arrays import DTYPES, pack_records
from qrelay_sim.click_model import OPPOSITE_SIGN, SAME_SIGN, ClickModel

IDENTITY = Identity(
    protocol_hash=PROTOCOL_HASH,
    version=(0, 1, 0),
    board="fake",
    slot_rate_numerator_hz=304_520_000,
    slot_rate_denominator=1,
    clock_error_ppb=0,
    capabilities=Capability.SENDER | Capability.RECEIVER | Capability.EXTERNAL_REFERENCE | Capability.SIMULATED,
    detectors=4,
    lines=8,
    phy=Phy.TWIN_X2,
    entropy=Entropy.SIMULATED,
    fine_step=128,
    fine_first=64,
    start_latency=40,
    line_latency=9,
    pin_latency=0,
    receiver_latency=2,
    event_latency=8,
    choice_to_pin=5,
    pin_to_event=20,
    fifo_success=1024,
    fifo_click=1024,
    fifo_frame=64,
    fifo_gap=16,
    fifo_status=16,
    fifo_reference=512,
    fifo_key=16,
    link_baud=0,
)

NOTHING = State(0)
_DRAWN_AT_ONCE = 1 << 20
"""Slots."""


class FakeStation:
    """Serves one client at a time on a TCP port."""

    def __init__(self, identity=IDENTITY):
        self.identity = identity
        self.words = {}
        self.by_address = {}
        for group in GROUPS:
            for address, spec in group.addressed():
                for index in range(-(-spec.width // 32)):
                    self.words[address + index] = spec.reset >> 32 * index & 0xFFFFFFFF
                    self.by_address[address + index] = (f"{group.name}.{spec.name}", spec)
        for table in WINDOWS:
            for index in range(table.depth):
                self.words[table.base + index] = 0
        self.write_only = {w.base + i for w in WINDOWS if w.access == "wo" for i in range(w.depth)}
        for index, word in enumerate(identity.to_words()):
            self.words[window("identity").base + index] = word
        self.requests = []
        self.on_strobe = lambda name: None
        self.before_read = lambda: None
        # Faults: called with each outgoing packet, returns the bytes that really leave.
        self.mangle = lambda packet: packet
        self.answer_delay_s = 0.0
        self.deaf = False
        self._event_sequence = 0
        self._running = [0] * len(RecordKind)
        self._send_lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self._client = None
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._closed = True
        self._listener.close()
        self.vanish()

    def vanish(self):
        """The cable is pulled."""
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    # -- registers by name

    def get(self, name):
        address, spec = register(name)
        return sum(self.words[address + i] << 32 * i for i in range(-(-spec.width // 32)))

    def put(self, name, value):
        address, spec = register(name)
        for i in range(-(-spec.width // 32)):
            self.words[address + i] = int(value) >> 32 * i & 0xFFFFFFFF

    def table(self, name):
        w = window(name)
        return [self.words[w.base + i] for i in range(w.depth)]

    # -- link

    def _serve(self):
        while not self._closed:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            carry = b""
            while True:
                try:
                    data = self._client.recv(65536)
                except OSError:
                    break
                if not data:
                    break
                *frames, carry = (carry + data).split(b"\0")
                for frame in frames:
                    if frame and not self.deaf:
                        self._request(frame)
            self._client.close()

    def _request(self, frame):
        parsed = parse_packet(frame)
        if parsed is None:
            return
        kind, sequence, body = parsed
        self.requests.append((kind, sequence, body))
        if self.answer_delay_s:
            time.sleep(self.answer_delay_s)
        address = int.from_bytes(body[:2], "little")
        if kind == PacketKind.READ and len(body) == 3:
            self.before_read()
            addresses = range(address, address + body[2])
            if all(a in self.words for a in addresses):
                words = [0 if a in self.write_only else self.words[a] for a in addresses]
                answer = PacketKind.READ_DATA, b"".join(w.to_bytes(4, "little") for w in words)
            else:
                answer = PacketKind.ERROR, bytes([ErrorCode.BAD_ADDRESS])
        elif kind == PacketKind.WRITE and len(body) > 2 and (len(body) - 2) % 4 == 0:
            values = [int.from_bytes(body[i : i + 4], "little") for i in range(2, len(body), 4)]
            if all(address + i in self.words for i in range(len(values))):
                for i, value in enumerate(values):
                    self._write(address + i, value)
                answer = PacketKind.WRITE_DONE, bytes([len(values)])
            else:
                answer = PacketKind.ERROR, bytes([ErrorCode.BAD_ADDRESS])
        else:
            answer = PacketKind.ERROR, bytes([ErrorCode.BAD_LENGTH])
        self.send(frame_packet(answer[0], sequence, answer[1]))

    def _write(self, address, value):
        name, spec = self.by_address.get(address, ("", None))
        if spec is not None and spec.access == "strobe":
            if value:
                if name == "system.arm":
                    self._running = [0] * len(RecordKind)
                self.on_strobe(name)
        elif spec is not None and spec.access == "w1c":
            self.words[address] &= ~value
        elif spec is None or spec.access != "ro":
            self.words[address] = value

    def send(self, packet):
        with self._send_lock, contextlib.suppress(OSError, AttributeError):
            self._client.sendall(self.mangle(packet))

    def send_records(self, kind, words, lose=False):
        """Put 64-bit records into packets; `lose` counts them but sends nothing."""
        for begin in range(0, len(words), MAX_RECORDS):
            part = np.asarray(words[begin : begin + MAX_RECORDS], "<u8")
            body = self._running[kind].to_bytes(4, "little") + part.tobytes()
            packet = frame_packet(EVENT_BASE + kind, self._event_sequence, body)
            self._event_sequence = (self._event_sequence + 1) % 256
            self._running[kind] = (self._running[kind] + len(part)) % 2**32
            name = f"events.sent_{kind.name.lower()}"
            self.put(name, self.get(name) + len(part))
            if not lose:
                self.send(packet)


def lose_once(station, name, lost):
    """Lose the first write to the strobe `name` on the way, or the station's "answer" to it."""
    write, mangle, left = station._write, station.mangle, [1]

    def strike(address, value):
        if left and station.by_address.get(address, ("",))[0] == name:
            left.clear()
            station.mangle = forget
            if lost == "request":
                return
        write(address, value)

    def forget(packet):
        station.mangle = mangle
        return b""

    station._write = strike


class FakeRelay:
    """Four fake stations with a slot counter that follows the wall clock, and light between them."""

    def __init__(self, twin_settings, slots_per_second=20e6, seed=1, bob_slip_slots=0):
        self.stations = {name: FakeStation(IDENTITY) for name in ("alice", "bob", "source", "receiver")}
        self.stations["source"].identity = replace(IDENTITY, board="fake source")
        self.urls = {name: station.url for name, station in self.stations.items()}
        self.alive = True
        self._settings = twin_settings
        self._rate = slots_per_second
        self._random = np.random.default_rng(seed)
        self._slip = bob_slip_slots
        self._began = None
        self._done = 0
        self._lock = threading.RLock()
        for name, station in self.stations.items():
            station.on_strobe = lambda strobe, name=name: self._strobe(name, strobe)
            station.before_read = self._advance
            station.put("system.state", State.CLOCK_LOCKED)

    def close(self):
        for station in self.stations.values():
            station.close()

    def _state(self, name, on=NOTHING, off=NOTHING):
        station = self.stations[name]
        station.put("system.state", (State(station.get("system.state")) | on) & ~off)

    def _strobe(self, name, strobe):
        station = self.stations[name]
        if strobe == "keystream.load":
            self._state(name, on=State.KEYSTREAM_READY | State.NONCE_FRESH)
        elif strobe == "system.arm":
            if station.get("keystream.enable") and not State(station.get("system.state")) & State.NONCE_FRESH:
                station.put("system.alarms", Alarm.ARM_REFUSED)
                return
            self._state(name, on=State.ARMED, off=State.FINISHED)
        elif strobe == "system.start":
            for each in self.stations:
                self._state(each, on=State.RUNNING, off=State.ARMED | State.NONCE_FRESH)
                self.stations[each].put("timebase.start_place", 3)
            self._began = time.monotonic()
            self._prepare()
        elif strobe == "system.disarm":
            self._advance()
            self._state(name, off=State.RUNNING | State.ARMED)

    def _prepare(self):
        receiver = self.stations["receiver"]
        self._start = receiver.get("timebase.start_slot")
        self._length = receiver.get("timebase.length")
        self._drawn = self._start
        self._due = []
        self._model = ClickModel(self._settings.relay_parameters())
        self._streams = {}
        self._levels = {}
        for name in ("alice", "bob"):
            station = self.stations[name]
            key = b"".join(w.to_bytes(4, "little") for w in station.table("key"))
            thresholds = tuple(station.get(f"keystream.threshold_{k}") for k in range(1, 8))
            nonce, stream = station.get("keystream.nonce"), station.get("keystream.stream")
            self._streams[name] = ChoiceStream(key, nonce, stream, thresholds)
            self._capture(name)

    def _capture(self, name):
        station = self.stations[name]
        first = station.get("audit.first_slot")
        delay = station.get("modulator.delay_0")
        slots = np.arange(first, first + 1024)
        setting, phase = self._streams[name].at(slots)
        choices = setting.astype(np.uint16) | phase.astype(np.uint16) << 3 | 1 << 7
        earlier, turned = self._streams[name].at(slots - delay)
        table = np.array(station.table("lines"), np.uint16)
        lines = table[2 | earlier.astype(int) << 2 | turned.astype(int) << 5]
        halves = np.stack([choices.reshape(-1, 4), lines.reshape(-1, 4)], axis=1).astype("<u2")
        for index, word in enumerate(halves.ravel().view("<u4")):
            station.words[window("audit").base + index] = int(word)
        self._state(name, on=State.AUDIT_COMPLETE)

    def _advance(self):
        with self._lock:
            receiver = self.stations["receiver"]
            if self._began is None or not State(receiver.get("system.state")) & State.RUNNING:
                return
            done = int((time.monotonic() - self._began) * self._rate) // 8 * 8
            if self._length:
                done = min(done, self._length)
            if done <= self._done:
                return
            self._announce(self._start + self._done, done - self._done)
            self._done = done
            receiver.put("timebase.slot_now", self._start + done)
            receiver.put("counters.slots", done)
            receiver.put("counters.live_slots", done)
            if done == self._length:
                for name in self.stations:
                    self._state(name, on=State.FINISHED, off=State.RUNNING)

    def _announce(self, first, slots):
        """Send the successes of some slots, which do not depend on how many are asked for at a time."""
        while self._drawn < first + slots:
            self._due.append(self._draw(self._drawn))
            self._drawn += _DRAWN_AT_ONCE
        due = np.concatenate(self._due)
        sent, later = np.split(due, [np.searchsorted(due["slot"], first + slots)])
        self._due = [later]
        receiver = self.stations["receiver"]
        for code, number in enumerate(np.bincount(sent["outcome"], minlength=5)[1:], start=1):
            receiver.put(f"counters.outcome_{code}", receiver.get(f"counters.outcome_{code}") + int(number))
        receiver.send_records(RecordKind.SUCCESS, pack_records(sent, RecordKind.SUCCESS))

    def _draw(self, first):
        """Draw successes by thinning: candidates at the largest gain, kept as their own settings and phases say."""
        photons = np.array(self._settings.level_photon_numbers())
        same, opposite = self._model.pattern_coefficients(photons[:, None], photons[None, :])
        constant = same[..., SAME_SIGN].sum(-1), same[..., OPPOSITE_SIGN].sum(-1)
        swing = opposite[..., SAME_SIGN].sum(-1), opposite[..., OPPOSITE_SIGN].sum(-1)
        largest = float((constant[0] + constant[1]).max())
        count = self._random.binomial(_DRAWN_AT_ONCE, largest)
        candidates = np.unique(self._random.integers(first, first + _DRAWN_AT_ONCE, count))
        table = sender_lines([0, 1, 2])
        assert np.array_equal(table, np.array(self.stations["alice"].table("lines"), np.uint16))
        a, phase_a = self._streams["alice"].at(candidates)
        b, phase_b = self._streams["bob"].at(candidates + self._slip)
        delta = 2 * np.pi / 16 * (phase_a.astype(float) - phase_b.astype(float)) + self._settings.phase_offset_rad
        same_sign = constant[0][a, b] + swing[0][a, b] * np.cos(delta)
        opposite_sign = constant[1][a, b] + swing[1][a, b] * np.cos(delta)
        dice = self._random.random(len(candidates)) * largest
        sign = np.where(dice < same_sign, 0, np.where(dice < same_sign + opposite_sign, 1, 2))
        port = self._random.integers(0, 2, len(candidates))
        outcome = np.choose(sign, [np.where(port, 4, 1), np.where(port, 3, 2), 0])
        kept = outcome > 0
        records = np.zeros(int(kept.sum()), DTYPES[RecordKind.SUCCESS])
        records["slot"], records["outcome"] = candidates[kept], outcome[kept]
        records["pattern"] = np.array([0, 0b0101, 0b1001, 0b0110, 0b1010])[outcome[kept]]
        return records


def click_words(slots, detectors, fines):
    """64-bit click records."""
    return [
        RECORDS[RecordKind.CLICK].pack({"slot": s, "fine": f, "detector": d, "flags": 0})
        for s, d, f in zip(slots, detectors, fines, strict=True)
    ]
