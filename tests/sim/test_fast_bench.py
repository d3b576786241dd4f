"""Dead time, noise, drift, frames, and that a run does not depend on who draws it. The seeds are fixed; a bound of 4.5
standard errors fails for a new seed with 7e-6, a chi-square with 1e-4, all tests together with less than 2e-3."""

import threading

import numpy as np
import pytest
import scipy.stats
from fast_runs import BRIGHT, DARK, FIRST, ORIGIN, Run, assert_agrees, config_of, expected_cells

from qrelay.choice_keys import make_choice_keys
from qrelay_sim.fast import plan as plan_module
from qrelay_sim.fast import relay as relay_module
from qrelay_sim.fast.light_tables import bin_probabilities, shift_leak
from qrelay_sim.golden.deadtime import dead_time
from qrelay_sim.optics import OpticsSettings, RelayOptics
from qrelay_sim.parameters import RelayParameters

NOISY = "afterpulse_probability = 0.05\ndetector_dead_slots = 3\n"
TRIMS = "\n".join(
    f"[[receiver.detectors]]\nname = '{name}'\ndelay_slots = {delay}\ndelay_fines = {fines}\ngate_width_fines = {width}"
    for name, delay, fines, width in (
        ("m1_plus", 0, 0, 256),
        ("m1_minus", 0, 70, 128),
        ("m2_plus", 1, 0, 256),
        ("m2_minus", 2047, 0, 256),
    )
)
COUPLED = {
    "dead time": {"receiver": "dead_slots = 9"},
    "afterpulses": {"twin": NOISY, **DARK},
    "edges before their slot": {"twin": "arrival_fines = 2\njitter_ps = 300.0", "receiver": "dead_slots = 2"},
    "trims": {"receiver": TRIMS},
}


# -- one run, whoever draws it ---------------------------------------------------------------------------------------


def records(run):
    return [run.successes.tolist(), run.clicks.tolist(), run.frames.tolist(), run.counters]


@pytest.mark.parametrize("options", [{}, *COUPLED.values()], ids=["demo", *COUPLED])
def test_a_run_does_not_depend_on_threads_or_on_what_is_drawn_together(options, monkeypatch):
    # Small cells: many borders for edges and dead times to cross.
    monkeypatch.setattr(plan_module, "EVENTS_PER_CELL", 512)
    config = config_of(4_000_000, events='clicks = "all"\nframes = "all"', **options)
    one = records(Run(config, workers=1))
    assert records(Run(config, workers=3)) == one
    monkeypatch.setattr(relay_module, "_CLICK_CELLS", 3)
    other = records(Run(config, workers=2))
    assert other == one
    assert len(one[0]) > 500


def test_drift_does_not_depend_on_threads_either():
    twin = "phase_drift_rad_per_ms = 3.0\ndelay_drift_ps = 20.0\ndelay_drift_correlation_s = 0.01\nblink_off_us = 30.0"
    config = config_of(600_000_000, twin=twin)
    one, three = Run(config, workers=1), Run(config, workers=3)
    assert records(one) == records(three)
    assert len(one.parts) > 3


def test_a_longer_run_begins_with_the_shorter_one():
    # Both end inside a cell.
    short, long = (Run(config_of(slots, twin="phase_drift_rad_per_ms = 3.0")) for slots in (600_000_000, 800_000_000))
    count = len(short.successes)
    assert 100_000 < count < len(long.successes)
    assert short.successes.tolist() == long.successes[:count].tolist()
    assert long.successes["slot"][count] >= FIRST + 600_000_000


def test_another_seed_gives_another_run():
    one, two = (Run(config_of(8_000_000, seed=seed)) for seed in (1, 2))
    assert one.successes.tolist() != two.successes.tolist()


def test_a_run_without_end_stops_when_asked():
    config = config_of(0, events='clicks = "off"')
    stop = threading.Event()
    relay = relay_module.FastRelay(
        config, make_choice_keys(config), origin=ORIGIN, first_slot=FIRST, end_slot=None, workers=2
    )
    end = FIRST
    for count, part in enumerate(relay.parts(stop)):
        assert part.first_slot == end
        end = part.end_slot
        if count == 5:
            stop.set()
    assert 5 <= count < 12


# -- dead time and noise against the optics of the other twin --------------------------------------------------------


