"""`qrelay keyrate` and `qrelay design` as a user meets them."""

import csv
import json

import pytest
from typer.testing import CliRunner

from qrelay.cli import app
from qrelay.errors import ConfigError

runner = CliRunner()


def run(*arguments):
    result = runner.invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_json_is_a_list_of_points():
    result = run("keyrate", "--protocol", "relay-phase-matching,plob", "--preset", "C", "--distance", "300", "--json")
    points = json.loads(result.stdout)
    assert [point["protocol"] for point in points] == ["relay-phase-matching", "plob"]
    assert points[0]["rate_bit_per_s"] == pytest.approx(21.0, rel=0.01)
    assert points[0]["finite"] is None


def test_one_distance_prints_rates_settings_and_limits():
    text = run("keyrate", "--protocol", "relay-phase-matching,relay-phase-matching-conditional").stdout
    assert "model, preset A, asymptotic, 304.52 million slots/s, 300 km" in text
    assert "relay-phase-matching " in text
    assert "mu in 0.0001..0.5" in text
    assert "relay-phase-matching-conditional: awaiting outside review" in text


def test_many_distances_print_a_table(tmp_path):
    path = tmp_path / "rates.csv"
    arguments = ("keyrate", "--protocol", "decoy-bb84,plob", "--distance", "0:100:50", "--csv", str(path))
    lines = run(*arguments).stdout.splitlines()
    assert lines[1].split() == ["km", "BB84", "PLOB"]
    assert len(lines) == 6
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 6
    assert json.loads(rows[0]["intensities"])["mu"] > 0.5


def test_finite_key_and_plot(tmp_path):
    path = tmp_path / "rates.svg"
    result = run(
        "keyrate", "--protocol", "relay-phase-matching", "--preset", "C", "--distance", "100,200",
        "--finite", "1e13", "--epsilon", "1e-9", "--plot", str(path),
    )  # fmt: skip
    assert "1e+13 slots, epsilon 1e-09" in result.stdout
    assert path.stat().st_size > 5000


def test_a_users_file_starts_from_the_template(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(run("keyrate", "--template").stdout.replace('name = "A"', 'name = "mine"'))
    text = run("keyrate", "--protocol", "relay-phase-matching", "--preset", str(path)).stdout
    assert "preset mine" in text
    rows = json.loads(run("keyrate", "--parameters", "--preset", str(path), "--json").stdout)["parameters"]
    assert next(row for row in rows if row["name"] == "eta_d")["provenance"] == "assumed"
    assert "found in Ding et al." in run("keyrate", "--parameters", "--preset", "B").stdout


def test_a_template_of_no_preset_is_refused():
    with pytest.raises(ConfigError, match="--preset 'D': --template prints one of the presets A, B, C"):
        run("keyrate", "--template", "--preset", "D")


def test_the_template_as_json():
    shown = json.loads(run("keyrate", "--template", "--preset", "C", "--json").stdout)
    assert shown["template"] == run("keyrate", "--template", "--preset", "C").stdout
    assert shown["values"]["name"] == "C"
    assert set(shown["values"]["g2"]) == {"value", "provenance"}


def test_the_list_names_every_protocol():
    names = [entry["name"] for entry in json.loads(run("keyrate", "--list", "--json").stdout)]
    assert len(names) == 13
    assert all(name in run("keyrate", "--list").stdout for name in names)


def test_design_as_json():
    found = json.loads(run("design", "--preset", "C", "--finite", "1e14", "--workers", "1", "--json").stdout)
    assert found["key_bits"] > 0
    assert found["limited_by"] in {row["parameter"] for row in found["requirements"]}


def test_design_without_any_key():
    text = run("design", "--finite", "1e8", "--workers", "1").stdout
    assert "key: none" in text
    assert "not enough alone" in text
    assert "limited by slots: of the parameters that alone would give a key" in text
    hopeless = run("design", "--finite", "1e8", "--distance", "900", "--preset", "B", "--workers", "1").stdout
    assert "no parameter alone gives a key: improve several, or shorten the fibre" in hopeless


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("keyrate", "--protocol", "bb85"), "protocol 'bb85' does not exist; give one of"),
        (("keyrate", "--protocol", ","), "protocol ',' names none"),
        (("keyrate", "--distance", "far"), "distance 'far': give km"),
        (("keyrate", "--preset", "D"), "preset 'D' is neither one of A, B, C nor a file"),
        (("keyrate", "--epsilon", "1e-9"), "epsilon 1e-09 belongs to a finite key; give --finite"),
        (("keyrate", "--finite", "1e12", "--epsilon", "2"), r"epsilon 2\.0 is out of range"),
        (("keyrate", "--finite", "0"), r"slots 0\.0 is out of range; give 1 or more"),
        (("keyrate", "--plot", "rates.gif"), r"plot rates.gif: suffix '\.gif' is no format"),
        (("keyrate", "--csv", "no/such/folder/rates.csv"), "does not exist; make it first"),
        (("design", "--protocol", "plob"), "protocol 'plob' does not exist; give one of relay-phase-matching"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        run(*arguments)
