"""What decides how the twin's library is built, where it is kept and what a user reads where it cannot be built.

Nothing is compiled here: the tools are replaced by a stand-in that writes down its commands.
"""

import ast
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import qrelay.bench
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.errors import RunError
from qrelay_sim.twin import compilation, native
from qrelay_sim.twin.compilation import BuildError, compiler
from qrelay_sim.twin.native import build_library, source_fingerprint

TWIN = Path(native.__file__).parent


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a system compiler: $CXX unset, and a PATH with nothing on it."""
    monkeypatch.delenv("CXX", raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def ziglang(monkeypatch):
    """Lets the `ziglang` package be there or not, whatever this machine has: `ziglang(False)`."""
    find = importlib.util.find_spec

    def set_presence(there):
        spec = importlib.util.spec_from_loader("ziglang", None)
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, package=None: (spec if there else None) if name == "ziglang" else find(name, package),
        )

    return set_presence


@pytest.fixture
def tools(monkeypatch, tmp_path):
    """Stand-in for Amaranth, Verilator, the compiler and the loader, with an empty cache: a list of commands."""
    commands = []

    def run(command, cwd, what, environment=None):
        if "--version" in command:
            return "clang version 99.0"
        commands.append(command)
        if "-o" in command:
            Path(command[command.index("-o") + 1]).write_bytes(b"a library")
        return ""

    monkeypatch.setattr(compilation, "run_tool", run)
    monkeypatch.setattr(native, "_station_verilog", lambda chains: "module station; endmodule\n")
    monkeypatch.setattr(native, "ctypes", SimpleNamespace(CDLL=Path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # a fault must not reach the cache of who runs the tests
    monkeypatch.setenv("QRELAY_CACHE", str(tmp_path / "cache"))
    return commands


# -- the compiler ----------------------------------------------------------------------------------------------------


def test_no_compiler_says_how_to_get_one(no_compiler, ziglang, tools, tmp_path):
    """Both where the library is built and where a run starts; nothing is left in the cache."""
    ziglang(False)
    said = (
        "no C\\+\\+ compiler found for the digital twin; install one .*apt-get install g\\+\\+.* `pip install ziglang`"
    )
    with pytest.raises(BuildError, match=said):
        build_library()
    with pytest.raises(RunError, match=f"the digital twin does not start: {said}"):
        qrelay.bench.start_twin(parse_config(demo_text()), lambda text: None)
    assert not (tmp_path / "cache").exists()


def test_the_command_says_it_in_one_line(tmp_path):
    """A process with $CXX naming no program: exit code 1 and one line."""
    environment = os.environ | {"CXX": "no-such-compiler -g", "QRELAY_CACHE": str(tmp_path)}
    command = (sys.executable, "-m", "qrelay", "demo", "--slots", "8", "--output", str(tmp_path / "runs"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: the digital twin does not start: CXX names the compiler 'no-such-compiler', which was not found; "
        "correct CXX or leave it unset\n"
    )


def test_without_a_system_compiler_the_ziglang_package_compiles(no_compiler, ziglang, tools):
    ziglang(True)
    assert compiler() == [sys.executable, "-m", "ziglang", "c++"]
    said = []
    build_library(said.append)
    assert tools[-1][:4] == compiler()
    # Where nothing is optimised, Zig else stops the twin at what Verilator relies on.
    assert all("-fno-sanitize=undefined" in command for command in tools if "-c" in command)
    assert said[-1] == "twin: compiling with ziglang (once; cached afterwards)"


def test_a_system_compiler_goes_before_ziglang_and_cxx_before_both(no_compiler, ziglang, monkeypatch, tmp_path):
    ziglang(True)
    for name in ("c++", "clang++", "g++"):
        path = tmp_path / "bin" / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        assert compiler() == [str(path)]
    monkeypatch.setenv("CXX", " c++  -pipe ")
    assert compiler() == ["c++", "-pipe"]
    monkeypatch.setenv("CXX", " ")
    assert compiler() == [str(tmp_path / "bin" / "g++")]


# -- the profile -----------------------------------------------------------------------------------------------------


@pytest.fixture
def gcc(tools, monkeypatch):
    """The stand-in says that it is GCC, and compiles two files of Verilator's: one for each clock, one for once."""
    run = compilation.run_tool

    def gcc_run(command, cwd, what, environment=None):
        if "--version" in command:
            return "g++ 99.0\nCopyright (C) Free Software Foundation, Inc."
        if what == "Verilator":
            (cwd / "obj").mkdir()
            for name in ("Vstation__0.cpp", "Vstation__0__Slow.cpp"):
                (cwd / "obj" / name).write_text("")
        if what == "the training run":
            (library,) = Path(environment["QRELAY_CACHE"]).glob("*.so")
            assert library.name == f"station-{source_fingerprint()}.so"  # which that run will find, and not build
            assert library.read_bytes() == b"a library"
        return run(command, cwd, what, environment)

    monkeypatch.setattr(compilation, "run_tool", gcc_run)
    return tools


