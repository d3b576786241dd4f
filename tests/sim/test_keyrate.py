"""Sweeps over distance, design tables and their plots."""

import dataclasses

import numpy as np
import pytest

from qrelay_sim.design import Design, design, design_map, largest_useful_g2, limiting
from qrelay_sim.design_plot import plot_design
from qrelay_sim.keyrate import Point, key_rate_point, parse_distances, sweep
from qrelay_sim.keyrate_plot import plot_key_rates
from qrelay_sim.optimise import maximise, optimise
from qrelay_sim.parameters import preset
from qrelay_sim.protocols import CURVES, PROTOCOLS, Block
from qrelay_sim.protocols.base import Variable

FIELDS = [
    "distance_km",
    "protocol",
    "rate_bit_per_slot",
    "rate_bit_per_s",
    "qber",
    "phase_error",
    "gain",
    "intensities",
    "finite",
    "provenance",
]


@pytest.mark.parametrize(
    ("text", "distances"),
    [
        ("300", [300]),
        ("0:400:10", [10 * k for k in range(41)]),
        ("0:1:0.1", [pytest.approx(k / 10) for k in range(11)]),
        ("50,100", [50, 100]),
        ("5:5:1", [5]),
    ],
)
def test_distances(text, distances):
    assert parse_distances(text) == distances


@pytest.mark.parametrize("text", ["", "far", "-1", "10:0:1", "0:10:0", "0:10", "0:1e9:0.001", "nan", "inf"])
def test_bad_distances(text):
    with pytest.raises(ValueError, match="give km as 300, as 50,100,200 or as first:last:step"):
        parse_distances(text)


def test_points_hold_what_the_issue_lists():
    point = key_rate_point("relay-phase-matching", preset("C").for_length(300), Block(1e14)).as_json()
    assert list(point) == FIELDS
    assert point["rate_bit_per_s"] == pytest.approx(5.7, rel=0.02)
    assert point["rate_bit_per_s"] == pytest.approx(point["rate_bit_per_slot"] * 304.52e6)
    assert point["finite"]["slots"] == 1e14
    assert point["finite"]["key_bits"] == int(point["rate_bit_per_slot"] * 1e14)
    assert point["provenance"]["kind"] == "model"
    assert point["provenance"]["preset"] == "C"
    assert point["provenance"]["decoys"].endswith("taken as exact")
    assert set(point["intensities"]) == {"mu_a", "mu_b", "nu_a", "nu_b", "p_mu", "p_nu", "p_vac"}
    assert sum(point["intensities"][name] for name in ("p_mu", "p_nu", "p_vac")) == pytest.approx(1)
    low, high = point["provenance"]["constraints"]["mu"]
    assert low < point["intensities"]["mu_a"] < high


def test_no_key_is_zero_and_no_finite_bound_is_null():
    none = key_rate_point("relay-phase-matching", preset("B").for_length(300))
    assert none.rate_bit_per_slot == none.rate_bit_per_s == 0
    assert none.qber is not None
    assert none.qber > 0
    assert key_rate_point("plob", preset("A").for_length(0)).rate_bit_per_slot is None


def test_duty_counts_per_second_only():
    relay = preset("C").for_length(300)
    full, part = (key_rate_point("relay-phase-matching", dataclasses.replace(relay, duty=d)) for d in (1.0, 0.68))
    assert part.rate_bit_per_slot == full.rate_bit_per_slot
    assert part.rate_bit_per_s == pytest.approx(0.68 * full.rate_bit_per_s)


