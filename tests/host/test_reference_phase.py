"""Phase, visibility and drift from reference counts that are drawn from the stated model; seeds fixed."""

import numpy as np
import pytest

from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import ConfigError
from qrelay.protocol.records import RecordKind
from qrelay.record_arrays import DTYPES
from qrelay.reference_phase import reference_result
from qrelay.reference_steps import ReferenceSteps

FRAME_SLOTS = 4096
SLOT_RATE_HZ = 304_520_000.0
BIN_SLOTS = 320
PHASES = 2 * np.pi * np.array([0, 4, 8, 12]) / 16


def config(**changes):
    text = demo_text(reference=True)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    return parse_config(text)


def manifest(lead_in=0, missed=0):
    return {
        "alignment": {"first_slot": 800 + lead_in, "stations": {"receiver": {"start_slot": 800}}},
        "stations": {"receiver": {"slot_rate_hz": SLOT_RATE_HZ}},
        "reference_missed": missed,
    }


def counts(random, theta, *, frames_per_set=32, rate=0.05, visibility=(0.9, 0.8)):
    """Drawn counts [set, bin, detector] for phases `theta` [set, node]."""
    cosine = np.cos(PHASES[None, :, None] + theta[:, None, :]) * np.array(visibility)
    light = rate * np.stack((1 + cosine, 1 - cosine), axis=3).reshape(len(theta), 4, 4)
    return random.binomial(frames_per_set * BIN_SLOTS, -np.expm1(-light))


