"""The station's RTL as a native library: Amaranth -> Verilog -> Verilator -> C++ compiler, cached by content.

The cache key covers the gateware and protocol sources, the harness, the tool versions and the flags, so that a second
start neither elaborates nor compiles anything. The cache lives in ``$QRELAY_CACHE`` or the user's cache folder.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from qrelay.extras import how_to_get
from qrelay.twin_settings import PAD_WORDS

__all__ = ["BuildError", "build_library", "compiler", "source_fingerprint"]

Progress = Callable[[str], None]

_VERILATOR_FLAGS = (
    "--cc",
    "--top-module",
    "station",
    "--prefix",
    "Vstation",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
    "--no-timing",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "--output-split",
    "0",
    "--output-split-cfuncs",
    "500",
)
_COMPILER_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-DVL_IGNORE_UNKNOWN_ARCH",
    "-DVERILATOR=1",
    "-fno-semantic-interposition",
    "-fno-sanitize=undefined",  # which Zig asks for where nothing is optimised
)
_FAST_LEVEL, _SLOW_LEVEL = "-O2", "-O0"
"""Verilator keeps apart what runs only once, which takes the compiler longest to optimise."""
_LOCK_POLL_S = 0.1
_FOR_THIS_PROCESSOR = ("-march=native",) if platform.machine() in ("x86_64", "AMD64") else ()
"""An eighth faster. A library in a cache that several machines mount is of those with the same processor."""


class BuildError(RuntimeError):
    """The native library cannot be built; the message says what is missing and how to get it."""


def compiler() -> list[str]:
    """Command of a C++ compiler: $CXX, then the system's, then the ziglang wheel's. Raises BuildError if none."""
    if named := os.environ.get("CXX", "").split():
        if shutil.which(named[0]) is None:
            raise BuildError(f"CXX names the compiler {named[0]!r}, which was not found; correct CXX or leave it unset")
        return named
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "c++"]
    raise BuildError(
        "no C++ compiler found for the digital twin; install one (Debian: apt-get install g++) or `pip install ziglang`"
    )


def _compiler_name() -> str:
    command = compiler()
    return "ziglang" if "ziglang" in command else Path(command[0]).name


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise BuildError(f"package {name} is missing; {how_to_get('gateware')}")
    return Path(spec.origin).parent


def source_fingerprint() -> str:
    """Hash of everything that decides what the library does: sources, harness, tool versions, flags, processor."""
    digest = hashlib.sha256()
    for package in ("qrelay_gateware", "qrelay.protocol"):
        folder = _package(package)
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    for name in ("native.py", "harness.cpp", "chain.h", "sdram.h", "identity.py", "pins.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    for distribution in ("amaranth", "verilator"):
        try:
            digest.update(importlib.metadata.version(distribution).encode())
        except importlib.metadata.PackageNotFoundError:
            raise BuildError(f"package {distribution} is missing; {how_to_get('gateware')}") from None
    digest.update(str(PAD_WORDS).encode())  # goes into the identity block of stations with carry chains
    flags = [*_VERILATOR_FLAGS, *_COMPILER_FLAGS, *_FOR_THIS_PROCESSOR]
    digest.update(" ".join([*flags, *compiler(), _processor()]).encode())
    return digest.hexdigest()[:24]


def _processor() -> str:
    """The instructions that this machine has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not on every system
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


