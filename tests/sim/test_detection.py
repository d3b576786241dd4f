"""Dead time, afterpulses, place of the edges, rare events and drift, each against its plain definition."""

import itertools

import numpy as np
import pytest
from scipy import stats

from qrelay_sim.detection import Afterpulses, DeadTime, EdgeTiming, click_keys, one_per_slot
from qrelay_sim.drift import PhaseDrift
from qrelay_sim.optics import OpticsSettings, RelayOptics
from qrelay_sim.parameters import preset
from qrelay_sim.rare_events import RareEvents


def random_keys(rng, slots, probability):
    clicks = rng.random((slots, 4)) < probability
    slot, detector = np.nonzero(clicks)
    return click_keys(slot, detector, stray=False)


def live_clicks_one_by_one(keys, dead_slots):
    blind_until = [-1] * 4
    live = []
    for key in keys:
        slot, detector = int(key) >> 3, int(key) >> 1 & 3
        if slot > blind_until[detector]:
            live.append(key)
            blind_until[detector] = slot + dead_slots
    return live


@pytest.mark.parametrize("dead_slots", [0, 1, 2, 9, 40])
@pytest.mark.parametrize("probability", [0.003, 0.1, 0.9])
def test_dead_time_over_batches(dead_slots, probability):
    rng = np.random.default_rng(dead_slots)
    keys = random_keys(rng, 3000, probability)
    dead_time = DeadTime(dead_slots)
    live, first = [], 0
    for batch in (1, 1, 7, 100, 1, 890, 2000):
        inside = keys[(keys >> 3 >= first) & (keys >> 3 < first + batch)] - first * 8
        live.extend(dead_time.apply(inside, batch) + first * 8)
        first += batch
    np.testing.assert_array_equal(live, live_clicks_one_by_one(keys, dead_slots))


def test_one_per_slot_prefers_light():
    light = click_keys(np.array([3, 5]), np.array([1, 2]), stray=False)
    dark = click_keys(np.array([3, 4]), np.array([1, 2]), stray=True)
    np.testing.assert_array_equal(
        one_per_slot(np.sort(np.concatenate((light, dark)))), np.sort([light[0], dark[1], light[1]])
    )


def test_afterpulses_follow_their_law():
    """Rate within 4 sigma and delays by a Kolmogorov test (chance 1e-4), over batches of 64 slots."""
    rng = np.random.default_rng(2)
    afterpulses = Afterpulses(0.3, decay_slots=50.0, dead_slots=4, rng=rng)
    none = np.zeros(0, np.int64)
    # One click per detector at every 1024th slot, all four detectors together; batches of 64 slots.
    detectors = np.arange(4)
    delays, periods = [], 1000
    for _ in range(periods):
        out = afterpulses.add(click_keys(np.zeros(4, np.int64), detectors, stray=False), 64)
        born = [out[out & 1 == 1]]
        born += [afterpulses.add(none, 64) + quiet * 64 * 8 for quiet in range(1, 16)]
        delays.extend(np.concatenate(born) >> 3)
    parents = 4 * periods
    assert abs(len(delays) - 0.3 * parents) < 4 * np.sqrt(0.3 * 0.7 * parents)
    # Delays are whole slots: smear them over the slot before the comparison with the continuous law.
    smeared = np.array(delays) - 5 + rng.random(len(delays))
    assert stats.kstest(smeared, stats.expon(scale=50).cdf).pvalue > 1e-4


def placed(timing, keys, seed=1):
    return timing.place(keys, *np.random.default_rng(seed).spawn(3))


def test_edges_without_jitter_sit_at_the_pulse():
    keys = click_keys(np.array([1, 8]), np.array([0, 3]), stray=False)
    for pulse, bins, fine in ((64, 2, 64), (127, 2, 64), (128, 2, 192), (200, 2, 192), (200, 256, 200), (3, 1, 128)):
        slots, detectors, fines = placed(EdgeTiming(pulse, 0, 0, bins), keys)
        np.testing.assert_array_equal(slots, [1, 8])
        np.testing.assert_array_equal(detectors, [0, 3])
        np.testing.assert_array_equal(fines, fine)


def test_edges_follow_jitter_and_tail_into_the_neighbour_slots():
    """Kolmogorov test of the absolute place against the exponentially modified Gaussian, chance 1e-4."""
    keys = click_keys(np.full(20_000, 100), np.zeros(20_000, np.int64), stray=False)
    slots, _, fines = placed(EdgeTiming(pulse_fine=20, jitter_fines=15, tail_fines=90, bins=256), keys)
    place = (slots - 100) * 256 + fines + np.random.default_rng(1).random(20_000)
    assert set(slots) >= {99, 100, 101}
    assert stats.kstest(place, stats.exponnorm(90 / 15, loc=20.5, scale=15).cdf).pvalue > 1e-4


