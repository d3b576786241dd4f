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
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qrelay.extras import how_to_get
from qrelay.twin_settings import PAD_WORDS

from . import compilation
from .compilation import BuildError, Progress

__all__ = ["BuildError", "build_library", "source_fingerprint"]

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
_LOCK_POLL_S = 0.1
_TRAINING_SLOTS = 2_000_000


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
    for name in ("native.py", "compilation.py", "harness.cpp", "chain.h", "sdram.h", "identity.py", "pins.py"):
        digest.update(Path(__file__).with_name(name).read_bytes())
    for distribution in ("amaranth", "verilator"):
        try:
            digest.update(importlib.metadata.version(distribution).encode())
        except importlib.metadata.PackageNotFoundError:
            raise BuildError(f"package {distribution} is missing; {how_to_get('gateware')}") from None
    digest.update(str(PAD_WORDS).encode())  # goes into the identity block of stations with carry chains
    flags = [*_VERILATOR_FLAGS, *compilation.COMPILER_FLAGS]
    digest.update(" ".join([*flags, *compilation.compiler(), _processor()]).encode())
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


def _library_name(chains: bool) -> str:
    return f"station{'-tdc' if chains else ''}-{source_fingerprint()}.so"


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
        compilation.run_tool([binary, *_VERILATOR_FLAGS, "-Mdir", "obj", "station.v"], work, "Verilator", environment)
        library = compilation.compile_library(
            work,
            verilator / "include",
            progress,
            defines=("-DQRELAY_TDC",) if chains else (),
            # With chains most of the time is that of their model.
            train=None if chains else _train,
        )
        partial = out.with_suffix(f".{os.getpid()}.part")
        try:
            shutil.copy(library, partial)
            partial.replace(out)  # atomic: two starts at once end with one whole file
        except OSError as error:
            with suppress(OSError):
                partial.unlink()
            raise _no_cache(out.parent, error) from error


def _train(counting: Path) -> None:
    """Let a short demonstration run on a library that counts, in a process whose end writes the counts."""
    cache = counting.with_name("cache")
    cache.mkdir()
    shutil.copy(counting, cache / _library_name(chains=False))
    command = [sys.executable, "-P", "-m", "qrelay", "demo", "--slots", str(_TRAINING_SLOTS), "--json"]
    environment = os.environ | {"QRELAY_CACHE": str(cache)}
    compilation.run_tool([*command, "--output", str(cache)], Path.cwd(), "the training run", environment)


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
    path = _cache() / _library_name(chains)
    if not path.exists():
        with _only_one(path.with_suffix(".lock"), progress):
            if not path.exists():
                _build(path, progress, chains)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"{error}; delete this file, and the next start compiles it anew") from error
