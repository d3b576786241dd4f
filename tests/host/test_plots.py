"""Plots of results that no run of the demo gives."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from qrelay import plots
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import FINES_PER_SLOT


def row(name):
    return {"alice": name, "bob": name, "slots": 1e6, "gain": 1e-4, "gain_std": 1e-5, "gain_model": 1e-4}


def result(*settings):
    counts = [100] * 16
    return {
        "pairs": [row(name) for name in settings],
        "fringe": {"same_sign": counts, "opposite_sign": counts},
        "phase_offset": 0,
        "partial": False,
    }


def manifest(**more):
    inputs = [{"first": 64, "step": 128}] * DETECTORS
    return {
        "stations": {"receiver": {"detector_fines": inputs}},
        "click_fines": np.zeros((DETECTORS, FINES_PER_SLOT), int).tolist(),
        **more,
    }


@pytest.mark.parametrize(("settings", "fringe"), [(("vac", "mu"), True), (("vac", "nu"), False)])
def test_a_key_setting_that_is_never_drawn_has_no_fringe(tmp_path, settings, fringe):
    written = plots.plot_run(tmp_path, parse_config(demo_text()), manifest(), result(*settings))
    assert {Path(path).stem for path in written} == {"clicks", "gains", *(["fringe"] if fringe else [])}


def test_the_fringe_of_the_model_is_averaged_over_the_phases_that_were_injected():
    """Phases all around the circle leave no fringe."""

    def contrast(phases):
        axes = Figure().add_subplot()
        plots._fringe(axes, parse_config(demo_text()), manifest(injected_phase_rad=phases), result("mu"))
        curve = next(line for line in axes.lines if line.get_label() == "same sign, model").get_ydata()
        return np.ptp(curve) / np.sum([curve.min(), curve.max()])

    assert contrast([0.0]) > 0.8
    assert contrast(np.linspace(0, 2 * np.pi, 16, endpoint=False).tolist()) < 1e-9
