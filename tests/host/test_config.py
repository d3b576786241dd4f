import pytest

from qrelay.config import load_config, parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import ConfigError

DEMO = demo_text()
WITH_REST = f"{DEMO}\n[[settings]]\nname = 'rest'\nprobability = 0.0\nmean_photon_number = 0.1\nlevel_code = 3\n"


def test_the_demo_is_what_the_issue_asks_for():
    config = parse_config(DEMO)
    assert config.slots == 100_000_000
    assert config.twin.length_km == 50
    assert {s.name: (s.probability, s.mean_photon_number) for s in config.settings} == {
        "vac": (0.12, 0.0),
        "nu": (0.33, 0.0058),
        "mu": (0.55, 0.016),
    }
    assert config.thresholds() == (492, 1843, 4096, 4096, 4096, 4096, 4096)
    assert sum(config.drawn_probabilities()) == 1
    assert config.twin_settings().level_photon_numbers() == (0.0, 0.0058, 0.016, 0.0)
    # 12.5 km at 4.9 us/km and 304.52 MHz
    assert config.path_delays() == dict.fromkeys(("alice_m1", "source_m1", "source_m2", "bob_m2"), 18652)


def test_the_demo_takes_what_the_command_line_changes():
    config = parse_config(demo_text(slots=1001, length_km=100, seed=7, dead_slots=9, output="elsewhere"))
    assert (config.slots, config.twin.length_km, config.seed, config.twin.seed) == (1008, 100, 7, 7)
    assert (config.receiver.dead_slots, config.output) == (9, "elsewhere")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("slots = 100_000_000", "slots = 100_000_001", "slots: Input should be a multiple of 8 (given: 100000001)"),
        ("dead_slots = 0", "dead_slots = 70000", "receiver.dead_slots: Input should be less than or equal to 65535"),
        ("length_km = 50.0", "lenght_km = 50.0", "twin.lenght_km: no such key"),
        ("probability = 0.55", "probability = 0.56", "settings: probabilities add up to 1.01; make them add up to 1"),
        ('kind = "quantum"', 'kind = "quantun"', "frame.segments.0.kind: Input should be 'reference', 'guard'"),
        ("slots = 8192", "slots = 8196", "frame: the frame has 8196 slots; make it a multiple of 8"),
        ('key = "mu"', 'key = "mew"', "sifting.key: no setting 'mew'; there are vac, nu, mu"),
        ("phase_offset = 0", "phase_offset = 16", "sifting: phase_offset 16 is no 16th of a turn; give 0 to 15"),
        ('alice = "twin"', 'alice = "/dev/ttyUSB0"', "stations: light passes between simulated boards only"),
        ("g2 = 0.010", "g2 = 0.9\nsource_mean_photon_number2 = 1", "twin.source_mean_photon_number2: no such key"),
        ('name = "demo"', 'name = "a/b"', "name: String should match pattern"),
        (
            "level_code = 2",
            "level_code = 4",
            "settings.2.level_code: Input should be less than or equal to 3 (given: 4)",
        ),
        (
            "level_code = 2",
            "level_code = 1",
            "settings.2.mean_photon_number: 0.016 with level_code 1, for which settings.1.mean_photon_number says "
            "0.0058; give each brightness its own level_code (0 to 3), or both settings the same mean_photon_number",
        ),
        ("seed = 1 ", "seed = ", "not valid TOML"),
        (
            '"one-per-node"',
            '"one-per-nod"',
            "receiver.success_rule: no rule 'one-per-nod'; there are one-per-node, single, any, time-bin-bell",
        ),
        (
            "dead_slots = 0",
            'detectors = [{ name = "a" }, { name = "b" }, { name = "a" }]',
            "receiver.detectors: names ['a', 'b', 'a'] must differ",
        ),
        (
            "dead_slots = 0",
            'detectors = [{ name = "a" }, { name = "b" }]',
            "receiver.success_rule: 'one-per-node' holds for no clicks of the 2 detectors ['a', 'b']; list more under "
            "receiver.detectors, or give another rule",
        ),
        (
            "dead_slots = 0",
            'bitstream = "a.bit"',
            "receiver.bitstream = 'a.bit': it is for offsets of carry chains, and the twin's receiver has none; set "
            "twin.detectors = 'tdc', or leave it out",
        ),
        (
            "length_km = 50.0",
            "phase_offset_rad = nan",
            "twin.phase_offset_rad: Input should be a finite number (given: nan)",
        ),
        (
            "length_km = 50.0",
            "phase_drift_rad_per_ms = inf",
            "twin.phase_drift_rad_per_ms: Input should be a finite number (given: inf)",
        ),
        (
            "probability = 0.12",
            "probability = 0.0001\nmean_photon_number = 0.0\nlevel_code = 0\n[[settings]]\nname = 'rest'\n"
            "probability = 0.1199",
            "settings.0.probability: 0.0001 means never, as settings are drawn in steps of 1/4096; give 0, or at "
            "least 0.00049",
        ),
        (
            'key = "mu"',
            'key = "rest"',
            "sifting.key: setting 'rest' has probability 0, so that no bit can be sifted; give it at least 0.00049",
        ),
        (
            'master = "source"',
            "start_delay_words = { alice = 3 }",
            "stations: start_delay_words = {'alice': 3}: simulated boards all see the start pulse together",
        ),
        (
            'bob_key = "host"',
            "reseed_slots = 20_000_000",
            "choices: reseed_slots = 20000000 is for keys made on board, and both come from the host; leave it out, or "
            "set alice_key or bob_key = 'board'",
        ),
        ('bob_key = "host"', "sample_words = 4000", "choices: sample_words = 4000 is for keys made on board"),
        ('bob_key = "host"', "min_entropy = 0.25", "choices: min_entropy = 0.25 is for keys made on board"),
        ('bob_key = "host"', "false_alarm_log2 = -39", "choices: false_alarm_log2 = -39 is for keys made on board"),
    ],
)
def test_an_error_names_file_key_and_limit(old, new, message):
    text = WITH_REST if '"rest"' in new else DEMO
    assert old in text
    with pytest.raises(ConfigError) as caught:
        parse_config(text.replace(old, new, 1), "my.toml")
    lines = str(caught.value).splitlines()
    assert any(line.startswith(f"my.toml: {message}") for line in lines), lines