def _profiled(commands, flag):
    """Files that are compiled with a flag of the profile, by their names."""
    found = [command for command in commands if "-c" in command and any(part.startswith(flag) for part in command)]
    return sorted(Path(command[command.index("-c") + 1]).name for command in found)


def test_gcc_compiles_by_the_counts_of_a_short_run(gcc):
    """What runs at each clock is compiled twice, what runs once is not; both libraries are linked with all of it."""
    said = []
    build_library(said.append)
    often = ["Vstation__0.cpp", "harness.cpp", "verilated.cpp", "verilated_threads.cpp"]
    assert _profiled(gcc, "-fprofile-generate=") == _profiled(gcc, "-fprofile-use=") == often
    slow = [command for command in gcc if "-c" in command and "-O0" in command]
    assert [Path(command[command.index("-c") + 1]).name for command in slow] == ["Vstation__0__Slow.cpp"]
    linked = [command for command in gcc if "-shared" in command]
    assert [sum(part.endswith(".o") for part in command) for command in linked] == [5, 5]
    places = [
        next(i for i, command in enumerate(gcc) if any(part.startswith(flag) for part in command))
        for flag in ("-fprofile-generate=", "demo", "-fprofile-use=")
    ]
    assert places == sorted(places)
    assert said[3:] == ["twin: a short run, to see where its time goes", "twin: compiling again by what was seen"]


def test_a_short_run_that_fails_leaves_the_profile_out(gcc, monkeypatch):
    run = compilation.run_tool

    def fail_to_train(command, cwd, what, environment=None):
        if what == "the training run":
            raise BuildError("the training run failed with exit code 1:\nmuch more")
        return run(command, cwd, what, environment)

    monkeypatch.setattr(compilation, "run_tool", fail_to_train)
    said = []
    assert build_library(said.append).read_bytes() == b"a library"
    assert _profiled(gcc, "-fprofile-use=") == []
    assert said[4:] == [
        "twin: that run failed, so the compiler has to guess: much more",
        "twin: compiling again without",
    ]


def test_with_chains_nothing_is_counted(gcc):
    build_library(chains=True)
    assert _profiled(gcc, "-fprofile") == []


# -- the key of the cache --------------------------------------------------------------------------------------------


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """Copies of what the key covers, to be changed."""
    for package, folder in (("qrelay_gateware", "gateware/qrelay_gateware"), ("qrelay.protocol", "protocol")):
        found = importlib.util.find_spec(package)
        shutil.copytree(Path(found.origin).parent, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TWIN, tmp_path / "twin", ignore=shutil.ignore_patterns("__pycache__"))
    folders = {"qrelay_gateware": tmp_path / "gateware/qrelay_gateware", "qrelay.protocol": tmp_path / "protocol"}
    monkeypatch.setattr(native, "_package", folders.__getitem__)
    monkeypatch.setattr(native, "__file__", str(tmp_path / "twin" / "native.py"))
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        *("gateware/qrelay_gateware/station.py", "protocol/registers.py", "twin/native.py", "twin/harness.cpp"),
        *("twin/chain.h", "twin/sdram.h", "twin/identity.py", "twin/pins.py", "twin/compilation.py"),
    ],
)
def test_a_changed_source_has_another_key(sources, name):
    """One byte more in any of the sources; the place of the sources and their dates make no difference."""
    before = source_fingerprint()
    path = sources / name
    content = path.read_bytes()
    path.write_bytes(content + b"\n")
    assert source_fingerprint() != before
    path.write_bytes(content)
    os.utime(path, (1, 1))
    assert source_fingerprint() == before


def test_a_renamed_a_new_and_a_missing_source_have_other_keys(sources):
    keys = [source_fingerprint()]
    path = sources / "gateware/qrelay_gateware/uart.py"
    moved = path.rename(path.with_name("vart.py"))
    keys.append(source_fingerprint())
    moved.unlink()
    keys.append(source_fingerprint())
    path.write_text("")
    keys.append(source_fingerprint())
    assert len(set(keys)) == len(keys)


def test_copied_sources_have_the_key_of_the_originals(request):
    original = source_fingerprint()
    request.getfixturevalue("sources")
    assert source_fingerprint() == original


@pytest.mark.parametrize(
    "setting", ["amaranth", "verilator", "compiler", "compiler flag", "verilator flag", "pads", "processor"]
)
def test_other_tools_flags_and_pads_have_another_key(monkeypatch, setting):
    before = source_fingerprint()
    version = importlib.metadata.version
    if setting in ("amaranth", "verilator"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "99.0" if name == setting else version(name))
    elif setting == "compiler":
        monkeypatch.setattr(compilation, "compiler", lambda: ["another"])
    elif setting == "pads":
        monkeypatch.setattr(native, "PAD_WORDS", native.PAD_WORDS + 1)
    elif setting == "processor":
        monkeypatch.setattr(native, "_processor", lambda: "flags : sse")
    else:
        module, name = (compilation, "COMPILER_FLAGS") if setting == "compiler flag" else (native, "_VERILATOR_FLAGS")
        monkeypatch.setattr(module, name, (*getattr(module, name), "-g"))
    assert source_fingerprint() != before


