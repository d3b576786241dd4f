"""Reference segments end to end: the counts that a run records are those of the golden model, and show the phase.

Whole runs on simulated boards. What reached the receiver's inputs is written down beside the twin and given to the
golden model, so that receiver, event queues, link, host and run folder are held against it at once.
"""

import dataclasses

import numpy as np
import pytest

from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.frame import FrameLayout
from qrelay.protocol.records import RecordKind
from qrelay.protocol.registers import DETECTORS, REFERENCE_MODES
from qrelay.record_arrays import pack_records
from qrelay.reference_steps import ReferenceSteps
from qrelay.run import execute
from qrelay.run_folder import RecordedReference
from qrelay.success_rules import success_rule
from qrelay_sim.golden.receiver import ReceiverInput, receiver
from qrelay_sim.golden.sequencer import ticks
from qrelay_sim.twin.identity import TWIN_FACTS
from qrelay_sim.twin.native import build_library
from qrelay_sim.twin.station import NativeStation

IDENTITY = TWIN_FACTS.identity
SLOTS = 1_000_000
GUARD = 1


@dataclasses.dataclass
class Inputs:
    """What reached the receiver's pins: (words since power-up, place, fine) of each edge, and the start pulse."""

    words: int = 0
    start: int = -1
    edges: list = dataclasses.field(default_factory=list)


@pytest.fixture
def inputs(monkeypatch):
    """Writes down the inputs of the twin's receiver, the one station whose lines lead nowhere."""
    build_library()
    step = NativeStation.step
    seen = Inputs()

    def noted(station, words, hits, starts, rx, tx_space=1 << 20):
        if station._codes is None:
            if len(starts):
                seen.start = seen.words + int(starts["word"][0])
            seen.edges.append((seen.words + hits["word"].astype(np.int64), hits["place"].copy(), hits["fine"].copy()))
            seen.words += words
        return step(station, words, hits, starts, rx, tx_space)

    monkeypatch.setattr(NativeStation, "step", noted)
    return seen


def run(folder, mode, frames=1, twin="", **changes):
    text = demo_text(reference=True, slots=SLOTS, seed=3, output=str(folder))
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    text += twin + f'\n[events]\nclicks = "off"\nreference = "{mode}"\nreference_frames = {frames}\n'
    config = parse_config(text)
    outcome = execute(config, text)
    assert outcome.trouble is None
    assert not any(outcome.manifest["alarms"].values())
    account = outcome.manifest["accounting"]["receiver"]["reference"]
    assert account["sent"] == account["received"]
    assert account["dropped_by_station"] == account["lost_on_link"] == outcome.manifest["reference_missed"] == 0
    assert outcome.result["successes_not_recorded"] == 0
    return config, outcome


