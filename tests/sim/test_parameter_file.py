"""Parameter sets as files: presets, a user's own, and what is wrong with a bad one."""

import dataclasses

import pytest

from qrelay_sim.parameter_file import PRESETS, load_preset, parse_parameters, preset_text, read_parameters
from qrelay_sim.parameters import RelayParameters


def test_preset_a_is_the_default_of_the_model():
    assert load_preset("A") == RelayParameters()


def test_presets_differ_where_section_6_says():
    a, b, c = (load_preset(name) for name in PRESETS)
    assert dataclasses.replace(a, name="B", g2=0.0205) == b
    assert dataclasses.replace(a, name="C", g2=0.005, overlap=0.97) == c
    assert b.provenance["g2"].startswith("found in Ding")
    assert b.provenance["eta_d"] == a.provenance["eta_d"]


def test_every_number_of_a_preset_says_found_assumed_or_known():
    for name in PRESETS:
        for key, source in load_preset(name).provenance.items():
            if key != "node_overlaps":
                assert source.startswith(("found in", "assumed", "general knowledge")), key


def test_a_users_file(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text(
        'base = "C"\n'
        'g2 = { value = 0.012, provenance = "measured on the bench" }\n'
        "overlap = 0.9\n"
        "arms_km = [10, 20, 30, 40]\n"
        '[timing]\ngate_width_ps = { value = 200, provenance = "setting" }\n'
    )
    relay = read_parameters(str(path))
    assert relay.name == "bench"
    assert relay.arms_km == (10.0, 20.0, 30.0, 40.0)
    assert relay.eta_d == load_preset("C").eta_d
    assert relay.provenance["g2"] == "measured on the bench"
    assert relay.provenance["overlap"] == "given without a source"
    assert relay.provenance["timing.gate_width_ps"] == "setting"
    assert relay.provenance["timing.jitter_ps"] == "left out, default"
    assert relay.for_length(50).arms_km == (5.0, 10.0, 15.0, 20.0)


def test_left_out_values_are_those_of_preset_a_and_say_so():
    relay = parse_parameters("g2 = 0.02\n", "test")
    assert relay.overlap == load_preset("A").overlap
    assert relay.provenance["overlap"].startswith("left out, as in preset A: ")


def test_the_template_is_a_valid_file():
    for name in PRESETS:
        assert parse_parameters(preset_text(name), name) == load_preset(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("overlapp = 0.1", r"test: no key overlapp; did you mean overlap\?"),
        ("[timing]\ngate_widht_ps = 1", r"test: no key timing.gate_widht_ps; did you mean timing.gate_width_ps\?"),
        ("g2 = 'low'", "test: g2 'low' must be a number"),
        ("g2 = true", "test: g2 True must be a number"),
        ("overlap = 1.2", r"test: overlap 1\.2 is out of range; give 0\.0 to 1\.0"),
        ("arms_km = [1, 2]", r"test: arms_km \[1, 2\] must be a list of 4 numbers"),
        ("phase_slices = 16.5", r"test: phase_slices 16\.5 must be a whole number"),
        ("g2 = { worth = 1 }", r"test: g2 .* write \{ value = "),
        ("base = 'D'", "test: base 'D' does not exist; give one of A, B, C"),
        ("name = 3", "test: name and base must be texts"),
        ("timing = 3", "test: timing must be a table"),
        ("g2 = ", "test: not valid TOML"),
        ("[timing]\nlifetime_ps = 0", r"test: timing.lifetime_ps 0\.0 is out of range"),
        ("double_clicks = 'keep'", "test: double_clicks 'keep' does not exist; give one of discard, random"),
    ],
)
def test_bad_files_name_key_value_and_remedy(text, message):
    with pytest.raises(ValueError, match=message):
        parse_parameters(text, "test")


def test_a_missing_file():
    with pytest.raises(ValueError, match=r"preset 'nowhere\.toml' is neither one of A, B, C nor a file"):
        read_parameters("nowhere.toml")
