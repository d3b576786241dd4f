"""Runs of the fast twin without a host, and what the closed form expects of them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import scipy.stats

from qrelay.choice_keys import make_choice_keys
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.protocol.records import RecordKind
from qrelay.record_arrays import unpack_records
from qrelay_sim.click_model import ClickModel
from qrelay_sim.fast import COUNTERS, FastRelay

__all__ = [
    "BRIGHT",
    "DARK",
    "FALSE_ALARM",
    "FIRST",
    "ORIGIN",
    "Run",
    "assert_agrees",
    "config_of",
    "expected_cells",
    "relay_of",
]

BRIGHT = {"mu": ("mean_photon_number = 0.016", "mean_photon_number = 0.3")}
DARK = {"dark": ("dark_count_probability = 1e-8", "dark_count_probability = 1e-4")}

ORIGIN, FIRST = 4000, 4800
FALSE_ALARM = 1e-4


def config_of(slots, *, twin="", receiver="", events="", length_km=50.0, seed=1, **changes):
    text = demo_text(slots=slots, seed=seed, length_km=length_km, fast=True)
    for old, new in changes.values():
        assert old in text
        text = text.replace(old, new)
    text = text.replace(
        "dead_slots = 0\n", f"dead_slots = 0\n{receiver}\n" if "dead_slots" not in receiver else receiver + "\n"
    )
    return parse_config(f"{text}\n{twin}\n[events]\n{events}\n")


def relay_of(config, workers=None, **options):
    return FastRelay(
        config,
        make_choice_keys(config),
        origin=ORIGIN,
        first_slot=FIRST,
        end_slot=FIRST + config.slots,
        workers=workers,
        **options,
    )


class Run:
    """All parts of a run, joined."""

    def __init__(self, config, workers=2):
        self.config = config
        self.relay = relay_of(config, workers)
        parts = list(self.relay.parts())
        assert parts[0].first_slot == FIRST
        assert parts[-1].end_slot == FIRST + config.slots
        assert all(a.end_slot == b.first_slot for a, b in pairwise(parts))
        self.parts = parts
        self.successes = unpack_records(RecordKind.SUCCESS, np.concatenate([p.successes for p in parts]))
        self.clicks = unpack_records(RecordKind.CLICK, np.concatenate([p.clicks for p in parts]))
        self.frames = unpack_records(RecordKind.FRAME, np.concatenate([p.frames for p in parts]))
        self.counters = dict(zip(COUNTERS, sum(p.counters for p in parts).tolist(), strict=True))
        self.choices = {name: key.choices() for name, key in make_choice_keys(config).items()}

    def cells(self):
        """Successes [setting_a, setting_b, phase difference, outcome - 1]."""
        slots = self.successes["slot"]
        (a, phase_a), (b, phase_b) = self.choices["alice"].at(slots), self.choices["bob"].at(slots)
        settings = len(self.config.settings)
        place = ((a.astype(int) * settings + b) * 16 + (phase_a.astype(int) - phase_b) % 16) * 4
        place += self.successes["outcome"] - 1
        return np.bincount(place, minlength=settings**2 * 64).reshape(settings, settings, 16, 4)


def expected_cells(config, slots, *, overlaps=None, on=1.0, phase=0.0):
    """Expected number in each of `Run.cells`, by the closed form with dark counts."""
    settings = config.twin_settings()
    photons = np.array([settings.level_photon_numbers()[setting.level_code] for setting in config.settings])
    drawn = np.array(config.drawn_probabilities())
    delta = 2 * np.pi * np.arange(16) / 16 + phase
    total = 0
    for weight, source_on in ((on, True), (1 - on, False)):
        parameters = replace(settings.relay_parameters(), node_overlaps=overlaps)
        model = ClickModel(parameters, source_on=source_on)
        a, b = model.pattern_coefficients(photons[:, None], photons)
        patterns = a[:, :, None, :] + b[:, :, None, :] * np.cos(delta)[:, None]
        total = total + weight * patterns[..., [0b0101, 0b1001, 0b0110, 0b1010]]
    return slots * drawn[:, None, None, None] * drawn[:, None, None] / 16 * total


def assert_agrees(found, expected, slots):
    """Chi-square of all cells with at least 5 expected, the rest pooled, and of everything else as one more cell."""
    rare = expected < 5
    found = np.append(found[~rare], found[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    found, expected = found[expected > 0], expected[expected > 0]
    found, expected = np.append(found, slots - found.sum()), np.append(expected, slots - expected.sum())
    chi_square = ((found - expected) ** 2 / expected).sum()
    assert scipy.stats.chi2.sf(chi_square, len(found) - 1) > FALSE_ALARM
