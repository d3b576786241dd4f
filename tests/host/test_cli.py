import json
import resource
import signal
import subprocess
import sys
import threading
import tomllib

import pytest
from fake_station import FakeRelay, FakeStation
from serial.tools.list_ports_common import ListPortInfo

import qrelay.bench
import qrelay.run
from qrelay import cli
from qrelay.commands import stop_on_signals
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import RunError

COMMANDS = (
    *("bench", "build", "calibrate", "demo", "design", "devices", "entropy health", "entropy record", "flash"),
    *("histogram", "info", "keyrate", "run", "selftest", "twin"),
)


def call(monkeypatch, capsys, *arguments):
    """Exit code, standard output and standard error of the command."""
    monkeypatch.setattr(sys, "argv", ["qrelay", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    return end.value.code or 0, captured.out, captured.err


@pytest.fixture
def fake_twin(monkeypatch):
    def start(config, progress, *, link="tcp"):
        return FakeRelay(config.twin_settings(), slots_per_second=40e6)

    monkeypatch.setattr(qrelay.bench, "start_twin", start)


def test_help_is_quick_and_every_command_has_an_example():
    listed = subprocess.run([sys.executable, "-m", "qrelay", "--help"], capture_output=True, text=True, check=True)
    for command in COMMANDS:
        assert command.split()[0] in listed.stdout
    assert "Example: qrelay demo" in listed.stdout
    best = min(timed("-m", "qrelay", "--help") for _ in range(3))
    assert best < 0.3
    assert min(timed("-c", "import qrelay") for _ in range(3)) < 0.3


def timed(*arguments):
    """Processor seconds of a Python process: what it would take on an idle machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(monkeypatch, capsys, command):
    code, out, _ = call(monkeypatch, capsys, *command.split(), "--help")
    assert code == 0
    assert f"Example: qrelay {command}" in out
    assert "--json" in out


def test_help_loads_nothing_heavy():
    heavy = ("numpy", "pyarrow", "matplotlib", "serial", "rich")
    script = f"import sys, qrelay.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_demo_json(monkeypatch, capsys, fake_twin, tmp_path):
    code, out, err = call(monkeypatch, capsys, "demo", "--slots", 8_000_000, "--json", "--output", tmp_path)
    assert code == 0, err
    shown = json.loads(out)
    wanted = "slots slots_per_second successes sifted qber qber_std qber_model gain gain_std gain_model "
    wanted += "rate_bit_per_slot stations run_folder"
    for key in wanted.split():
        assert key in shown
    assert shown["slots"] == 8_000_000
    assert set(shown["stations"]) == {"alice", "bob", "source", "receiver"}
    assert all(station["rtl"] is True for station in shown["stations"].values())
    assert {p.rsplit("/", 1)[1] for p in shown["plots"]} == {"fringe.png", "gains.png", "clicks.png"}


def test_demo_in_words(monkeypatch, capsys, fake_twin, tmp_path):
    code, out, err = call(monkeypatch, capsys, "demo", "--slots", 4_000_000, "--output", tmp_path)
    assert code == 0, err
    for words in (
        "Measured against the closed form",
        "gain mu-mu",
        "QBER mu-mu",
        "audit of alice: passed",
        "run folder",
    ):
        assert words in out
    assert "QBER" in err
    assert "model 6.65%" in err


@pytest.mark.parametrize(("slots", "long_enough"), [(1272, False), (1280, True)])
def test_an_audit_that_never_completes_is_a_failure(monkeypatch, capsys, fake_twin, tmp_path, slots, long_enough):
    """Where it was asked for, and the run held all its slots: 1024 behind the longest line delay of 256."""
    capture = FakeRelay._capture
    monkeypatch.setattr(FakeRelay, "_capture", lambda relay, name: None if name == "bob" else capture(relay, name))
    code, out, err = call(monkeypatch, capsys, "demo", "--slots", slots, "--output", tmp_path)
    if not long_enough:
        assert code == 0, err
        assert "audit of bob: not complete" in out
        return
    assert code == 1
    assert "audit of alice: passed" in out
    assert "audit of bob: MISSING: its capture did not complete" in out
    reason = "error: the audit of bob is missing, though the run was long enough for it: its capture did not complete"
    assert reason in err
    (manifest,) = tmp_path.glob("*/manifest.json")
    assert set(json.loads(manifest.read_text())["audit_missing"]) == {"bob"}


def test_keys_that_stay_on_a_board_are_told(monkeypatch, capsys, fake_twin, tmp_path):
    execute = qrelay.run.execute

    def keep(*arguments, **options):
        outcome = execute(*arguments, **options)
        outcome.manifest["keys"]["bob"]["kept"] = "3 announcements are not answered; the next run erases them"
        return outcome

    monkeypatch.setattr("qrelay.run.execute", keep)
    code, out, _ = call(monkeypatch, capsys, "demo", "--slots", 1280, "--output", tmp_path)
    assert code == 0
    assert "keys of bob stay on its board: 3 announcements are not answered; the next run erases them" in out
    assert "keys of alice" not in out


def test_demo_for_some_seconds(monkeypatch, capsys, fake_twin, tmp_path):
    code, out, err = call(monkeypatch, capsys, "demo", "--seconds", 1, "--json", "--output", tmp_path)
    assert code == 0, err
    shown = json.loads(out)
    assert shown["partial"] is True
    assert shown["slots"] > 1_000_000


def test_run_from_a_file(monkeypatch, capsys, fake_twin, tmp_path):
    path = tmp_path / "my.toml"
    code, out, _ = call(monkeypatch, capsys, "run", "--template")
    assert out == demo_text()
    path.write_text(demo_text(slots=800_000, output=str(tmp_path)))
    code, out, err = call(monkeypatch, capsys, "run", path, "--json")
    assert code == 0, err
    assert json.loads(out)["slots"] == 800_000


def test_a_template_with_reference_segments(monkeypatch, capsys):
    code, out, _ = call(monkeypatch, capsys, "run", "--template", "--reference")
    assert code == 0
    assert parse_config(out).reference_records == "sum"
    code, out, _ = call(monkeypatch, capsys, "run", "--template", "--reference", "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["template"] == demo_text(reference=True)
    assert shown["values"] == tomllib.loads(shown["template"])
    code, _, error = call(monkeypatch, capsys, "run", "--reference")
    assert code == 2
    assert "--reference goes with --template" in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_of_a_run_asks_for_its_end_and_the_second_interrupts(number):
    before = signal.getsignal(number)
    stop, started = threading.Event(), threading.Event()
    with pytest.raises(KeyboardInterrupt), stop_on_signals(stop, started):
        signal.raise_signal(number)  # nothing runs yet that could end by itself
    assert not stop.is_set()
    started.set()
    with stop_on_signals(stop, started):
        signal.raise_signal(number)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_the_first_signal_after_the_time_of_a_run_is_over_does_not_interrupt():
    stop, started = threading.Event(), threading.Event()
    started.set()
    stop.set()  # as the timer of --seconds does
    with stop_on_signals(stop, started):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        ("qrelay.commands.devices", ["devices"]),
        ("qrelay.commands_selftest.selftest", ["selftest"]),
        ("qrelay.commands_calibrate.calibrate_station", ["calibrate", "url"]),
        ("qrelay.commands_histogram.take_histograms", ["histogram", "url"]),
        ("qrelay.commands_entropy.show_health", ["entropy", "health", "url"]),
        ("qrelay.commands_physics.keyrate", ["keyrate"]),
    ],
)
def test_what_a_command_returns_is_the_exit_code(monkeypatch, capsys, work, arguments):
    for code in (0, 1, 3):
        monkeypatch.setattr(work, lambda *_, code=code, **__: code)
        assert call(monkeypatch, capsys, *arguments)[0] == code

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, interrupt)
    assert call(monkeypatch, capsys, *arguments)[0] == 130


WARNED = "alice: internal clock, +20 ppm: not for joint operation"


def test_json_holds_the_warnings_of_a_run(monkeypatch, capsys, fake_twin, tmp_path):
    monkeypatch.setattr("qrelay.bench.Bench.warnings", lambda bench: [WARNED])
    arguments = "demo", "--slots", 800_000, "--output", tmp_path
    code, out, err = call(monkeypatch, capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    assert WARNED in json.loads(out)["warnings"]
    code, out, err = call(monkeypatch, capsys, *arguments)
    assert code == 0
    assert err.count(f"warning: {WARNED}\n") == 1
    assert f"warning: {WARNED}" not in out


def test_a_run_without_a_document_tells_its_warnings_aside(monkeypatch, capsys, fake_twin, tmp_path):
    def refuse(run):
        raise RunError("it does not arm")

    monkeypatch.setattr("qrelay.bench.Bench.warnings", lambda bench: [WARNED])
    monkeypatch.setattr("qrelay.run.Run.start", refuse)
    code, out, err = call(monkeypatch, capsys, "demo", "--slots", 800_000, "--json", "--output", tmp_path)
    assert (code, out) == (1, "")
    assert err == f"warning: {WARNED}\nerror: it does not arm\n"


def test_a_run_file_that_is_wrong_leaves_no_folder(monkeypatch, capsys, fake_twin, tmp_path):
    path = tmp_path / "my.toml"
    text = demo_text(slots=800_000, output=str(tmp_path / "runs"))
    chains = text.replace("dead_slots = 0", 'bitstream = "/no/such.bit"') + '\ndetectors = "tdc"\n'
    for wrong, message in (
        (text.replace('"one-per-node"', '"one-per-nod"'), f"error: {path}: receiver.success_rule: no rule"),
        (chains, "error: receiver.bitstream = '/no/such.bit': No such file or directory; give the file that was"),
    ):
        path.write_text(wrong)
        code, out, err = call(monkeypatch, capsys, "run", path)
        assert (code, out) == (2, "")
        assert err.startswith(message)
    assert not (tmp_path / "runs").exists()


def test_the_fast_twin_serves_no_boards(monkeypatch, capsys, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(demo_text(fast=True))
    code, _, err = call(monkeypatch, capsys, "twin", path)
    assert code == 2
    assert err.startswith(f"error: {path}: twin.engine = 'fast' runs no gateware that could be served; set engine")


@pytest.mark.parametrize(
    ("missing", "arguments", "message"),
    [
        ("amaranth", ["build", "ulx3s-85f"], "building needs the gateware tools (No module named 'amaranth"),
        ("amaranth", ["build", "ulx3s-85f", "--rings"], "building needs the gateware tools (No module named 'amaranth"),
        ("qrelay_boards", ["flash", "ulx3s-85f"], "flashing needs the gateware tools (No module named 'qrelay_boards"),
    ],
)
def test_without_the_gateware_tools(missing, arguments, message):
    script = f"import sys; sys.modules[{missing!r}] = None; sys.argv = {['qrelay', *arguments]}; import qrelay.cli; "
    done = subprocess.run(
        [sys.executable, "-c", f"{script}qrelay.cli.main()"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert "install the extra 'gateware': pip install" in line


def test_wrong_usage_is_exit_code_2(monkeypatch, capsys, tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(demo_text().replace("dead_slots = 0", "dead_slots = -1"))
    code, out, err = call(monkeypatch, capsys, "run", path)
    assert (code, out) == (2, "")
    assert "receiver.dead_slots: Input should be greater than or equal to 0 (given: -1)" in err
    assert call(monkeypatch, capsys, "run")[0] == 2
    assert call(monkeypatch, capsys, "demo", "--slots", "many")[0] == 2
    assert call(monkeypatch, capsys, "nonsense")[0] == 2
    code, _, err = call(monkeypatch, capsys, "build", "no-such-board")
    assert code == 2
    assert "no board 'no-such-board'; there are ulx3s-85f, ecpix5-85f, " in err


def test_failure_is_exit_code_1(monkeypatch, capsys):
    code, _, err = call(monkeypatch, capsys, "info", "socket://127.0.0.1:9")
    assert code == 1
    assert err.startswith("error: cannot open socket://127.0.0.1:9")
    code, _, err = call(monkeypatch, capsys, "build", "ulx3s-85f", "--serial-number", "A7")
    assert code == 2
    assert "ulx3s-85f has a UART; only boards with their link by USB have a serial number" in err
    code, _, err = call(monkeypatch, capsys, "flash", "ulx3s-85f", "--bitstream", "/nowhere.bit")
    assert code == 1
    assert "/nowhere.bit" in err


def test_devices_by_usb(monkeypatch, capsys):
    """A station is known by its product's name, or by the numbers where a system does not tell names."""
    ports = []
    for number, (vid, pid, product) in enumerate(
        [
            (0x1209, 0x0001, "qrelay ecpix5-85f-usb"),
            (0x1234, 0x5678, "qrelay lab-carrier-usb"),
            (0x1209, 0x0001, None),
            (0x1209, 0x0001, "someone else's test"),
            (0x0403, 0x6015, "ULX3S FPGA"),
            (None, None, None),
        ]
    ):
        port = ListPortInfo(f"/dev/port{number}")
        port.vid, port.pid, port.product, port.serial_number, port.description = vid, pid, product, "7", "described"
        ports.append(port)
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    code, out, _ = call(monkeypatch, capsys, "devices", "--json")
    assert code == 0
    assert [entry["usb_board"] for entry in json.loads(out)] == [
        "ecpix5-85f-usb",
        "lab-carrier-usb",
        "?",
        None,
        None,
        None,
    ]
    _, out, _ = call(monkeypatch, capsys, "devices")
    assert out.splitlines()[0] == "/dev/port0  ecpix5-85f-usb by USB, serial number 7"
    assert out.splitlines()[4] == "/dev/port4  described"


def test_info_and_devices(monkeypatch, capsys):
    with FakeStation() as station:
        code, out, _ = call(monkeypatch, capsys, "info", station.url, "--json")
        assert code == 0
        assert json.loads(out)["identity"]["board"] == "fake"
        code, out, _ = call(monkeypatch, capsys, "info", station.url)
        assert "board: fake" in out
        code, out, _ = call(monkeypatch, capsys, "devices", station.url, "--json")
        assert json.loads(out)[-1]["station"]["board"] == "fake"
    code, out, _ = call(monkeypatch, capsys, "info", "--registers", "--json")
    assert json.loads(out)["receiver.dead_slots_0"]["width"] == 16
