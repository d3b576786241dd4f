"""From what Verilator wrote to a native library: the C++ compiler, and the run that shows it where time goes."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["COMPILER_FLAGS", "BuildError", "Progress", "compile_library", "compiler", "run_tool"]

Progress = Callable[[str], None]

_FOR_THIS_PROCESSOR = ("-march=native",) if platform.machine() in ("x86_64", "AMD64") else ()
"""An eighth faster. A library in a cache that several machines mount is of those with the same processor."""
COMPILER_FLAGS = (
    "-std=c++17",
    "-fPIC",
    "-DVL_IGNORE_UNKNOWN_ARCH",
    "-DVERILATOR=1",
    "-fno-semantic-interposition",
    "-fno-sanitize=undefined",  # which Zig asks for where nothing is optimised
    *_FOR_THIS_PROCESSOR,
)
_FAST_LEVEL, _SLOW_LEVEL = "-O2", "-O0"
"""Verilator keeps apart what runs only once, which takes the compiler longest to optimise."""
# Threads count without regard to each other, so counts may disagree a little.
_BY_PROFILE = ("-fprofile-correction", "-Wno-missing-profile", "-Wno-coverage-mismatch")


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


def _is_gcc() -> bool:
    """GCC alone profiles with nothing but itself; others need a tool that turns counts into a profile."""
    return "Free Software Foundation" in run_tool([*compiler(), "--version"], Path.cwd(), "compiler")


def run_tool(command: Sequence[str], cwd: Path, what: str, environment: dict[str, str] | None = None) -> str:
    """Run a tool to its end and return what it printed. Raises BuildError if it is missing, fails or takes too long."""
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
    return done.stdout


def compile_library(
    work: Path,
    include: Path,
    progress: Progress,
    *,
    defines: Sequence[str] = (),
    train: Callable[[Path], None] | None = None,
) -> Path:
    """Compile what Verilator wrote in `work`/obj, and the harness beside it; return the library.

    Parameters
    ----------
    work : folder with harness.cpp and obj; all that is made goes there.
    include : Verilator's own sources.
    progress : called with a line of text at each step.
    defines : further flags.
    train : given a library that counts which ways it takes, runs what a user would, in a process of its own. The
        library is then compiled again by these counts, a fifth faster. Left out where the compiler is not GCC.

    Raises
    ------
    BuildError
        The compiler is missing or failed. A training that fails only leaves the counts out.
    """
    # The longest first, so that none of them is alone at the end.
    sources = sorted((work / "obj").glob("*.cpp"), key=lambda source: source.stat().st_size, reverse=True)
    sources += [work / "harness.cpp", *(include / name for name in ("verilated.cpp", "verilated_threads.cpp"))]
    once = [source for source in sources if source.stem.endswith("__Slow")]
    often = [source for source in sources if source not in once]
    flags = [*COMPILER_FLAGS, *defines, f"-I{work / 'obj'}", f"-I{include}", f"-I{include / 'vltstd'}"]

    def compile_all(sources: Sequence[Path], *more: str) -> list[str]:
        def compile_one(source: Path) -> str:
            made = str(work / f"{source.stem}.o")
            run_tool([*compiler(), *flags, *more, "-c", str(source), "-o", made], work, "compiler")
            return made

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_one, sources))

    def link(objects: Sequence[str], name: str, *more: str) -> Path:
        library = work / name
        run_tool([*compiler(), *more, "-shared", *objects, "-o", str(library), "-lpthread"], work, "linker")
        return library

    progress(f"twin: compiling with {_compiler_name()} (once; cached afterwards)")
    profile: tuple[str, ...] = ()
    if train is not None and _is_gcc():
        counted = f"-fprofile-generate={work / 'profile'}"
        seldom = compile_all(once, _SLOW_LEVEL)
        objects = compile_all(often, _FAST_LEVEL, counted) + seldom
        progress("twin: a short run, to see where its time goes")
        try:
            train(link(objects, "counting.so", counted))
        except BuildError as error:
            progress(f"twin: that run failed, so the compiler has to guess: {str(error).splitlines()[-1]}")
            progress("twin: compiling again without")
        else:
            progress("twin: compiling again by what was seen")
            profile = (f"-fprofile-use={work / 'profile'}", *_BY_PROFILE)
    else:
        seldom = compile_all(once, _SLOW_LEVEL)
    return link(compile_all(often, _FAST_LEVEL, *profile) + seldom, "station.so")