def test_dark_clicks_are_uniform_in_the_slot_and_scaled_by_the_gate():
    relay = preset("A")
    dark = OpticsSettings(
        relay.__class__(dark_count_per_gate=1e-3, source_mean_photons=0.0), (0.0,), gate_width_fines=64, fine_bins=256
    )
    slots = 1_000_000
    zero = np.zeros(slots, np.uint8)
    edges = RelayOptics(dark, 3).sample(zero, zero, zero, zero, np.ones(slots, np.bool_))
    inside = np.count_nonzero((edges.fine >= 96) & (edges.fine < 160))
    assert abs(inside - 4e-3 * slots) < 4 * np.sqrt(4e-3 * slots)
    # Equal shares are exact only as long as two dark clicks in one gate are rare.
    assert stats.chisquare(np.bincount(edges.fine, minlength=256)).pvalue > 1e-4


@pytest.mark.parametrize("probability", [0.7, 0.05, 1e-3])
def test_rare_events_are_independent_draws(probability):
    """Number of events within 4 sigma, gaps by chi-square (chance 1e-4), splits do not matter."""
    places = int(20_000 / probability)
    whole = RareEvents(probability, np.random.default_rng(1)).take(places)
    assert abs(len(whole) - probability * places) < 4 * np.sqrt(probability * (1 - probability) * places)
    assert np.all(np.diff(whole) > 0)
    assert whole[-1] < places
    quantile = stats.geom(probability).cdf(np.diff(whole) - 1) + stats.geom(probability).pmf(
        np.diff(whole)
    ) * np.random.default_rng(2).random(len(whole) - 1)
    assert stats.kstest(quantile, "uniform").pvalue > 1e-4
    split = RareEvents(probability, np.random.default_rng(1))
    cuts = [0, 1, 5, 5, places // 3, places // 2, places]
    pieces = [split.take(end - begin) + begin for begin, end in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_rare_events_at_the_ends():
    rng = np.random.default_rng(1)
    assert len(RareEvents(0.0, rng).take(10**12)) == 0
    np.testing.assert_array_equal(RareEvents(1.0, rng).take(5), np.arange(5))
    assert len(RareEvents(1e-13, rng).take(10**6)) == 0
    with pytest.raises(ValueError, match=r"probability 1\.5 is out of range"):
        RareEvents(1.5, rng)


def test_drift_has_the_rms_and_memory_asked_for():
    """4000 correlation times: rms within 4 sigma (sigma about 1/sqrt(8000)), autocorrelation within 0.07 of 1/e."""
    rate = 304.52e6
    drift = PhaseDrift(10.0, 0.1, rate, np.random.default_rng(8))
    step = PhaseDrift.STEP_SLOTS
    grid = np.arange(0, 400 * rate / 1e3, step, dtype=np.int64)
    slope_per_ms = np.diff(drift.at(grid)) / step * rate / 1e3
    assert slope_per_ms.std() == pytest.approx(10.0, rel=4 / np.sqrt(8000))
    lag = round(0.1e-3 * rate / step)
    assert np.corrcoef(slope_per_ms[:-lag], slope_per_ms[lag:])[0, 1] == pytest.approx(np.exp(-1), abs=0.07)


def test_drift_does_not_depend_on_the_requests():
    slots = np.arange(0, 200_000, 77)
    whole = PhaseDrift(10.0, 1.0, 304.52e6, np.random.default_rng(8)).at(slots)
    again = PhaseDrift(10.0, 1.0, 304.52e6, np.random.default_rng(8))
    pieces = [again.at(part) for part in np.array_split(slots, 19)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert whole[0] == 0


def test_bad_detectors_name_themselves():
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="dead_slots -1 is negative"):
        DeadTime(-1)
    with pytest.raises(ValueError, match="decay_slots 0 is out of range"):
        Afterpulses(0.1, 0, 0, rng)
    with pytest.raises(ValueError, match="pulse_fine 256 is outside the slot; give 0 to 255"):
        EdgeTiming(256, 0, 0, 2)
    with pytest.raises(ValueError, match="bins 3 do not divide the slot"):
        EdgeTiming(0, 0, 0, 3)
    with pytest.raises(ValueError, match=r"shorter than ten drift steps; give 0\.0336 or more"):
        PhaseDrift(1.0, 0.001, 304.52e6, rng)