def test_everything_the_stations_are_made_of_is_under_the_key():
    """Gateware, protocol and pins import nothing of this project that the key does not cover."""
    folders = [Path(importlib.util.find_spec(name).origin).parent for name in ("qrelay_gateware", "qrelay.protocol")]
    paths = [path for folder in folders for path in folder.rglob("*.py")]
    outside = set()
    for path in [*paths, TWIN / "identity.py", TWIN / "pins.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                outside |= {(alias.name, "*") for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level < 2, f"{path} imports from outside its package"
                outside |= {(node.module, alias.name) for alias in node.names if node.level == 0}
    project = {(module, name) for module, name in outside if module.startswith("qrelay")}
    assert len(project) > 20
    covered = ("qrelay_gateware.", "qrelay.protocol")
    assert {pair for pair in project if not pair[0].startswith(covered)} == {("qrelay.twin_settings", "PAD_WORDS")}


def test_a_missing_tool_is_named(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(BuildError, match=r"package amaranth is missing; install the extra 'gateware': pip install"):
        source_fingerprint()


# -- the cache -------------------------------------------------------------------------------------------------------


def test_the_library_is_built_once_and_kept_in_the_named_folder(tools, tmp_path):
    said = []
    path = build_library(said.append)
    assert path == tmp_path / "cache" / f"station-{source_fingerprint()}.so"
    assert path.read_bytes() == b"a library"
    assert len(said) == 3
    # Verilator, three files (the stand-in for Verilator writes none), the linker.
    assert len(tools) == 5
    assert sum("-c" in command for command in tools) == 3
    assert build_library(said.append) == path
    assert (len(said), len(tools)) == (3, 5)
    assert build_library(said.append, chains=True) == path.with_name(path.name.replace("station", "station-tdc"))
    assert len(tools) == 10
    assert sum("-DQRELAY_TDC" in command for command in tools) == 3
    assert not list(path.parent.glob("*.part"))


def test_without_a_named_folder_the_users_cache_is_taken(tools, monkeypatch, tmp_path):
    monkeypatch.delenv("QRELAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build_library().parent == tmp_path / "xdg" / "qrelay"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert build_library().parent == tmp_path / "home" / ".cache" / "qrelay"


def test_what_an_ended_build_left_does_no_harm(tools, tmp_path):
    """Half a file of a process with our own number, one of another, and a lock that nobody holds."""
    whole = tmp_path / "cache" / f"station-{source_fingerprint()}.so"
    whole.parent.mkdir()
    own, other = (whole.with_suffix(f".{number}.part") for number in (os.getpid(), 1))
    for path in (own, other, whole.with_suffix(".lock")):
        path.write_bytes(b"half of a library, and longer than a whole one")
    assert build_library() == whole
    assert whole.read_bytes() == b"a library"
    assert not own.exists()


def test_a_library_made_meanwhile_is_taken(tools, monkeypatch, tmp_path):
    """Two starts at once: whoever comes second to the lock finds the first one's library and builds nothing."""
    whole = tmp_path / "cache" / f"station-{source_fingerprint()}.so"
    only_one = native._only_one

    def another_was_first(lock, progress):
        whole.parent.mkdir()
        whole.write_bytes(b"made meanwhile")
        return only_one(lock, progress)

    monkeypatch.setattr(native, "_only_one", another_was_first)
    assert build_library().read_bytes() == b"made meanwhile"
    assert tools == []


def test_a_failed_build_leaves_nothing_that_is_taken_for_a_library(tools, monkeypatch, tmp_path):
    def fail(command, cwd, what, environment=None):
        raise BuildError(f"{what} failed")

    with monkeypatch.context() as patch:
        patch.setattr(compilation, "run_tool", fail)
        with pytest.raises(BuildError, match="Verilator failed"):
            build_library()
    assert not list((tmp_path / "cache").glob("*.so"))
    assert build_library().exists()


def test_a_cache_that_cannot_be_written_is_named(tools, monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("QRELAY_CACHE", str(file / "cache"))
    with pytest.raises(BuildError, match=f"cannot be kept in {file}/cache .*; free some space, or set QRELAY_CACHE to"):
        build_library()
    monkeypatch.setenv("QRELAY_CACHE", str(tmp_path / "full"))

    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        native.shutil, "copy", lambda source, target: full(source, target) if ".so" in str(source) else None
    )
    with pytest.raises(BuildError, match=r"cannot be kept in .*/full \(No space left on device\); free some space"):
        build_library()
    assert [path.suffix for path in (tmp_path / "full").iterdir()] == [".lock"]


def test_a_damaged_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("QRELAY_CACHE", str(tmp_path))
    path = tmp_path / f"station-{source_fingerprint()}.so"
    path.write_bytes(b"")
    with pytest.raises(BuildError, match=f"{path}: .*; delete this file, and the next start compiles it anew"):
        build_library()
