import errno
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import serial
from fake_station import IDENTITY, FakeStation, click_words

from qrelay.board import Board
from qrelay.errors import IdentityMismatch, LinkClosed, LinkError, LinkTimeout, RegisterError, StationRefused
from qrelay.protocol import PROTOCOL_HASH
from qrelay.protocol.packets import PacketKind
from qrelay.protocol.records import RecordKind


@pytest.fixture
def station():
    with FakeStation() as fake:
        yield fake


@pytest.fixture
def board(station):
    with Board.open(station.url, timeout_s=0.1) as opened:
        yield opened


def test_registers_by_name(station, board):
    board.write("timebase.start_slot", 2**47 + 8)
    assert board.read("timebase.start_slot") == 2**47 + 8 == station.get("timebase.start_slot")
    board.write("receiver.dead_slots_2", 9)
    assert board.read_group("receiver")["dead_slots_2"] == 9


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "receiver.dead_slots_0",
            65536,
            "register receiver.dead_slots_0: 65536 is out of range; give 0 to 65535 slots",
        ),
        ("receiver.gate_width_1", -1, "register receiver.gate_width_1: -1 is out of range; give 0 to 511 fines"),
        ("keystream.threshold_3", 4097, "register keystream.threshold_3: 4097 is out of range; give 0 to 4096"),
        ("system.uptime", 1, "register system.uptime is read-only"),
        ("receiver.dead_slot_0", 1, "no register 'receiver.dead_slot_0'; did you mean: receiver.dead_slots_0"),
    ],
)
def test_wrong_writes_name_register_value_and_limit(station, board, name, value, message):
    before = len(station.requests)
    with pytest.raises(RegisterError) as caught:
        board.write(name, value)
    assert str(caught.value).startswith(message)
    assert len(station.requests) == before


def test_nothing_is_written_if_one_of_many_is_wrong(station, board):
    with pytest.raises(RegisterError):
        board.write_many({"system.scratch": 5, "receiver.delay_slots_0": 5000})
    assert station.get("system.scratch") == 0


def test_tables(station, board):
    values = np.arange(512) % 65536
    board.write_table("lines", values)
    assert station.table("lines") == values.tolist()
    board.write_table("steps", [3, 5], first=62)
    assert board.read_table("steps", 62) == [3, 5]
    with pytest.raises(RegisterError, match="table success, entry 12: 16 is out of range; give 0 to 15"):
        board.write_table("success", [16], first=12)
    with pytest.raises(RegisterError, match="table steps: entries 60 to 69 do not fit its 64"):
        board.write_table("steps", [0] * 10, first=60)
    with pytest.raises(RegisterError, match="table audit is read-only"):
        board.write_table("audit", [0])
    with pytest.raises(RegisterError, match="table key is write-only"):
        board.read_table("key")


def test_key_goes_in_and_does_not_come_out(station, board):
    key = bytes(range(32))
    strobes = []
    station.on_strobe = strobes.append
    board.load_key(key)
    assert b"".join(w.to_bytes(4, "little") for w in station.table("key")) == key
    assert strobes == ["keystream.load"]
    with pytest.raises(RegisterError, match="key of 16 bytes; AES-256 takes 32"):
        board.load_key(key[:16])


def test_another_protocol_is_refused_and_both_values_are_shown():
    with FakeStation(replace(IDENTITY, protocol_hash=0x1234)) as other, pytest.raises(IdentityMismatch) as caught:
        Board.open(other.url, timeout_s=0.2)
    assert f"{0x1234:#018x}" in str(caught.value)
    assert f"{PROTOCOL_HASH:#018x}" in str(caught.value)


@pytest.mark.parametrize(("place", "value"), [("phy", 57), ("entropy", 99)])
def test_another_protocol_is_refused_before_its_values_are_read(place, value):
    """What another protocol holds there is no value of this one; the remedy is the same."""
    identity = replace(IDENTITY, protocol_hash=0x1234, **{place: value})
    with FakeStation(identity) as other, pytest.raises(IdentityMismatch) as caught:
        Board.open(other.url, timeout_s=0.2)
    message = str(caught.value)
    assert message.startswith(f"{other.url}: station 'fake' (gateware 0.1.0) has protocol {0x1234:#018x}")
    assert f"this host has {PROTOCOL_HASH:#018x}" in message
    assert message.endswith("flash the bitstream of this version, or install the version of the bitstream")


def test_something_else_at_the_port_is_refused():
    with FakeStation() as other:
        other.words[0] = 0xDEADBEEF
        with pytest.raises(IdentityMismatch, match="magic 0xdeadbeef is not that of a qrelay station"):
            Board.open(other.url, timeout_s=0.2)