def _cache() -> Path:
    if named := os.environ.get("QRELAY_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qrelay"


def _run(command: list[str], cwd: Path, what: str, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise BuildError(f"{what}: {command[0]} was not found") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{what} took more than 15 minutes; is the machine short of memory?") from None
    if done.returncode:
        raise BuildError(f"{what} failed with exit code {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")


def _station_verilog(chains: bool) -> str:
    from amaranth.back import verilog  # elaboration is only needed where the cache has nothing
    from amaranth.hdl import ClockDomain, Module, Value

    from qrelay_gateware.block_clocks import GATED_BLOCKS

    from .identity import TWIN_FACTS, TWIN_TDC_FACTS
    from .pins import PinnedStation

    # Registers start from their initial values, as after configuration of an FPGA. A reset input would make the next
    # value of every register depend on an input, and the simulation would compute them twice per clock.
    station = PinnedStation(TWIN_TDC_FACTS if chains else TWIN_FACTS)
    top = Module()
    clocks = [ClockDomain(name, reset_less=True) for name in ("sync", *GATED_BLOCKS, *(("gear",) if chains else ()))]
    top.domains += clocks
    top.submodules.station = station
    ports = [domain.clk for domain in clocks]
    ports += [Value.cast(value) for _, _, value in station.signature.flatten(station)]
    return str(verilog.convert(top, name="station", ports=ports, emit_src=False, strip_internal_attrs=True))


def _build(out: Path, progress: Progress, chains: bool) -> None:
    verilator = _package("verilator")
    with tempfile.TemporaryDirectory(prefix="qrelay-twin-") as folder:
        work = Path(folder)
        progress("twin: writing the station's Verilog")
        (work / "station.v").write_text(_station_verilog(chains))
        for name in ("harness.cpp", "chain.h", "sdram.h"):
            shutil.copy(Path(__file__).with_name(name), work)
        progress("twin: Verilator")
        environment = os.environ | {"VERILATOR_ROOT": str(verilator)}
        binary = str(verilator / "bin" / "verilator_bin")
        _run([binary, *_VERILATOR_FLAGS, "-Mdir", "obj", "station.v"], work, "Verilator", environment)
        progress(f"twin: compiling with {_compiler_name()} (once; cached afterwards)")
        library = _compile(work, verilator / "include", chains)
        partial = out.with_suffix(f".{os.getpid()}.part")
        try:
            shutil.copy(library, partial)
            partial.replace(out)  # atomic: two starts at once end with one whole file
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise _no_cache(out.parent, error) from error


def _compile(work: Path, include: Path, chains: bool) -> Path:
    """Compile what Verilator wrote, and the harness, as many files at once as there are processors."""
    # The longest first, so that none of them is alone at the end.
    sources = sorted((work / "obj").glob("*.cpp"), key=lambda source: source.stat().st_size, reverse=True)
    sources += [work / "harness.cpp", *(include / name for name in ("verilated.cpp", "verilated_threads.cpp"))]
    flags = [*_COMPILER_FLAGS, *_FOR_THIS_PROCESSOR, *(("-DQRELAY_TDC",) if chains else ())]
    flags += [f"-I{work / 'obj'}", f"-I{include}", f"-I{include / 'vltstd'}"]

    def compile_one(source: Path) -> str:
        level = _SLOW_LEVEL if source.stem.endswith("__Slow") else _FAST_LEVEL
        made = str(work / f"{source.stem}.o")
        _run([*compiler(), *flags, level, "-c", str(source), "-o", made], work, "compiler")
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = work / "station.so"
    _run([*compiler(), "-shared", *objects, "-o", str(library), "-lpthread"], work, "linker")
    return library


def _no_cache(folder: Path, error: OSError) -> BuildError:
    return BuildError(
        f"the compiled twin cannot be kept in {folder} ({error.strerror}); free some space, or set QRELAY_CACHE to a "
        "folder that can be written"
    )


@contextmanager
def _only_one(lock: Path, progress: Progress) -> Iterator[None]:
    """Let one process build at a time: the next finds the library ready. Where files have no locks, both build."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        opened = lock.open("w")
    except OSError as error:
        raise _no_cache(lock.parent, error) from error
    with opened as file:
        try:
            import fcntl  # not on every system
        except ImportError:
            pass
        else:
            said = False
            while True:
                # Asked again and again: a signal just before a wait without an end would not end it.
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not said:
                        progress("twin: waiting for another process that compiles it")
                    said = True
                    time.sleep(_LOCK_POLL_S)
        yield


def build_library(progress: Progress = lambda _: None, *, chains: bool = False) -> ctypes.CDLL:
    """Load the station library, building it first where the cache has none.

    Parameters
    ----------
    progress : called with a line of text at each step of a build.
    chains : of a station with carry chains at its detectors.

    Raises
    ------
    BuildError
        A tool is missing or failed, or the cache cannot be used; the message says which and what to do.
    """
    path = _cache() / f"station{'-tdc' if chains else ''}-{source_fingerprint()}.so"
    if not path.exists():
        with _only_one(path.with_suffix(".lock"), progress):
            if not path.exists():
                _build(path, progress, chains)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{error}; delete this file, and the next start compiles it anew") from error