def test_a_sweep_gives_each_point_as_alone_in_any_number_of_processes():
    names, distances = ("relay-phase-matching", "decoy-bb84", "plob"), [0.0, 40.0, 80.0, 120.0, 160.0, 200.0] * 2
    seen = []
    alone = sweep(names, preset("C"), distances, workers=1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (36, 36)
    assert sweep(names, preset("C"), distances, workers=2) == alone
    assert alone[1] == key_rate_point("relay-phase-matching", preset("C").for_length(40.0))


def test_an_unknown_protocol_is_refused_before_work_starts():
    with pytest.raises(ValueError, match="protocol 'bb85' does not exist; give one of"):
        sweep(["plob", "bb85"], preset("A"), [1.0])


def test_maximise_finds_known_optima():
    variables = (Variable("x", 1e-3, 10.0, ""), Variable("y", 0.0, 1.0, "", logarithmic=False))

    def bump(settings):
        return -((np.log(settings["x"]) - 0.3) ** 2) - 4 * (settings["y"] - 0.7) ** 2

    best = maximise(bump, variables)
    assert best.settings["x"] == pytest.approx(np.exp(0.3), rel=1e-3)
    assert best.settings["y"] == pytest.approx(0.7, abs=1e-3)


def test_optimum_of_four_settings_against_scipy():
    """A finite key's optimum: another method started there finds nothing better than 1e-5."""
    from scipy.optimize import minimize

    relay, block, entry = preset("C").for_length(300), Block(1e14), PROTOCOLS["relay-phase-matching"]
    best = optimise(entry, relay, block)
    names = list(best.settings)

    def loss(values):
        settings = {name: np.array([value]) for name, value in zip(names, values, strict=True)}
        if settings["nu/mu"] >= 1 or settings["p_mu"] >= 1 or settings["share_nu"] >= 1 or min(values) <= 0:
            return 1.0
        return -float(entry.key_rate(relay, settings, block).rate[0]) * 1e8

    found = minimize(loss, list(best.settings.values()), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9})
    assert -found.fun / 1e8 < best.value * (1 + 1e-5)


def test_plots(tmp_path):
    points = sweep(list(CURVES), preset("A"), [0.0, 150.0, 350.0], workers=1)
    for suffix in (".png", ".svg", ".pdf"):
        plot_key_rates(points, tmp_path / f"rates{suffix}", "A")
        assert (tmp_path / f"rates{suffix}").stat().st_size > 5000
    drawn = (tmp_path / "rates.svg").read_text()
    assert "Model: key rate" in drawn or "<path" in drawn
    with pytest.raises(ValueError, match=r"suffix '\.gif' is no format; use \.png, \.svg or \.pdf"):
        plot_key_rates(points, tmp_path / "rates.gif", "A")
    with pytest.raises(ValueError, match="no protocol has a key at these distances; try shorter ones"):
        plot_key_rates([p for p in points if p.rate_bit_per_slot == 0], tmp_path / "none.png", "A")


def test_design_of_a_relay_with_a_key():
    found = design("relay-phase-matching", preset("C").for_length(300), Block(1e14))
    rows = {row.parameter: row for row in found.requirements}
    assert found.rate > 0
    # The limit of g2 is where the rate ends.
    for factor, has_key in ((0.98, True), (1.02, False)):
        relay = dataclasses.replace(preset("C").for_length(300), g2=rows["g2"].needed * factor)
        assert (optimise(PROTOCOLS["relay-phase-matching"], relay, Block(1e14)).value > 0) == has_key
    assert rows["overlap"].needed < 0.97
    assert rows["slots"].needed < 1e14
    assert all(row.factor >= 1 for row in rows.values())
    assert limiting(found) == min(rows.values(), key=lambda row: row.factor).parameter


def test_design_of_a_relay_without_a_key():
    found = design("relay-phase-matching", preset("A").for_length(300), Block(1e13))
    rows = {row.parameter: row for row in found.requirements}
    assert found.rate == 0
    assert rows["overlap"].needed is None
    assert rows["overlap"].rate_if_best == 0
    assert rows["g2"].needed < 0.010
    assert rows["g2"].factor < 1
    assert rows["slots"].needed > 1e13
    assert limiting(found) == "g2"


def test_design_map(tmp_path):
    relay, block = preset("C").for_length(300), Block(1e14)
    overlaps, g2s = np.array([0.93, 0.97, 1.0]), np.array([0.0, 0.005, 0.03])
    grid = design_map("relay-phase-matching", relay, block, overlaps, g2s)
    assert grid.rate.shape == (3, 3)
    assert np.all(np.diff(grid.rate, axis=1) <= 0)
    assert np.all(np.diff(grid.rate, axis=0) >= 0)
    assert grid.rate[1, 1] == pytest.approx(optimise(PROTOCOLS["relay-phase-matching"], relay, block).value, rel=1e-4)
    assert 0.010 < largest_useful_g2("relay-phase-matching", relay, block) < 0.03
    found = Design(relay, block, "relay-phase-matching", optimise(PROTOCOLS["relay-phase-matching"], relay, block), ())
    plot_design(found, grid, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_points_are_values():
    assert dataclasses.is_dataclass(Point)
    assert [field.name for field in dataclasses.fields(Point)] == FIELDS
