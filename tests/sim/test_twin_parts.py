"""Parts of the twin that need no compiled station: endpoints, fibres, click order."""

import time

import numpy as np
import pytest
import serial

from qrelay.twin_settings import TwinSettings
from qrelay_sim.optics import RelayOptics
from qrelay_sim.twin.click_queue import ClickQueue
from qrelay_sim.twin.endpoint import HIGH_WATER_BYTES, PtyEndpoint, TcpEndpoint
from qrelay_sim.twin.loop import injected_phase_rad, optics_settings
from qrelay_sim.twin.wiring import LEVEL_SHIFT, PULSE, DelayLine, FibrePaths, sender_light, source_light


def poll_until(endpoint, count, seconds=2.0):
    end = time.monotonic() + seconds
    while len(data := endpoint.poll()) < count and time.monotonic() < end:
        time.sleep(0.005)
    return data


@pytest.mark.parametrize("make", [TcpEndpoint, PtyEndpoint])
def test_pyserial_talks_to_an_endpoint_and_comes_back(make):
    endpoint = make()
    try:
        for greeting in (b"first", b"second"):
            with serial.serial_for_url(endpoint.url, timeout=2) as client:
                client.write(greeting)
                assert poll_until(endpoint, len(greeting)) == greeting
                endpoint.taken(len(greeting))
                endpoint.offer(b"\0answer")
                endpoint.poll()
                assert client.read(7) == b"\0answer"
    finally:
        endpoint.close()


@pytest.mark.parametrize("make", [TcpEndpoint, PtyEndpoint])
def test_bytes_nobody_takes_are_kept_for_the_station(make):
    endpoint = make()
    try:
        with serial.serial_for_url(endpoint.url, timeout=2) as client:
            client.write(b"abcdef")
            assert poll_until(endpoint, 6) == b"abcdef"
            endpoint.taken(2)
            assert endpoint.poll() == b"cdef"
    finally:
        endpoint.close()


def test_a_slow_client_stalls_the_twin_and_bytes_are_not_lost():
    endpoint = TcpEndpoint()
    payload = bytes(range(256)) * (HIGH_WATER_BYTES // 16)
    try:
        with serial.serial_for_url(endpoint.url, timeout=5) as client:
            endpoint.poll()
            endpoint.offer(payload)
            assert endpoint.stalled
            received = bytearray()
            while len(received) < len(payload):
                received += client.read(65536)
                endpoint.poll()
            assert bytes(received) == payload
            assert not endpoint.stalled
            assert endpoint.discarded == 0
    finally:
        endpoint.close()


def test_without_a_client_bytes_are_discarded_and_counted():
    endpoint = TcpEndpoint()
    try:
        endpoint.offer(b"nobody")
        assert endpoint.discarded == 6
        assert not endpoint.pending
    finally:
        endpoint.close()


def test_light_codes_follow_the_lines_only():
    light = sender_light()
    bins = 1 | 1 << 2 * 1 | 1 << 2 * 4 | 1 << 2 * 6  # carve, level code 1, phase bits 1 and 3
    assert light[bins] == PULSE | 1 << LEVEL_SHIFT | 0b1010
    assert light[bins & ~1] == 0  # no carve: dark, whatever the other lines do
    assert light[bins << 1] == 0  # second bins are too late for the pulse
    source = source_light()
    assert source[1] == PULSE
    assert source[1 | 1 << 2 * 2] == 0  # shutter


@pytest.mark.parametrize("delay", [0, 1, 7, 100])
def test_delay_line_is_independent_of_batches(delay):
    codes = np.arange(1, 61, dtype=np.uint8)
    line = DelayLine(delay)
    out = np.concatenate([line.pass_through(part) for part in (codes[:5], codes[5:6], codes[6:40], codes[40:])])
    assert np.array_equal(out, np.concatenate((np.zeros(delay, np.uint8), codes))[:60])


def test_paths_put_the_two_ends_of_a_photon_together():
    paths = FibrePaths(alice_m1=100, bob_m2=90, source_m1=110, source_m2=130)
    assert paths.lag == 40
    # A source slot t meets Alice's slot t + 110 - 100 and Bob's t + 130 - 90.
    assert paths.lag - paths.alice_lag == 10
    assert paths.lag - paths.bob_lag == 40
    assert (paths.m1_delay, paths.m2_delay) == (70, 90)


def test_paths_name_what_is_impossible():
    with pytest.raises(ValueError, match="alice_m1 = -1 slots; give 8 or more"):
        FibrePaths(alice_m1=-1, bob_m2=8, source_m1=8, source_m2=8)
    with pytest.raises(ValueError, match="differ too much"):
        FibrePaths(alice_m1=8, bob_m2=8, source_m1=10, source_m2=100)


def test_click_queue_orders_and_keeps_one_edge_per_slot():
    queue = ClickQueue()
    queue.put(
        np.array([9, 4, 9, 9, 20], np.int64),
        np.array([2, 1, 2, 0, 3], np.uint8),
        np.array([192, 64, 64, 64, 64], np.uint8),
    )
    hits = queue.take(4, 8)
    assert hits.tolist() == [(0, 4, 64), (1, 1, 64), (1, 9, 64)]
    assert queue.take(12, 12).tolist() == [(2, 12, 64)]
    assert len(queue.take(24, 4)) == 0


def test_click_queue_refuses_the_past():
    queue = ClickQueue()
    queue.put(np.array([3], np.int64), np.array([0], np.uint8), np.array([64], np.uint8))
    with pytest.raises(AssertionError, match="1 slots too late"):
        queue.take(4, 4)


def test_the_injected_phase_is_known_from_the_beginning_of_a_long_run_to_its_end():
    """As the light of the run had it, which was asked slot after slot and remembers 1e9 slots."""
    levels = (0.0, 0.005, 0.016, 0.0)
    settings = TwinSettings(
        seed=5, phase_offset_rad=0.3, phase_drift_rad_per_ms=2.0, mean_photon_number_by_level_code=levels
    )
    slots = np.linspace(0, 3e9, 4096).astype(np.int64)
    phases = injected_phase_rad(settings, slots)
    assert len(phases) == len(slots)
    light = RelayOptics(optics_settings(settings), seed=5)
    for k in range(0, 4096, 16):
        assert phases[k] == light.phase_error(slots[k : k + 1])[0]