def slow_counters(config, slots, seed):
    """Clicks behind gate and dead time by detector, doubles, live slots and successes: slot by slot."""
    from qrelay_sim.golden.delay import delay

    settings = config.twin_settings()
    optics = RelayOptics(
        OpticsSettings(
            parameters=settings.relay_parameters(),
            levels_a=settings.level_photon_numbers(),
            dead_slots=settings.detector_dead_slots,
            afterpulse_probability=settings.afterpulse_probability,
            pulse_fine=settings.arrival_fines,
            jitter_ps=settings.jitter_ps,
        ),
        seed,
    )
    keys = [key.choices() for key in make_choice_keys(config).values()]
    (a, phase_a), (b, phase_b) = (stream.block(FIRST, slots) for stream in keys)
    codes = np.array([setting.level_code for setting in config.settings], np.uint8)
    edges = optics.sample(codes[a], phase_a, codes[b], phase_b, np.ones(slots, bool))
    live = np.zeros((4, slots), bool)
    blind = np.zeros((4, slots), bool)
    clicks = np.zeros((4, slots), bool)
    for d, detector in enumerate(config.receiver.detectors):
        mine = (edges.detector == d) & (edges.slot_offset >= 0) & (edges.slot_offset < slots)
        place = np.sort(edges.slot_offset[mine] * 256 + edges.fine[mine])
        place = place[np.append(True, np.diff(place >> 8) > 0)]
        valid, fine = np.zeros(slots, bool), np.zeros(slots, np.uint8)
        valid[place >> 8], fine[place >> 8] = True, place & 255
        valid, fine, _ = delay(valid, fine, detector.delay_slots, detector.delay_fines)
        dead = config.receiver.dead_slots if detector.dead_slots is None else detector.dead_slots
        live[d], blind[d] = dead_time(valid, dead)
        clicks[d] = live[d] & (fine < detector.gate_width_fines)
    seeing = ~blind.any(axis=0)
    success = (clicks[0] ^ clicks[1]) & (clicks[2] ^ clicks[3])
    return {
        **{f"clicks_{d}": int(clicks[d].sum()) for d in range(4)},
        "doubles": int((clicks.sum(axis=0) > 1).sum()),
        "live_slots": int(seeing.sum()),
        "vetoed": int((success & ~seeing).sum()),
        "successes": int((success & seeing).sum()),
    }


@pytest.mark.parametrize("options", COUPLED.values(), ids=COUPLED)
def test_dead_time_and_noise_are_those_of_the_other_twin(options):
    """Both twins' optics, one through the golden models of delay and dead time: all counters agree."""
    slots = 3_000_000
    config = config_of(slots, events='clicks = "off"', length_km=40.0, **BRIGHT, **options)
    run = Run(config)
    assert not run.relay.plan.direct
    found = run.counters | {"successes": len(run.successes)}
    expected = slow_counters(config, slots, 77)
    for name, count in expected.items():
        if name == "live_slots":
            # Blind slots come in clusters as long as the dead times.
            cluster = 4 * (1 + config.receiver.dead_slots)
            error = np.sqrt(2 * cluster * (slots - count))
            assert (count < slots) == (config.receiver.dead_slots > 0)
        else:
            error = np.sqrt(2 * count)
        assert abs(found[name] - count) <= 4.5 * error, name
    assert (expected["vetoed"] > 0) == (config.receiver.dead_slots > 0)


def test_dead_time_leaves_the_gain_of_live_slots_alone():
    slots = 40_000_000
    run = Run(config_of(slots, receiver="dead_slots = 9", events='clicks = "off"'))
    live = run.counters["live_slots"]
    assert 0.3 < live / slots < 0.8
    assert_agrees(run.cells(), expected_cells(run.config, live), live)


# -- drift -----------------------------------------------------------------------------------------------------------


def mean_of(run, name):
    drifted = [one for part in run.parts for one in part.drifted]
    return sum(getattr(one, name) * one.slots for one in drifted) / sum(one.slots for one in drifted)


@pytest.mark.parametrize("clicks", ["off", "all"])
def test_blinking_and_delay_errors_have_their_mean_effect(clicks):
    """Fast processes, so that their sums over the run are known: successes by cell follow the averaged closed form."""
    slots = {"off": 1_000_000_000, "all": 40_000_000}[clicks]
    twin = "blink_on_us = 0.3\nblink_off_us = 0.1\ndelay_drift_ps = 60.0\ndelay_drift_correlation_s = 1e-6"
    run = Run(config_of(slots, twin=twin, events=f'clicks = "{clicks}"'))
    on = mean_of(run, "source_on")
    factors = [mean_of(run, f"factor_{node}") for node in ("1", "2", "12")]
    assert on == pytest.approx(0.75, abs=0.01)
    # E exp(-|x|) of a normal x of rms s is 2 exp(s^2 / 2) P(normal > s)
    rms = 60 / 80
    assert factors[0] == pytest.approx(2 * np.exp(rms**2 / 2) * scipy.stats.norm.sf(rms), abs=0.01)
    expected = expected_cells(run.config, slots, on=0.75, overlaps=tuple(0.95 * factor for factor in factors))
    # The means that `expected` rests on are themselves measured at some 1e5 places: compare shares of cells.
    found = run.cells()
    scale = found.sum() / expected.sum()
    assert scale == pytest.approx(1, abs=0.01)
    assert_agrees(found, expected * scale, slots)


