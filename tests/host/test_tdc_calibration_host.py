"""Calibration of a carry chain: from the model's captures through the golden encoder back to its taps."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from qrelay.errors import CalibrationError
from qrelay.protocol.units import fines_to_ps
from qrelay.tdc_calibration import calibrate
from qrelay_sim.golden.tdc import encode, histogram
from qrelay_sim.tap_chain import CAPTURE_PS, TapChain

HITS = 1 << 17
PART = 1 << 13
GRADES = ["6", "8"]


def pulses(chain, seed, hits=HITS):
    """Isolated pulses at any time: histogram, and code and age of each."""
    random = np.random.default_rng(seed)
    counts = np.zeros(512, np.int64)
    codes, ages = [], []
    for _ in range(hits // PART):
        since = random.uniform(0, CAPTURE_PS, PART)
        found = encode(chain.isolated(since, random), last_level=False)
        valid = found.valid.reshape(PART, 3)
        assert (valid.sum(axis=1) == 1).all(), "each edge once"
        counts += histogram(found.valid, found.code)
        codes.append(found.code[found.valid])
        ages.append(since + CAPTURE_PS * valid[:, 2])
    return counts, np.concatenate(codes), np.concatenate(ages)


@cache
def calibrated_chain(grade):
    chain = TapChain.random(np.random.default_rng(int(grade)), grade=grade)
    return chain, calibrate(pulses(chain, 1)[0])


def test_ideal_chain():
    """256 equal codes of two fines."""
    result = calibrate(np.where(np.arange(512) < 256, 1000, 0))
    np.testing.assert_array_equal(np.abs(result.table[:256] - (511 - 2 * np.arange(256))), 0)
    np.testing.assert_allclose(result.widths_ps, fines_to_ps(2))
    np.testing.assert_allclose([result.dnl_lsb, result.inl_lsb], 0, atol=1e-9)
    assert result.rms_error_ps == pytest.approx(fines_to_ps(2) / 12**0.5)
    assert result.effective_resolution_ps == pytest.approx(fines_to_ps(2))
    assert (result.last_code, result.high_from, result.low_from) == (255, 32, 33)


@pytest.mark.parametrize("grade", GRADES)
def test_recovers_the_injected_widths(grade):
    """Widths within five standard deviations of the counts: false alarm of 270 codes 1.5e-4."""
    chain = replace(calibrated_chain(grade)[0], tap_jitter=0.0)
    borders = np.sort(chain.reaches)[3:]
    widths = np.diff(np.minimum(borders, borders[0] + CAPTURE_PS))
    result = calibrate(pulses(chain, 2)[0])
    probability = widths[: result.last_code + 1] / CAPTURE_PS
    deviation = CAPTURE_PS * np.sqrt(probability * (1 - probability) / HITS)
    # The last code ends where the next capture takes over, which jitter blurs.
    np.testing.assert_array_less(np.abs(result.widths_ps - CAPTURE_PS * probability)[:-1], 5 * deviation[:-1] + 0.2)
    np.testing.assert_allclose(result.widths_ps.sum(), CAPTURE_PS)


@pytest.mark.parametrize("grade", GRADES)
def test_rms_error_is_below_20_ps(grade):
    """Fresh hits, after subtraction of the constant offset that belongs to the bitstream."""
    chain, result = calibrated_chain(grade)
    _, codes, ages = pulses(chain, 3, hits=1 << 15)
    error = fines_to_ps(1) * result.table[codes] + ages
    error -= error.mean()
    rms = float(np.sqrt((error**2).mean()))
    print(
        f"grade -{grade}: rms {rms:.1f} ps, predicted {result.rms_error_ps:.1f}, last code {result.last_code}, "
        f"DNL {result.dnl_lsb.min():.2f}..{result.dnl_lsb.max():.2f}, INL {np.abs(result.inl_lsb).max():.2f}"
    )
    assert rms < 20
    jitter = np.hypot(chain.edge_jitter, chain.tap_jitter)
    expected = np.sqrt(result.rms_error_ps**2 + jitter**2 + result.statistical_error_ps**2)
    assert rms == pytest.approx(expected, rel=0.5)
    uncalibrated = CAPTURE_PS * codes / (result.last_code + 1) - ages
    assert uncalibrated.std() > rms


@pytest.mark.parametrize("grade", GRADES)
def test_settings_let_short_pulses_count(grade):
    chain, result = calibrated_chain(grade)
    random = np.random.default_rng(4)
    toggles = np.cumsum(random.uniform(600, 5000, 20000))
    toggles = toggles[toggles < 6000 * CAPTURE_PS]
    taps = chain.capture(toggles, 6002, random)
    hits = encode(taps, high_from=result.high_from, low_from=result.low_from)
    assert hits.valid.sum() + hits.extra.sum() == (len(toggles) + 1) // 2


def counts_of(codes, each=1000):
    return np.where(np.arange(512) < codes, each, 0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (counts_of(200)[:288], "512 counts of 32 bits"),
        (counts_of(200, each=499), "99800 hits, but 100000 are needed"),
        (counts_of(265), "code 264 occurred, but a chain of 288 taps that spans more than two slots stays below 264"),
        (counts_of(12, each=10000), "code 0 took 43 fines, but at most 32 are a tap"),
    ],
)
def test_refused(counts, message):
    with pytest.raises(CalibrationError, match=message):
        calibrate(counts)
