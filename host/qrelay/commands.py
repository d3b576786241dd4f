"""What the commands do, apart from their options; loaded only when a command runs."""

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from .conclude import RunOutcome
from .config import RunConfig, load_config, parse_config
from .demo_config import demo_text, fast_text
from .errors import ConfigError, QrelayError, RunError
from .extras import how_to_get
from .json_output import print_json
from .live_view import LiveView, print_summary

__all__ = [
    "build_board",
    "devices",
    "flash_board",
    "info",
    "registers",
    "run_file",
    "run_text",
    "serve_twin",
    "summary_of",
]

_WARNING = "warning: "
"""How a message of a run begins that tells a warning."""


@contextmanager
def stop_on_signals(stop: threading.Event, started: threading.Event) -> Iterator[None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a clean stop; before `started`, and the second time, interrupt."""
    asked = threading.Event()  # not `stop`, which a timer may set, too

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() or not started.is_set():
            raise KeyboardInterrupt
        asked.set()
        stop.set()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # `nohup` has it ignored.
        previous[signal.SIGHUP] = signal.signal(signal.SIGHUP, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_text(text: str, source: str, *, seconds: float | None = None, as_json: bool = False) -> int:
    """Carry out the run of a TOML text and show it; return the exit code."""
    from .plots import plot_run
    from .run import execute

    config = parse_config(text, source)
    config.check_files()
    stop, started = threading.Event(), threading.Event()
    told: list[str] = []

    def on_started() -> None:
        started.set()
        if seconds is not None:
            timer = threading.Timer(seconds, stop.set)
            timer.daemon = True
            timer.start()

    with LiveView(_expected_qber(config), quiet=as_json) as view, stop_on_signals(stop, started):

        def on_message(message: str) -> None:
            view.message(message)
            if message.startswith(_WARNING):
                told.append(message.removeprefix(_WARNING))

        try:
            outcome = execute(
                config, text, on_progress=view.update, on_message=on_message, on_started=on_started, stop=stop
            )
        except BaseException:
            if as_json:  # no document will hold them
                for warning in told:
                    print(f"{_WARNING}{warning}", file=sys.stderr)
            raise
    shown = summary_of(outcome)
    shown["plots"] = plot_run(outcome.folder, config, outcome.manifest, outcome.result, shown["warnings"].append)
    if as_json:
        print_json(shown | {"warnings": told + shown["warnings"]})
    else:  # what was told is on the screen
        print_summary(shown)
    if reason := outcome.trouble or _audit_failure(shown):
        raise RunError(f"{reason} (everything taken is in {outcome.folder})")
    return 0


def summary_of(outcome: RunOutcome) -> dict[str, Any]:
    """What is shown of a run: its result, and of its manifest what a reader wants to know."""
    slots_per_second = outcome.result["slots"] / max(outcome.manifest["seconds"], 1e-9)
    return {
        **outcome.result,
        "slots_per_second": slots_per_second,
        "real_time_ratio": slots_per_second / outcome.manifest["stations"]["receiver"]["slot_rate_hz"],
        "stations": outcome.manifest["stations"],
        "audit": outcome.manifest["audit"],
        "audit_missing": outcome.manifest["audit_missing"],
        "keys_kept": {name: key["kept"] for name, key in outcome.manifest["keys"].items() if key.get("kept")},
        "alarms": outcome.manifest["alarms"],
        "accounting": outcome.manifest["accounting"],
        "not_accounted": outcome.manifest["not_accounted"],
        "trouble": outcome.trouble,
        "warnings": list(outcome.result["warnings"]),
        "run_folder": outcome.folder,
    }


def _audit_failure(shown: dict[str, Any]) -> str | None:
    """What an audit that was asked for does not prove, in words; None if it proves what it should."""
    failed = [name for name, report in shown["audit"].items() if report is not None and not report["passed"]]
    found = [f"the audit of {' and '.join(failed)} failed: emitted is not what was drawn"] if failed else []
    found += [
        f"the audit of {name} is missing, though the run was long enough for it: {reason}"
        for name, reason in shown["audit_missing"].items()
    ]
    return "; ".join(found) or None


def _expected_qber(config: RunConfig) -> float | None:
    if config.receiver.success_rule != "one-per-node":
        return None
    from .model import RunModel

    key = config.setting_index(config.sifting.key)
    return RunModel(config).pair(key, key).qber


def run_file(path: Path, *, fast: bool, as_json: bool) -> int:
    """Carry out a run file, on the fast twin if `fast`."""
    config = load_config(path)
    text = path.read_text(encoding="utf-8")
    if fast and not config.simulated:
        raise ConfigError(f"{path}: stations name boards; the fast twin takes the place of 'twin' stations only")
    return run_text(fast_text(text) if fast else text, str(path), as_json=as_json)


def devices(urls: list[str], *, probe: bool, as_json: bool) -> int:
    """List serial ports and say which are stations; only given URLs are opened, unless `probe`."""
    from serial.tools import list_ports

    from .bench import describe_identity
    from .board import Board
    from .protocol.usb import usb_board

    found: list[dict[str, Any]] = [
        {
            "url": port.device,
            "description": port.description,
            "serial_number": port.serial_number,
            "usb_board": usb_board(port.vid, port.pid, port.product),
        }
        for port in list_ports.comports()
    ]
    found += [{"url": url, "description": "", "serial_number": None, "usb_board": None} for url in urls]
    for entry in found:
        if not probe and entry["url"] not in urls:
            continue
        try:
            with Board.open(entry["url"], timeout_s=0.3) as board:
                entry["station"] = describe_identity(board.identity)
        except QrelayError as error:
            entry["error"] = str(error)
    if as_json:
        print_json(found)
        return 0
    for entry in found:
        by_usb = entry["usb_board"]
        known = f"{by_usb} by USB, serial number {entry['serial_number']}" if by_usb else entry["description"]
        what = entry["station"]["board"] if "station" in entry else entry.get("error", known)
        print(f"{entry['url']}  {what}")
    if not found:
        print("no serial ports; give a URL such as socket://127.0.0.1:5000, or start simulated boards: qrelay twin")
    return 0


def info(url: str, *, as_json: bool) -> int:
    """Show identity, state, alarms and link counters of a station."""
    from .bench import describe_identity
    from .board import Board
    from .tdc_board import calibrated_detectors

    with Board.open(url) as board:
        shown = {
            "url": url,
            "identity": describe_identity(board.identity),
            "calibrated_chains": list(calibrated_detectors(board)),
            "state": board.state().names(),
            "alarms": board.alarms().names(),
            "slot_now": board.read("timebase.slot_now"),
            "link": board.read_group("link"),
            "rates": {f"detector {i}": board.read(f"receiver.rate_{i}") for i in range(board.identity.detectors)},
        }
    if as_json:
        print_json(shown)
        return 0
    for section, value in shown.items():
        if isinstance(value, dict):
            print(f"{section}:")
            for name, item in value.items():
                print(f"  {name}: {item}")
        else:
            print(f"{section}: {', '.join(value) or 'none' if isinstance(value, list) else value}")
    return 0


def registers(*, as_json: bool) -> int:
    """Show the register map."""
    from .protocol.registers import GROUPS
    from .protocol.windows import WINDOWS

    if as_json:
        print_json(
            {
                f"{group.name}.{register.name}": {
                    "address": address,
                    "width": register.width,
                    "access": register.access,
                    "unit": register.unit,
                    "reset": register.reset,
                    "meaning": register.doc,
                }
                for group in GROUPS
                for address, register in group.addressed()
            }
        )
        return 0
    for group in GROUPS:
        print(f"{group.name}: {group.doc}")
        for address, register in group.addressed():
            unit = f" [{register.unit}]" if register.unit else ""
            name = f"{group.name}.{register.name}"
            print(f"  {address:#06x} {name:<34} {register.width:>2} bit {register.access:<6} {register.doc}{unit}")
    for window in WINDOWS:
        shape = f"{window.depth} x {window.width} bit"
        print(f"table {window.name}: {window.base:#06x}, {shape}, {window.access}: {window.doc}")
    return 0


@contextmanager
def _gateware_tools(what: str) -> Iterator[None]:
    """Say how to get the gateware tools where `what` misses one of them."""
    try:
        yield
    except ImportError as error:
        raise RunError(f"{what} needs the gateware tools ({error}); {how_to_get('gateware')}") from error


def _board(name: str) -> Any:
    from qrelay_boards import boards

    known = boards()
    if name not in known:
        raise ConfigError(f"no board {name!r}; there are {', '.join(known)}")
    return known[name]


def _variant(board: Any, rings: bool, serial_number: str | None) -> Any:
    if rings:
        from qrelay_boards.ecp5_variants import with_rings

        board = with_rings(board)
    if serial_number is not None:
        from qrelay_boards.ecp5_variants import with_serial_number

        try:
            board = with_serial_number(board, serial_number)
        except ValueError as error:
            raise ConfigError(str(error)) from error
    return board


def build_board(
    name: str,
    *,
    out: Path | None,
    seeds: int,
    free_running: bool,
    rings: bool,
    serial_number: str | None,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Build bitstream, timing report and manifest; with `rings` the noise source is in it."""

    def progress(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    folder = out or Path("build") / name
    with _gateware_tools("building"):
        board = _variant(_board(name), rings, serial_number)
        try:
            # The tools end with the build, also by SIGTERM.
            with stop_on_signals(threading.Event(), started=threading.Event()):
                result = board.build(
                    out_dir=folder, seeds=seeds, free_running=free_running, jobs=jobs, progress=progress
                )
        except (RuntimeError, ValueError, OSError) as error:
            raise RunError(f"build of {name} failed: {error}") from error
    if as_json:
        print_json(json.loads(result.manifest.read_text()) | {"folder": str(folder)})
    else:
        print(result)
        print(f"bitstream {result.bitstream}")
    return 0


def flash_board(name: str, bitstream: Path | None, *, persistent: bool, as_json: bool) -> int:
    """Load a bitstream into a board."""
    with _gateware_tools("flashing"):
        from qrelay_boards.flash import flash

        board = _board(name)
    path = bitstream or Path("build") / name / f"qrelay-{name}.bit"
    try:
        flash(board, path, persistent=persistent)
    except (RuntimeError, ValueError, OSError) as error:
        raise RunError(str(error)) from error
    done = {"board": name, "bitstream": str(path), "persistent": persistent}
    if as_json:
        print_json(done)
    else:
        print(f"{name} now runs {path}" + (", also after power-up" if persistent else " until the next power cycle"))
    return 0


def serve_twin(path: Path | None, *, pty: bool, as_json: bool) -> int:
    """Serve simulated boards until Ctrl-C."""
    from .bench import start_twin

    config = load_config(path) if path is not None else parse_config(demo_text(), "demo")
    if config.twin.engine == "fast":
        raise ConfigError(f"{path}: twin.engine = 'fast' runs no gateware that could be served; set engine = 'rtl'")
    stop, started = threading.Event(), threading.Event()
    with stop_on_signals(stop, started):
        with start_twin(config, lambda text: print(text, file=sys.stderr), link="pty" if pty else "tcp") as twin:
            started.set()
            if as_json:
                print_json({"urls": twin.urls})
            else:
                for name, url in twin.urls.items():
                    print(f"{name}  {url}")
                print("Ctrl-C stops the boards", file=sys.stderr)
            sys.stdout.flush()
            while not stop.wait(0.2):
                if not twin.alive:
                    raise RunError(f"the twin stopped: {twin.error}")
    return 0
