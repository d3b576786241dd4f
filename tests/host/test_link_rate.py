"""Event rate of a link: computed from the packets on the wire, and measured on a station in Python."""

import json
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from fake_station import IDENTITY, FakeStation

from qrelay import cli
from qrelay.board import Board
from qrelay.errors import RunError
from qrelay.link import Link
from qrelay.link_rate import bytes_per_packet, link_records_per_second, measure, records_per_second
from qrelay.protocol.packets import EVENT_BASE, frame_packet
from qrelay.protocol.records import RecordKind

SLOTS_PER_S = 304_520_000


@pytest.mark.parametrize("records", [1, 2, 28, 29])
def test_length_does_not_depend_on_what_is_sent(records):
    source = np.random.default_rng(1)
    for content in (source.bytes(4 + 8 * records), b"\0" * (4 + 8 * records), b"\xff" * (4 + 8 * records)):
        assert len(frame_packet(0x41, 7, content)) == bytes_per_packet(records)


def test_three_megabaud():
    """By hand: kind, sequence, count 4, records 29 x 8, CRC 4, COBS 1, delimiter 1 are 244 bytes of 10 bits."""
    assert bytes_per_packet() == 244
    assert records_per_second(3_000_000) == pytest.approx(300_000 / 244 * 29)
    assert records_per_second(3_000_000, 1) == pytest.approx(15_000)
    assert link_records_per_second(replace(IDENTITY, link_baud=3_000_000)) == records_per_second(3_000_000)
    assert link_records_per_second(IDENTITY) == pytest.approx(76_130_000 / 244 * 29)


def test_usb():
    """By hand: 13 packets of 512 bytes in each of 8000 microframes, less than the byte per word of the station."""
    assert records_per_second(480_000_000) == pytest.approx(53_248_000 / 244 * 29)
    by_usb = replace(IDENTITY, link_baud=480_000_000)
    assert link_records_per_second(by_usb) == records_per_second(480_000_000)
    # A link faster than the station: its own byte per word is the limit.
    slow = replace(by_usb, slot_rate_numerator_hz=100_000_000, slot_rate_denominator=1)
    assert link_records_per_second(slow) == pytest.approx(25_000_000 / 244 * 29)


@pytest.mark.parametrize("records", [0, 30])
def test_packets_that_do_not_exist(records):
    with pytest.raises(ValueError, match=f"{records} records: an event packet holds 1 to 29"):
        bytes_per_packet(records)