def test_phase_drift_turns_the_fringe():
    """A slope that hardly changes over the run: the successes of its second half see the phase it says."""
    twin = "phase_drift_rad_per_ms = 0.002\nphase_drift_correlation_ms = 1e5\nphase_offset_rad = 0.3"
    slots = 200_000_000
    run = Run(config_of(slots, twin=twin, events='clicks = "off"'))
    phases = np.concatenate([one.phases for part in run.parts for one in part.drifted])
    assert np.ptp(phases) > 0.1
    expected = np.mean([expected_cells(run.config, slots, phase=phase) for phase in phases[::8]], axis=0)
    assert_agrees(run.cells(), expected, slots)
    unmoved = expected_cells(run.config, slots, phase=0.3)
    assert np.abs(unmoved - expected).max() > 5 * np.sqrt(expected.max())


# -- frames and edges ------------------------------------------------------------------------------------------------

FRAME = {
    "frame": (
        'segments = [{ kind = "quantum", slots = 8192 }]',
        "segments = [{ kind = 'reference', slots = 160 }, { kind = 'guard', slots = 40 }, "
        "{ kind = 'quantum', slots = 800 }]\nsteps = [{ setting = 'mu', phase = 0 }, { setting = 'nu', phase = 4 }]",
    )
}


def test_only_quantum_segments_count():
    slots = 100_000_000
    run = Run(config_of(slots, events='clicks = "off"', **FRAME))
    assert run.relay.plan.direct
    quantum = run.counters["slots"]
    assert abs(quantum - 0.8 * slots) < 1000
    assert np.all((run.successes["slot"] - ORIGIN) % 1000 >= 200)
    assert_agrees(run.cells(), expected_cells(run.config, quantum), quantum)


def test_bright_reference_light_is_seen_but_does_not_count():
    """Both ways of drawing have the same totals; the reference's clicks are gated out."""
    slots = 20_000_000
    runs = [Run(config_of(slots, events=f'clicks = "{c}"', **FRAME, **BRIGHT)) for c in ("off", "all")]
    for name in [f"{kind}_{d}" for kind in ("singles", "gated_out", "clicks") for d in range(4)]:
        one, two = (run.counters[name] for run in runs)
        assert one > 1000
        assert abs(one - two) < 4.5 * np.sqrt(one + two), name
    assert np.all((runs[1].clicks["slot"] - ORIGIN) % 1000 >= 200)


def test_frame_records_count_clicks_and_successes():
    slots = 8_000_000
    whole = Run(config_of(slots, events='clicks = "all"\nframes = "all"', **FRAME))
    frame = (whole.clicks["slot"].astype(np.int64) - ORIGIN) // 1000
    some = Run(config_of(slots, events='clicks = "all"\nframes = "with_success"', **FRAME))
    first = FIRST - ORIGIN
    assert whole.frames["frame"].tolist() == list(range(first // 1000, (first + slots) // 1000))
    inside = frame < (first + slots) // 1000
    # Clicks beyond four in a word are in the frame's count.
    assert 0 <= whole.frames["clicks"].sum() - np.count_nonzero(inside) < 20
    assert some.frames.tolist() == whole.frames[whole.frames["successes"] > 0].tolist()
    direct = Run(config_of(slots, events='clicks = "off"\nframes = "with_success"', **FRAME))
    assert direct.relay.plan.direct
    assert int(direct.frames["successes"].sum()) == len(direct.successes)
    means = [run.frames["clicks"].mean() for run in (some, direct)]
    errors = [run.frames["clicks"].std() / np.sqrt(len(run.frames)) for run in (some, direct)]
    assert abs(means[0] - means[1]) < 4.5 * np.hypot(*errors)


@pytest.mark.parametrize(
    ("jitter", "tail", "pulse"), [(40, 80, 64), (300, 80, 5), (0, 80, 100), (500, 0, 200), (2900, 80, 9)]
)
def test_places_of_edges(jitter, tail, pulse):
    """Against SciPy's Gaussian with an exponential tail."""
    slot_ps = 1e12 / 304.52e6
    settings = OpticsSettings(RelayParameters(), (0.1,), jitter_ps=jitter, tail_ps=tail, pulse_fine=pulse)
    scale, mean = (ps / slot_ps * 256 for ps in (jitter, tail))
    centre = pulse + 0.5
    if not tail:
        law = scipy.stats.norm(centre, scale)
    elif not jitter:
        law = scipy.stats.expon(centre, mean)
    else:
        law = scipy.stats.exponnorm(mean / scale, centre, scale)
    low = sum(law.cdf(256 * k + 128) - law.cdf(256 * k) for k in range(-20, 40))
    assert bin_probabilities(settings) == pytest.approx([low, 1 - low], abs=1e-9)
    assert shift_leak(settings) == pytest.approx((law.cdf(0), law.sf(256)), rel=1e-4, abs=1e-12)
