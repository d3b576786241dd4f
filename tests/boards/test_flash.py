"""Flashing with programs made for the purpose in place of openFPGALoader."""

import hashlib
import json
import stat
import subprocess
import sys

import pytest

from qrelay_boards import boards
from qrelay_boards.flash import FlashError

PYTHON = sys.executable
BOARD = boards()["ulx3s-85f"]


@pytest.fixture
def bitstream(tmp_path):
    file = tmp_path / "qrelay.bit"
    file.write_bytes(b"\xff\x00")
    return file


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program on an otherwise empty path; it notes its arguments in a file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere" / "python"))

    def make(status=0, says="", name="openFPGALoader"):
        file = folder / name
        file.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/arguments\necho '{says}' >&2\nexit {status}\n")
        file.chmod(file.stat().st_mode | stat.S_IEXEC)

    return make


@pytest.mark.parametrize(("persistent", "option"), [(False, "--write-sram"), (True, "--write-flash")])
@pytest.mark.parametrize("name", ["openFPGALoader", "openfpgaloader-cli"])
def test_arguments(program, bitstream, tmp_path, persistent, option, name):
    program(name=name)
    BOARD.flash(bitstream, persistent=persistent)
    assert (tmp_path / "arguments").read_text().split() == ["--board", "ulx3s", option, str(bitstream)]


def test_boot_loaders_write_the_flash(program, bitstream, tmp_path):
    program()
    for name, options in (("orangecrab-85f", "--board orangeCrab"), ("butterstick-85f", "--dfu --vid 0x1209")):
        board = boards()[name]
        with pytest.raises(FlashError, match=r"loaded by its boot loader, which writes the flash .* give --persistent"):
            board.flash(bitstream)
        assert not (tmp_path / "arguments").exists()
        board.flash(bitstream, persistent=True)
        arguments = (tmp_path / "arguments").read_text().strip()
        assert arguments.startswith(options)
        assert arguments.endswith(str(bitstream))
        assert "--write" not in arguments
        (tmp_path / "arguments").unlink()


def test_no_program(program, bitstream):
    with pytest.raises(FlashError, match="openFPGALoader is not there: install it"):
        BOARD.flash(bitstream)


def test_no_bitstream(program, tmp_path):
    program()
    with pytest.raises(FlashError, match="does not exist; make it with `qrelay build ulx3s-85f`"):
        BOARD.flash(tmp_path / "none.bit")


LIBRARY = "error while loading shared libraries: {}: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("status", "says", "message"),
    [
        (
            127,
            LIBRARY.format("libusb-1.0.so.0"),
            r"^libusb-1.0 or libftdi1 is missing: install both",
        ),
        (127, LIBRARY.format("libftdi1.so.2"), r"^libusb-1.0 or libftdi1 is missing: install both .* libftdi1-2\)$"),
        (1, "unable to open ftdi device: -3 (device not found)", "^no ulx3s-85f found on USB: connect FT231X"),
        (
            1,
            "unable to open ftdi device: -4 (usb_open() failed: permission denied)",
            "^no permission for the ulx3s-85f",
        ),
        (1, "No DFU compatible device found", "^no ulx3s-85f found on USB"),
        (3, "CRC error", r"^openFPGALoader ended with status 3: CRC error$"),
    ],
)
def test_failures(program, bitstream, status, says, message):
    program(status, says)
    with pytest.raises(FlashError, match=message):
        BOARD.flash(bitstream)


@pytest.fixture
def built(tmp_path):
    """Put the files of a build into the folder; returns the bitstream."""

    def make(name="qrelay-ulx3s-85f.bit", content=b"\xff\x00", **changes):
        file = tmp_path / name
        file.write_bytes(content)
        told = {
            "passed": True,
            "broken_rules": [],
            "board": BOARD.name,
            "rings": [],
            "clock_plan": {"external": True},
            "bitstream": "qrelay-ulx3s-85f.bit",
            "bitstream_sha256": hashlib.sha256(b"\xff\x00").hexdigest(),
        }
        (tmp_path / "manifest.json").write_text(json.dumps(told | changes))
        return file

    return make


FAILED = {"passed": False, "broken_rules": ["seed 1: too slow"], "bitstream": None, "bitstream_sha256": None}


def test_what_the_manifest_tells_of_is_loaded(program, built, tmp_path):
    program()
    BOARD.flash(built())
    assert (tmp_path / "arguments").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_build_that_broke_rules_is_refused(program, built, tmp_path, there):
    program()
    file = built(**FAILED)
    if not there:
        file.unlink()
    with pytest.raises(FlashError, match=r"must not be loaded: its build broke rules \(seed 1: too slow\); mend that"):
        BOARD.flash(file)
    assert not (tmp_path / "arguments").exists()


def test_another_file_than_the_manifest_tells_of_is_refused(program, built, tmp_path):
    program()
    file = built(content=b"\xff\x01")
    with pytest.raises(FlashError, match=r"has SHA-256 [0-9a-f]{16}\.\.\., but manifest.json beside it tells of ea5db"):
        BOARD.flash(file)
    assert not (tmp_path / "arguments").exists()


@pytest.mark.parametrize("other", [{"rings": [3, 5]}, {"clock_plan": {"external": False}}, {"board": "ecpix5-85f"}])
def test_the_manifest_of_another_bitstream_says_nothing(program, built, tmp_path, other):
    program()
    BOARD.flash(built(**FAILED, **other))
    assert (tmp_path / "arguments").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"config": {}}'])
def test_what_is_no_manifest_of_a_build_says_nothing(program, built, tmp_path, text):
    program()
    file = built()
    (tmp_path / "manifest.json").write_text(text)
    BOARD.flash(file)
    assert (tmp_path / "arguments").exists()


def test_flashing_needs_no_gateware_packages():
    """A control PC flashes boards without Amaranth."""
    script = (
        "import sys, qrelay_boards.flash; qrelay_boards.boards(); print([m for m in sys.modules if 'amaranth' in m])"
    )
    done = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