def test_nobody_there():
    with pytest.raises(LinkError, match=r"cannot open socket://127.0.0.1:9"):
        Board.open("socket://127.0.0.1:9")


def test_a_port_that_the_user_may_not_use(monkeypatch):
    def refuse(*_, **__):
        raise serial.SerialException(errno.EACCES, "could not open port /dev/ttyUSB0: Permission denied")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(LinkError, match=r"^cannot open /dev/ttyUSB0: .*sudo usermod -aG dialout \$USER, then log in"):
        Board.open("/dev/ttyUSB0")


def test_a_silent_station_times_out_with_a_hint():
    with FakeStation() as mute:
        mute.deaf = True
        with pytest.raises(LinkTimeout, match=r"no answer to the read of 58 words at 0x0000 in 4 x 0.05 s"):
            Board.open(mute.url, timeout_s=0.05)


def test_a_refused_address_is_an_error_at_once(board):
    with pytest.raises(StationRefused, match="refused the read of 1 words at 0x3fff: BAD_ADDRESS"):
        board.link.read(0x3FFF)
    assert board.statistics.retries == 0


def lose(packets):
    """Drop the outgoing packets with these numbers."""
    count = [0]

    def mangle(packet):
        count[0] += 1
        return b"" if count[0] in packets else packet

    return mangle


def test_lost_answers_are_asked_for_again(station, board):
    station.mangle = lose({1, 3})
    board.write("system.scratch", 77)
    assert board.read("system.scratch") == 77
    assert board.statistics.retries == 2


def test_corrupted_answers_are_asked_for_again(station, board):
    def mangle(packet):
        return bytes([packet[0], packet[1] ^ 0x40, *packet[2:]]) if len(station.requests) % 2 else packet

    station.mangle = mangle
    station.requests.clear()
    board.write("system.scratch", 78)
    assert board.read("system.scratch") == 78
    assert board.statistics.damaged_frames >= 1


def test_an_answer_cut_in_the_middle_does_not_spoil_the_next(station, board):
    cut = [True]

    def mangle(packet):
        if cut.pop() if cut else False:
            return packet[:5]
        return packet

    station.mangle = mangle
    # The cut frame and the next answer run together: both are lost, a third attempt is answered.
    board.write("system.scratch", 79)
    assert station.get("system.scratch") == 79
    assert board.statistics.damaged_frames == 1


def test_late_answers_are_taken_once_and_never_for_another_request(station, board):
    station.answer_delay_s = 0.15
    board.write("system.scratch", 5)
    assert board.read("system.scratch") == 5
    station.answer_delay_s = 0
    time.sleep(0.4)
    for value in range(300):
        board.write("system.scratch", value)
        assert board.read("system.scratch") == value
    assert board.statistics.late_answers >= 1


def test_the_start_pulse_is_never_sent_twice(station, board):
    strobes = []
    station.on_strobe = strobes.append
    station.mangle = lambda packet: b"" if packet[1] == PacketKind.WRITE_DONE else packet
    with pytest.raises(LinkTimeout):
        board.start()
    assert strobes == ["system.start"]
    station.put("system.state", 0b10)
    board.start()
    assert strobes == ["system.start"] * 2


def test_a_vanished_board_is_reported_at_once_and_its_records_stay(station, board):
    station.send_records(RecordKind.CLICK, click_words([8, 9], [0, 3], [64, 192]))
    assert board.link.wait_for_records(1)
    threading.Timer(0.05, station.vanish).start()
    station.deaf = True
    # Not LinkTimeout: nobody waits for the answer.
    with pytest.raises(LinkClosed, match="is down"):
        board.read("system.scratch")
    assert board.take(RecordKind.CLICK)["fine"].tolist() == [64, 192]


def test_records_and_losses_after_arm(station, board):
    board.arm()
    station.send_records(RecordKind.CLICK, click_words(range(100), [1] * 100, [64] * 100))
    station.send_records(RecordKind.CLICK, click_words([200], [2], [64]), lose=True)
    station.send_records(RecordKind.CLICK, click_words([300], [3], [192]))
    arrays = [records for kind, records in board.events(idle_s=0.2) if kind == RecordKind.CLICK]
    clicks = np.concatenate(arrays)
    assert clicks["slot"].tolist() == [*range(100), 300]
    assert board.statistics.lost_records[RecordKind.CLICK] == 1
    assert board.statistics.lost_packets == 1
    assert station.get("events.sent_click") == 102


def test_a_client_may_leave_and_come_back(station):
    for value in (1, 2, 3):
        with Board.open(station.url, timeout_s=0.5) as board:
            board.write("system.scratch", value)
            assert board.read("system.scratch") == value