def golden(config, manifest, inputs):
    """The golden receiver's outputs for the inputs of the run."""
    alignment = manifest["alignment"]
    timing = alignment["stations"]["receiver"]
    words = timing["length"] // 4
    layout = FrameLayout.of(config.frame)
    steps = [(entry & 7, entry >> 3) for entry in ReferenceSteps.of(config).table()]
    segments = [(kind, slots // 4) for kind, slots in zip(layout.kinds, layout.lengths, strict=True)]
    tick = ticks(np.arange(words), segments, steps, config.frame.step_slots // 4, timing["start_slot"] // 4)
    word, place, fine = (np.concatenate(column) for column in zip(*inputs.edges, strict=True))
    word = word - inputs.start - IDENTITY.start_latency - IDENTITY.receiver_latency
    inside = (word >= 0) & (word < words)
    word, place, fine = word[inside], place[inside].astype(np.int64), fine[inside]
    valid = np.zeros((DETECTORS, 4 * words), bool)
    fines = np.zeros((DETECTORS, 4 * words), np.uint8)
    valid[place >> 2, 4 * word + (place & 3)] = True
    fines[place >> 2, 4 * word + (place & 3)] = fine
    stimulus = ReceiverInput(
        running=np.ones(words, bool),
        slot_word=tick["slot_word"].astype(np.int64),
        segment=tick["segment"].astype(np.int64),
        frame=tick["frame"].astype(np.int64),
        frame_last=tick["frame_last"].astype(bool),
        latch=np.arange(words) == words - 1,
        clear=np.zeros(words, bool),
        valid=valid,
        fine=fines,
        phase=tick["phase"].astype(np.int64),
    )
    settings = {"enable": 1, "blank": 0b1011} | {
        f"delay_slots_{d}": delay for d, delay in enumerate(alignment["detector_delay_slots"])
    }
    settings |= {f"dead_slots_{d}": config.receiver.dead_slots for d in range(DETECTORS)}
    reference = {
        "mode": REFERENCE_MODES.index(config.events.reference),
        "bins": len(ReferenceSteps.of(config).steps),
        "sum_frames": config.events.reference_frames,
    }
    rule = success_rule(config.receiver.success_rule, [detector.name for detector in config.receiver.detectors])
    return receiver(settings, np.array(rule.table, np.uint8), stimulus, reference=reference), stimulus


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "frames", "changes"),
    [
        pytest.param("all", 1, {}, id="all"),
        pytest.param("with_success", 1, {"far": ("length_km = 50.0", "length_km = 150.0")}, id="with_success"),
        pytest.param("sum", 7, {"dead": ("dead_slots = 0", "dead_slots = 9")}, id="sum"),
    ],
)
def test_counts_are_those_of_the_golden_model(inputs, tmp_path, mode, frames, changes):
    config, outcome = run(tmp_path, mode, frames, **changes)
    model, stimulus = golden(config, outcome.manifest, inputs)
    recorded = np.concatenate(list(RecordedReference(outcome.folder)))
    expected = [record for _, records in model.reference for record in records]
    assert pack_records(recorded, RecordKind.REFERENCE).tolist() == expected
    sets = SLOTS // 4096
    if mode == "all":
        assert len(expected) == 8 * len(model.frames) >= 8 * sets
    elif mode == "sum":
        assert len(expected) == 8 * (len(model.frames) // 7)
    else:
        assert 8 * 10 < len(expected) < 8 * (sets - 10)
    # Light in the guard would be counted nowhere; the reference's clicks are in no other count.
    in_reference = sum(int(recorded[name].sum()) for name in ("first", "second"))
    assert in_reference > 500
    counted = sum(model.counters[-1][1][f"clicks_{d}"] for d in range(DETECTORS))
    quantum = np.repeat(stimulus.segment == 2, 4)
    assert counted == np.count_nonzero(model.click_bits)
    assert not model.click_bits[:, ~quantum].any()


@pytest.mark.slow
def test_phase_and_visibility_are_found(inputs, tmp_path):
    """Offset of the arms and visibility within 4 standard errors: 2e-4 for three numbers with a new seed."""
    _, outcome = run(tmp_path, "all", twin="\nphase_offset_rad = 1.1\n")
    reference = outcome.result["reference"]
    assert reference["note"] is None
    assert abs(reference["phase_rad"] - 1.1) < 4 * reference["phase_rad_std"] < 0.1
    for node in ("m1", "m2"):
        deviation = reference[f"visibility_{node}"] - reference[f"visibility_{node}_model"]
        assert abs(deviation) < 4 * reference[f"visibility_{node}_std"] < 0.2
    # Without drift its square is zero within 2 standard errors, which of the root are 4.
    assert reference["drift_rad_per_ms"] < 4 * reference["drift_rad_per_ms_std"]


@pytest.mark.slow
def test_drift_is_found(inputs, tmp_path):
    """The drift that the twin injected, from the phase of single frames, within 4 standard errors."""
    _, outcome = run(tmp_path, "all", twin="\nphase_drift_rad_per_ms = 15.0\nphase_drift_correlation_ms = 0.5\n")
    injected = np.diff(outcome.manifest["injected_phase_rad"])
    slot_ms = 1e3 / outcome.manifest["stations"]["receiver"]["slot_rate_hz"]
    slope = injected / (SLOTS / len(injected) * slot_ms)
    reference = outcome.result["reference"]
    true = float(np.sqrt(np.mean(slope**2)))
    assert true > 5
    assert abs(reference["drift_rad_per_ms"] - true) < 4 * reference["drift_rad_per_ms_std"] < 2 * true
