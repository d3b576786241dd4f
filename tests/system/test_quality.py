"""The code is linted, formatted and typed; the package builds; the ground floor needs nothing."""

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("qrelay", "qrelay_gateware", "qrelay_sim", "qrelay_boards")


def run(*command: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Wheel and sdist of the package; the wheel is built from the sdist."""
    folder = tmp_path_factory.mktemp("distributions")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_wheel_and_sdist_hold_all_packages(distributions):
    names = zipfile.ZipFile(distributions["wheel"]).namelist()
    for package in PACKAGES:
        assert f"{package}/__init__.py" in names
    assert "qrelay_sim/twin/harness.cpp" in names
    assert distributions["sdist"].exists()


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_installed_package_needs_no_checkout(distributions, tmp_path, kind):
    """Installed without an index into an environment that has the dependencies of this one, but not the checkout."""
    venv.create(tmp_path / "venv", symlinks=True)
    python, qrelay = (tmp_path / "venv" / "bin" / name for name in ("python", "qrelay"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def clean(*command: object) -> str:
        done = run(*map(str, command), cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    site_packages = clean(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # A path in a .pth file comes after the environment's own packages, and .pth files behind it are not followed: an
    # editable installation of the checkout is not seen.
    present = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(site_packages) / "dependencies.pth").write_text("\n".join(present) + "\n")
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    clean(sys.executable, "-m", "pip", "--python", python, "install", *options, distributions[kind])

    found = clean(python, "-c", f"import {', '.join(PACKAGES)}; print({', '.join(f'{p}.__file__' for p in PACKAGES)})")
    assert found.split() == [f"{site_packages}/{package}/__init__.py" for package in PACKAGES]
    assert "Example: qrelay demo" in clean(qrelay, "--help")
    assert "Example: qrelay info" in clean(qrelay, "info", "--help")
    assert clean(qrelay, "run", "--template") == (ROOT / "host" / "qrelay" / "demo.toml").read_text()
    preset = ROOT / "sim" / "qrelay_sim" / "presets" / "A.toml"
    assert clean(qrelay, "keyrate", "--template") == preset.read_text()
    key = "from qrelay_sim.twin.native import source_fingerprint; print(source_fingerprint())"
    assert clean(python, "-c", key) == run(sys.executable, "-c", key).stdout