def clicks(random, theta, *, frames_per_set=32, light=0.05, visibility=0.95, dead_slots=0):
    """Counts as `counts`, of single sets, from Poissonian light slot by slot; a click blinds its detector."""
    cosine = np.cos(PHASES[:, None] + theta) * visibility
    mean = light * np.stack((1 + cosine, 1 - cosine), axis=2).reshape(4, 4)
    hits = random.random((frames_per_set, 4, BIN_SLOTS, 4)) < -np.expm1(-mean)[:, None]
    table = np.zeros((4, 4), int)
    for frame in hits.reshape(frames_per_set, -1, 4):
        for detector in range(4):
            free = 0
            for slot in np.flatnonzero(frame[:, detector]).tolist():
                if slot >= free:
                    table[slot // BIN_SLOTS, detector] += 1
                    free = slot + 1 + dead_slots
    return table


def records(table, frames):
    """REFERENCE records of counts [set, bin, detector]."""
    out = np.zeros((len(table), 4, 2), DTYPES[RecordKind.REFERENCE])
    out["frame"] = (np.asarray(frames) & 0xFFFFFF)[:, None, None]
    out["bin"] = np.arange(4)[None, :, None]
    out["pair"] = np.arange(2)
    out["first"] = table[:, :, 0::2]
    out["second"] = table[:, :, 1::2]
    return out.ravel()


def ends(sets, frames_per_set=32, first=0):
    return first + frames_per_set * np.arange(1, sets + 1) - 1


def test_phase_and_visibility_within_their_errors():
    """The reference's own phase cancels; 4 standard errors for 3 numbers, 2e-4 for a new seed."""
    random = np.random.default_rng(1)
    common = random.uniform(-np.pi, np.pi, 400)
    theta = np.stack((common + 1.2, common - 0.5), axis=1)
    result = reference_result(config(), manifest(), [records(counts(random, theta), ends(400))])
    assert result["sets"] == 400
    assert result["note"] is None
    assert abs(result["phase_rad"] - 1.7) < 4 * result["phase_rad_std"] < 0.02
    for name, visibility in (("m1", 0.9), ("m2", 0.8)):
        assert abs(result[f"visibility_{name}"] - visibility) < 4 * result[f"visibility_{name}_std"] < 0.02
    assert result["phase_coherence"] > 0.99
    assert result["clicks_per_frame"] == pytest.approx([0.05 * 4 * BIN_SLOTS] * 4, rel=0.05)


@pytest.mark.parametrize("where", ["receiver", "twin"])
@pytest.mark.parametrize("dead_slots", [0, 9, 40])
def test_bright_light_and_dead_time_do_not_lower_the_visibility(dead_slots, where):
    """Uncorrected counts show 0.95 at dead time 0 as 0.94 and at 9 slots as 0.85; 40 slots reach into the next step."""
    random = np.random.default_rng(9)
    drawn = np.array([clicks(random, random.uniform(-3, 3, 2), dead_slots=dead_slots) for _ in range(100)])
    table = {"receiver": ("dead_slots = 0", f"dead_slots = {dead_slots}")}
    if where == "twin":
        table = {"twin": ("[twin] ", f"[twin]\ndetector_dead_slots = {dead_slots} ")}
    result = reference_result(config(**table), manifest(), [records(drawn, ends(100))])
    for node in ("m1", "m2"):
        error = result[f"visibility_{node}_std"]
        assert abs(result[f"visibility_{node}"] - 0.95) < 4 * error < 0.016


def test_the_model_of_the_visibility_is_that_of_the_twins_light():
    """The twin may send other light than the settings ask for."""
    same = reference_result(config(), manifest(), [])["visibility_m1_model"]
    levels = "mean_photon_number_by_level_code = [0.0, 0.0058, 0.016, 0.007]"
    other = config(light=("[twin] ", f"[twin]\n{levels} "))
    assert reference_result(other, manifest(), [])["visibility_m1_model"] == pytest.approx(
        same * 2 * np.sqrt(0.1) / 1.1, rel=1e-3
    )


def test_errors_of_single_sets_are_right():
    """Mean squared deviation in units of the stated error is one: 4 sigma of a chi square of 2000."""
    random = np.random.default_rng(2)
    theta = np.tile([[0.7, -0.2]], (512, 1))
    result = reference_result(config(), manifest(), [records(counts(random, theta, rate=0.01), ends(512))])
    series = result["series"]
    deviation = (np.array(series["phase_rad"]) - 0.9) / np.array(series["phase_rad_std"])
    assert len(deviation) > 200
    assert abs(np.mean(deviation**2) - 1) < 4 * np.sqrt(2 / len(deviation))
    step = np.diff(series["time_ms"])[0]
    assert step == pytest.approx(32 * FRAME_SLOTS / SLOT_RATE_HZ * 1e3)


def test_drift_is_found_and_noise_is_not_drift():
    """A slope of constant size and random sign; without drift the noise alone is not taken for one."""
    random = np.random.default_rng(3)
    step_ms = 4 * FRAME_SLOTS / SLOT_RATE_HZ * 1e3
    slope = 5.0 * np.repeat(random.choice([-1, 1], 100), 20)
    delta = np.cumsum(slope) * step_ms
    drifting = config()
    drifting = drifting.model_copy(update={"events": drifting.events.model_copy(update={"reference_frames": 4})})

    def result(phase):
        theta = np.stack((phase, np.zeros(len(phase))), axis=1)
        drawn = counts(random, theta, frames_per_set=4, rate=0.05)
        return reference_result(drifting, manifest(), [records(drawn, ends(len(phase), 4))])

    moving = result(delta)
    assert abs(moving["drift_rad_per_ms"] - 5.0) < 4 * moving["drift_rad_per_ms_std"] < 1.5
    still = result(0 * delta)
    assert still["drift_rad_per_ms"] < 2 * still["drift_rad_per_ms_std"]


@pytest.mark.parametrize(("step_rad", "known"), [(0.8, True), (1.3, False), (4.3, False)])
def test_a_drift_that_turns_too_far_is_not_stated(step_rad, known):
    """Beyond about 1 rad rms from set to set, changes alias: the rms of any larger ones is 1.8 rad."""
    random = np.random.default_rng(7)
    phase = np.cumsum(random.normal(0, step_rad, 2000))
    drawn = counts(random, np.stack((phase, np.zeros(2000)), axis=1))
    result = reference_result(config(), manifest(), [records(drawn, ends(2000))])
    true = step_rad / result["set_ms"]
    assert result["set_ms"] == pytest.approx(32 * FRAME_SLOTS / SLOT_RATE_HZ * 1e3)
    if known:
        assert abs(result["drift_rad_per_ms"] - true) < 4 * result["drift_rad_per_ms_std"] < 0.2 * true
        assert result["drift_note"] is None
    else:
        assert np.isnan([result["drift_rad_per_ms"], result["drift_rad_per_ms_std"]]).all()
        assert result["drift_note"].endswith("lower events.reference_frames or shorten the frame")


def test_noise_that_hides_the_drift_asks_for_more_light():
    random = np.random.default_rng(8)
    drawn = counts(random, np.zeros((400, 2)), rate=1e-4)
    result = reference_result(config(), manifest(), [records(drawn, ends(400))])
    assert np.isnan(result["drift_rad_per_ms"])
    assert result["drift_note"].endswith("most of it counting noise; give the reference more light")


def test_parts_of_any_size_give_the_same():
    random = np.random.default_rng(4)
    table = records(counts(random, np.cumsum(random.normal(0, 0.3, (50, 2)), axis=0)), ends(50))
    whole = reference_result(config(), manifest(), [table])
    cut = reference_result(config(), manifest(), [table[k : k + 13] for k in range(0, len(table), 13)])
    assert whole["sets"] == cut["sets"] == 50
    for name in ("phase_rad", "visibility_m1", "drift_rad_per_ms"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-9)
    assert cut["series"]["time_ms"] == whole["series"]["time_ms"]


def test_frame_numbers_wrap():
    random = np.random.default_rng(5)
    first = (1 << 24) - 32 * 5
    table = records(counts(random, np.zeros((10, 2))), ends(10, first=first))
    times = reference_result(config(), manifest(), [table])["series"]["time_ms"]
    np.testing.assert_allclose(np.diff(times), np.diff(times)[0])


def test_what_cannot_be_used_is_counted():
    random = np.random.default_rng(6)
    drawn = counts(random, np.zeros((10, 2)))
    drawn[4, 1, 2] = 0xFFFF
    table = records(drawn, ends(10))
    table = np.delete(table, [8 * 7 + 3])
    result = reference_result(config(), manifest(lead_in=33 * FRAME_SLOTS, missed=3), [table])
    assert (result["saturated"], result["incomplete"], result["before_first_slot"]) == (1, 1, 2)
    assert (result["sets"], result["missed"]) == (6, 3)


def test_too_few_phases_are_said():
    two = config(phases=("phase = 8", "phase = 0"), more=("phase = 12", "phase = 4"))
    table = np.zeros(0, DTYPES[RecordKind.REFERENCE])
    result = reference_result(two, manifest(), [table])
    assert result["note"] == (
        "the steps of setting 'ref' have 2 phases; give frame.steps at least three, such as 0, 4, 8 and 12"
    )
    assert reference_result(config(), manifest(), [])["note"] == "no complete set of reference records was recorded"


def test_bins_follow_the_steps():
    """Repeated steps share a bin; the last step may be cut by the segment's end."""
    steps = ReferenceSteps.of(config(steps=("step_slots = 320", "step_slots = 300"), again=("phase = 12", "phase = 4")))
    assert steps.steps == ((3, 0), (3, 4), (3, 8))
    assert steps.bin_of_step == (0, 1, 2, 1)
    assert steps.slots == (300 + 80, 600, 300)
    assert steps.table() == [3, 3 | 1 << 3, 3 | 2 << 3, 3 | 1 << 3]
    # In order 0, 1, 2, 1, 0.
    assert steps.runs_over.tolist() == [[2, -1, 0], [-1, 2, -1], [0, -1, 1]]


def test_run_file_errors():
    many = "".join(f'\n[[frame.steps]]\nsetting = "ref"\nphase = {k}' for k in range(16))
    many += '\n[[frame.steps]]\nsetting = "mu"\nphase = 1\n'
    text = demo_text(reference=True)
    with pytest.raises(ConfigError, match=r"frame.steps: 17 different steps; the reference counters have 16 bins"):
        parse_config(text.replace("phase = 12\n", "phase = 12" + many, 1))
    short = text.replace("slots = 1280", "slots = 16").replace("slots = 128\n", "slots = 8\n")
    short = short.replace("slots = 2688", "slots = 8") + '\n[events]\nreference = "all"\n'
    with pytest.raises(ConfigError, match=r"8 words of frame are too few to send 4 bins; give the frame 40 slots"):
        parse_config(short)
    with pytest.raises(ConfigError, match="the fast twin draws no reference light; set engine = 'rtl'"):
        parse_config(demo_text(reference=True, fast=True))