class ClickingStation(FakeStation):
    """Sends packets of clicks while armed, started and pulsed; by its own clock there are 20000 clicks per second."""

    CLICKS_PER_S = 20_000

    def __init__(self, identity=IDENTITY):
        super().__init__(identity)
        self.clicking = threading.Event()
        self.on_strobe = self._strobe

    def _strobe(self, name):
        if name == "system.start" and self.get("receiver.pulser_period") == 1 and self.get("events.enable_click"):
            self.clicking.set()
            threading.Thread(target=self._click, daemon=True).start()
        elif name == "system.disarm":
            self.clicking.clear()

    def _click(self):
        sent = 0
        while self.clicking.is_set() and not self._closed:
            self.send_records(RecordKind.CLICK, np.arange(sent, sent + 29))
            sent += 29
            self.put("timebase.slot_now", sent * SLOTS_PER_S // self.CLICKS_PER_S // 4 * 4)
            self.put("events.dropped_click", 3 * sent)
            time.sleep(0.001)


def test_measured_rate():
    with ClickingStation() as station, Board.open(station.url) as board:
        shown = []
        rate = measure(board, 0.5, progress=lambda done, total: shown.append((done, total)))
        assert not station.clicking.is_set()
        assert station.get("receiver.pulser_period") == 0
        assert station.get("events.enable_click") == 0
    assert rate.seconds >= 0.5
    assert rate.per_second == rate.records / rate.seconds
    # What is sent between the last look at the station's clock and the last look at the records depends on the host.
    assert rate.per_station_second == pytest.approx(ClickingStation.CLICKS_PER_S, rel=0.5)
    assert rate.records % 29 == 0
    assert (rate.lost, rate.damaged_frames) == (0, 0)
    assert rate.dropped > 0
    assert {total for _, total in shown} == {5}


def test_losses_are_told():
    with ClickingStation() as station, Board.open(station.url) as board:
        packets = [0]

        def mangle(packet):
            if len(packet) != 244:
                return packet
            packets[0] += 1
            return packet[:20] + b"\x55\xaa" + packet[22:] if packets[0] % 10 == 0 else packet

        station.mangle = mangle
        rate = measure(board, 0.5)
    assert rate.damaged_frames > 0
    assert rate.lost >= 29


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_terminal_at_full_speed_loses_nothing():
    """Half a million records through a terminal of the system, as fast as it takes them, in parts as USB makes them."""
    count, per_packet = 500_000, 25
    wire = b"".join(
        frame_packet(
            EVENT_BASE + RecordKind.CLICK,
            sequence % 256,
            (first % 2**32).to_bytes(4, "little") + np.arange(first, first + per_packet, dtype="<u8").tobytes(),
        )
        for sequence, first in enumerate(range(0, count, per_packet))
    )
    import tty

    controller, terminal = os.openpty()
    tty.setraw(terminal)
    link = Link.open(os.ttyname(terminal))
    try:
        for part in range(0, len(wire), 512):
            sent = memoryview(wire)[part : part + 512]
            while sent:
                sent = sent[os.write(controller, sent) :]
        taken = []
        for _ in range(500):
            taken += [int(slot) for slot in link.take(RecordKind.CLICK)["slot"]]
            if len(taken) >= count:
                break
            time.sleep(0.01)
        statistics = link.statistics
    finally:
        link.close()
        os.close(controller)
        os.close(terminal)
    assert taken == list(range(count))
    assert statistics.damaged_frames == 0
    assert not any([*statistics.lost_records, *statistics.discarded_records])


def test_station_without_clicks(monkeypatch):
    monkeypatch.setattr("qrelay.link_rate._START_LIMIT_S", 0.1)
    with (
        FakeStation() as station,
        Board.open(station.url) as board,
        pytest.raises(RunError, match=r"no clicks from its test pulser; state and alarms: none"),
    ):
        measure(board, 0.5)


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["qrelay", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    return end.value.code or 0, out, err


def test_command(monkeypatch, capsys):
    with ClickingStation(replace(IDENTITY, link_baud=3_000_000)) as station:
        code, out, _ = call(monkeypatch, capsys, "bench", station.url, "--seconds", "0.3", "--json")
        assert code == 0
        shown = json.loads(out)
        boards = {entry["board"]: entry for entry in shown["computed"]}
        assert set(boards) >= {"ulx3s-85f", "ecpix5-85f", "butterstick-85f", "orangecrab-85f"}
        assert boards["ulx3s-85f"]["records_per_second"] == pytest.approx(35_656, rel=1e-4)
        assert boards["ecpix5-85f-usb"]["records_per_second"] == pytest.approx(6_328_656, rel=1e-6)
        (measured,) = shown["measured"]
        assert measured["share_of_computed"] == pytest.approx(measured["records_per_second"] / 35_656, rel=1e-4)
        code, out, _ = call(monkeypatch, capsys, "bench", station.url, "--seconds", "0.3")
        assert code == 0
        assert "% of what 3 Mbaud carries at most" in out
    code, out, _ = call(monkeypatch, capsys, "bench")
    assert code == 0
    assert out.startswith("computed, not measured: ")
    assert "measured: " not in out.partition("\n")[2]
    assert "USB high speed" in out


def test_station_without_detectors(monkeypatch, capsys):
    with FakeStation(replace(IDENTITY, detectors=0)) as station:
        code, _, err = call(monkeypatch, capsys, "bench", station.url)
    assert code == 1
    assert "(fake) has no detectors whose clicks could fill its link" in err
