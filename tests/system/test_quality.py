"""The code is linted, formatted and typed; the package builds; the ground floor needs nothing."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=["lint", "format"])
def test_ruff_is_clean(arguments):
    done = run(sys.executable, "-m", "ruff", *arguments, "host", "gateware", "sim", "boards", "tests")
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_strict_is_clean():
    done = run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_protocol_is_pure_python():
    script = (
        "import sys; import qrelay.protocol;"
        "foreign = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'qrelay', '__main__'};"
        "print(sorted(m for m in foreign if not m.startswith('_')))"
    )
    done = run(sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'host')!r}); {script}")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_host_imports_neither_gateware_nor_simulation():
    script = (
        "import sys, qrelay.cli, qrelay.board, qrelay.run;"
        "print([m for m in sys.modules if m.startswith(('amaranth', 'qrelay_'))])"
    )
    assert run(sys.executable, "-c", script).stdout.strip() == "[]"


def test_wheel_and_sdist_hold_all_packages(tmp_path):
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for package in ("qrelay", "qrelay_gateware", "qrelay_sim", "qrelay_boards"):
        assert f"{package}/__init__.py" in names
    assert "qrelay_sim/twin/harness.cpp" in names
    assert list(tmp_path.glob("*.tar.gz"))
