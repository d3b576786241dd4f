import random

import pytest

from qrelay.packet_decoder import PacketDecoder
from qrelay.protocol.packets import EVENT_BASE, PacketKind, frame_packet
from qrelay.protocol.records import RecordKind


def event(kind, sequence, running, count):
    return frame_packet(EVENT_BASE + kind, sequence, running.to_bytes(4, "little") + bytes(range(8)) * count)


def test_any_cut_of_the_stream_gives_the_same():
    packets = [event(0, 0, 0, 3), frame_packet(PacketKind.READ_DATA, 7, b"abcd"), event(1, 1, 0, 29), event(0, 2, 3, 1)]
    stream = b"".join(packets)
    for size in (1, 2, 7, 100, len(stream)):
        answers = []
        decoder = PacketDecoder(answers.append)
        for i in range(0, len(stream), size):
            decoder.feed(stream[i : i + size])
        assert [(a[0], a[1], a[2:-4]) for a in answers] == [(PacketKind.READ_DATA, 7, b"abcd")]
        assert decoder.statistics.records[:2] == [4, 29]
        assert decoder.statistics.damaged_frames == 0
        assert decoder.statistics.lost_packets == 0


def test_lost_records_are_known_exactly():
    decoder = PacketDecoder()
    decoder.expect_from_zero()
    decoder.feed(event(0, 5, 0, 2))
    decoder.feed(event(0, 8, 2 + 29 + 29, 4))
    assert decoder.statistics.lost_records[RecordKind.SUCCESS] == 58
    assert decoder.statistics.lost_packets == 2


def test_the_first_packet_after_arm_may_be_lost_too():
    decoder = PacketDecoder()
    decoder.feed(event(0, 5, 1000, 2))
    assert decoder.statistics.lost_records[0] == 0
    decoder.expect_from_zero()
    decoder.feed(event(0, 6, 29, 1))
    assert decoder.statistics.lost_records[0] == 29


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_counts_begin_anew_at_the_answer_to_arm_wherever_the_stream_is_cut(size):
    """What came before it and was not taken is of an earlier run; all that follows is of this one."""
    decoder = PacketDecoder(lambda payload: decoder.expect_from_zero())
    arm_done = frame_packet(PacketKind.WRITE_DONE, 1, b"\1")
    stream = event(0, 4, 700, 9) + event(4, 5, 0, 1) + arm_done + event(0, 6, 0, 5) + event(0, 7, 5, 2)
    for i in range(0, len(stream), size):
        decoder.feed(stream[i : i + size])
    assert [len(b"".join(bodies)) // 8 for bodies in decoder.bodies[:5]] == [7, 0, 0, 0, 0]
    assert decoder.statistics.records[:5] == [7, 0, 0, 0, 0]
    assert decoder.statistics.lost_records == [0] * len(RecordKind)


def test_running_counts_wrap():
    decoder = PacketDecoder()
    decoder.feed(event(2, 0, 2**32 - 3, 3))
    decoder.feed(event(2, 1, 0, 3))
    assert decoder.statistics.lost_records == [0] * len(RecordKind)


def test_a_station_armed_by_someone_else_is_no_loss():
    decoder = PacketDecoder()
    decoder.feed(event(0, 0, 5000, 3))
    decoder.feed(event(0, 1, 0, 3))
    assert decoder.statistics.lost_records[0] == 0


def test_every_single_bit_flip_is_noticed():
    packet = event(0, 0, 0, 2)
    for bit in range(8 * len(packet)):
        damaged = bytearray(packet)
        damaged[bit // 8] ^= 1 << bit % 8
        decoder = PacketDecoder()
        decoder.expect_from_zero()
        decoder.feed(bytes(damaged) + b"\0" + event(0, 1, 2, 1))
        assert decoder.statistics.damaged_frames >= 1
        assert decoder.statistics.records[0] == 1
        assert decoder.statistics.lost_records[0] == 2


def test_random_bytes_are_counted_and_leave_the_decoder_working():
    answers = []
    decoder = PacketDecoder(answers.append)
    noise = random.Random(1).randbytes(200_000)
    for i in range(0, len(noise), 1000):
        decoder.feed(noise[i : i + 1000])
    assert decoder.statistics.damaged_frames > 500
    decoder.feed(b"\0")
    decoder.feed(frame_packet(PacketKind.WRITE_DONE, 1, b"\1"))
    assert len(answers) == 1


def test_an_endless_frame_takes_no_memory():
    answers = []
    decoder = PacketDecoder(answers.append)
    for _ in range(100):
        decoder.feed(b"\x55" * 10_000)
    assert len(decoder._carry) < 1000
    decoder.feed(b"\0")
    assert decoder.statistics.damaged_frames == 1
    decoder.feed(frame_packet(PacketKind.WRITE_DONE, 1, b"\1"))
    assert len(answers) == 1


@pytest.mark.benchmark(group="link")
def test_decode_speed(benchmark):
    stream = b"".join(event(0, i % 256, 29 * i, 29) for i in range(2000))
    decoder = PacketDecoder()

    def decode():
        decoder.feed(stream)
        decoder.bodies[0].clear()

    benchmark(decode)