def test_settings_of_one_brightness_may_share_a_level():
    shared = DEMO.replace("level_code = 2", "level_code = 1").replace("0.016", "0.0058")
    assert parse_config(shared).twin_settings().level_photon_numbers() == (0.0, 0.0058, 0.0, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {'master = "source"': "start_delay_words = { alice = 0 }"},
        {'bob_key = "host"': 'bob_key = "board"\nreseed_slots = 8000\nsample_words = 64'},
        {"dead_slots = 0": 'detectors = [{ name = "a" }, { name = "b" }, { name = "c" }]'},
        {'"one-per-node"': '"2-fold"\ndetectors = [{ name = "a" }, { name = "b" }]'},
        {'"one-per-node"': '"time-bin-bell"\ndetectors = [{ name = "a" }, { name = "b" }]'},
        {"probability = 0.33": "probability = 0.0", "probability = 0.55": "probability = 0.88"},
        {'key = "mu"': 'key = "rest"', '"one-per-node"': '"any"'},
    ],
)
def test_what_has_an_effect_is_taken(changes):
    text = WITH_REST
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    parse_config(text)


def test_a_file_that_is_not_there_is_told_before_a_run(tmp_path):
    """And not where the settings of a run that is over are read."""
    text = DEMO.replace("dead_slots = 0", f"bitstream = '{tmp_path}/no.bit'") + '\ndetectors = "tdc"\n'
    config = parse_config(text)
    message = r"receiver\.bitstream = '.*no\.bit': No such file or directory; give the file that was flashed"
    with pytest.raises(ConfigError, match=message):
        config.check_files()
    (tmp_path / "no.bit").write_bytes(b"")
    config.check_files()


def test_boards_may_see_the_start_late():
    text = boards_text().replace("seed = 1 ", "# ", 1)
    text = text.replace('master = "source"', "start_delay_words = { alice = 3 }")
    delays = "path_delay_slots = { alice_m1 = 1, source_m1 = 2, source_m2 = 3, bob_m2 = 4 }\n"
    assert parse_config(delays + text).stations.start_delay_words == {"alice": 3}


def boards_text():
    text = DEMO
    for name in ("alice", "bob", "source", "receiver"):
        text = text.replace(f'{name} = "twin"', f'{name} = "/dev/{name}"')
    return text


def test_boards_need_path_delays_and_no_seed():
    with pytest.raises(ConfigError, match="path_delay_slots: missing; boards need the optical delay"):
        parse_config(boards_text())
    delays = "path_delay_slots = { alice_m1 = 1, source_m1 = 2, source_m2 = 3, bob_m2 = 4 }\n"
    with pytest.raises(ConfigError, match="seed: a key from a seed is known to all"):
        parse_config(delays + boards_text())
    config = parse_config(delays + boards_text().replace("seed = 1 ", "# ", 1))
    assert config.path_delays() == {"alice_m1": 1, "source_m1": 2, "source_m2": 3, "bob_m2": 4}
    assert not config.simulated


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.toml"):
        load_config(tmp_path / "nowhere.toml")
