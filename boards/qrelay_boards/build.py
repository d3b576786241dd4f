"""Build a board: one synthesis, one place and route per seed, checks, bitstream and manifest."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from qrelay.protocol import PROTOCOL_HASH
from qrelay_gateware.board_facts import GATEWARE_VERSION, BoardFacts
from qrelay_gateware.station import Station

from .block_check import missing_blocks
from .board import MANIFEST, Block, Board, bitstream_name
from .build_id import build_id, mark_config, stable_names
from .chain_check import broken_chains
from .clock_plan import ClockPlan
from .ecp5_ram_registers import absorb_output_registers, plain_read_ports
from .ecp5_rings import check_rings
from .ecp5_tdc import BLACK_BOX, UNSEAL
from .gear_check import broken_gears
from .seed_runs import default_jobs, run_seeds
from .timing_report import TimingError, TimingReport, check_cells, clock_names, netlist_cells
from .toolchain import run_tool, tool_versions
from .ulpi_pins import USB_HZ

__all__ = ["PLACER", "BuildResult", "best_seed", "build", "resource_table", "worst_margins"]

TOP = "top"
PLACER = ("--placer", "static")
"""Analytic placement: faster here than the default one, and the word clock comes out a fifth faster."""
RESOURCES = {"TRELLIS_COMB": "LUT4", "TRELLIS_FF": "flip-flop", "DP16KD": "block RAM", "MULT18X18D": "multiplier"}
_UNFINISHED = "unfinished-"
PAD_CELLS = ("IOLOGIC", "SIOLOGIC")


@dataclass(frozen=True)
class BuildResult:
    """What a build made. The bitstream is that of `best_seed`."""

    bitstream: Path
    manifest: Path
    plan: ClockPlan
    reports: dict[int, TimingReport]
    """By seed."""
    cells: dict[str, int]
    place_and_route_cpu_seconds: dict[int, float]

    @property
    def margins(self) -> dict[str, tuple[float, int]]:
        """Worst margin of each clock over all seeds, and the seed that gave it."""
        return worst_margins(self.reports)

    def __str__(self) -> str:
        lines = [str(self.plan), "", f"{'clock':<18}{'constraint':>12}{'worst':>12}{'margin':>9}  seed"]
        for clock, (margin, seed) in self.margins.items():
            timing = self.reports[seed].clocks[clock]
            lines.append(
                f"{clock:<18}{timing.constraint_mhz:>8.2f} MHz{timing.achieved_mhz:>8.2f} MHz{margin:>8.2f}x  {seed}"
            )
        lines += ["", resource_table(next(iter(self.reports.values())))]
        return "\n".join(lines)


def build(
    board: Board,
    *,
    out_dir: Path,
    seeds: int = 1,
    free_running: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    jobs: int | None = None,
    station: Callable[[BoardFacts], Any] = Station,
    minimum_cells: dict[str, int] | None = None,
    minimum_blocks: Sequence[Block] | None = None,
) -> BuildResult:
    """Build `board` with seeds 1 to `seeds`, `jobs` of them at once; all must keep the timing rules.

    Raises ClockPlanError, PinError, ToolError, or TimingError with every rule that was broken, of the netlist or of all
    seeds. With a TimingError the reports and a manifest with ``"passed": false`` are written, but no bitstream. What an
    earlier build left of both is removed first.

    By default as many seeds run at once as processors and memory allow. `station` makes the station from its facts;
    `minimum_cells` and `minimum_blocks` are what the netlist must hold in place of the board's rules: for tests of the
    build, whose stations are small.
    """
    if seeds < 1:
        raise ValueError(f"seeds {seeds}: at least one is needed")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    name = bitstream_name(board.name, rings=bool(board.rings), free_running=free_running)
    # Else what is left of an earlier build would pass for the result of this one, should it fail.
    for earlier in (name, MANIFEST):
        (out_dir / earlier).unlink(missing_ok=True)
    with _fresh_folder(out_dir, progress) as folder:
        result = _build(
            board, folder, name, seeds, free_running, progress, jobs, station, minimum_cells, minimum_blocks
        )
    return replace(result, bitstream=out_dir / name, manifest=out_dir / MANIFEST)


@contextmanager
def _fresh_folder(out_dir: Path, progress: Callable[[str], None]) -> Iterator[Path]:
    """A new folder for all that one build writes; in the end, also of a build that fails, its files are in `out_dir`.

    Where a build is killed, its tools go on and write what they were told to. They do so in a folder of that build,
    never into one where a later build works.
    """
    for left in sorted(out_dir.glob(f"{_UNFINISHED}*")):
        progress(f"{left} is left of a build that was killed, or of one that still runs; remove it when no tool does")
    folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out_dir))
    try:
        yield folder
    finally:
        for file in folder.iterdir():
            if file.is_file():
                file.replace(out_dir / file.name)
        shutil.rmtree(folder, ignore_errors=True)


def _build(
    board: Board,
    out_dir: Path,
    name: str,
    seeds: int,
    free_running: bool,
    progress: Callable[[str], None],
    jobs: int | None,
    station: Callable[[BoardFacts], Any],
    minimum_cells: dict[str, int] | None,
    minimum_blocks: Sequence[Block] | None,
) -> BuildResult:
    """As `build`, in a folder where nothing is; the bitstream gets this name."""
    bitstream = out_dir / name
    manifest = out_dir / MANIFEST
    plan = board.clock_plan(free_running)
    for line in str(plan).splitlines():
        progress(line)

    tools = tool_versions()
    identifier, elaborating = _elaborate(board, plan, station, seeds, tools, out_dir, progress)
    seconds = {"synthesis": round(elaborating + _synthesise(board, plan, out_dir, progress), 1)}
    reports: dict[int, TimingReport] = {}
    routed: dict[int, float] = {}

    def keep(broken: list[str], best: int | None = None) -> None:
        """Write the manifest; `best` is the seed of the bitstream, where there is one."""
        used = {} if not reports else reports[best or min(reports)].used
        facts = {
            "passed": not broken,
            "broken_rules": broken,
            "board": board.name,
            "rings": list(board.rings),
            "gateware_version": ".".join(map(str, GATEWARE_VERSION)),
            "protocol_hash": f"{PROTOCOL_HASH:#018x}",
            "clock_plan": plan.facts(),
            "build_id": f"{identifier:016x}",
            "bitstream": None if best is None else bitstream.name,
            "bitstream_sha256": None if best is None else hashlib.sha256(bitstream.read_bytes()).hexdigest(),
            "bitstream_seed": best,
            "tools": tools,
            "seeds": list(reports),
            "cpu_seconds": seconds | {"place_and_route": routed},
            "resources": {kind: {"used": u, "available": a} for kind, (u, a) in used.items()},
            "plain_read_ports": plain,
            "timing": {str(seed): report.facts() for seed, report in reports.items()},
        }
        manifest.write_text(json.dumps(facts, indent=2) + "\n")

    netlist = out_dir / f"{TOP}.json"
    cells = netlist_cells(netlist, board.clock_sources)
    broken = check_cells(cells, board.minimum_cells if minimum_cells is None else minimum_cells, board.pads)
    broken += missing_blocks(netlist, board.blocks if minimum_blocks is None else minimum_blocks)
    broken += broken_gears(netlist, board.geared_outputs, board.geared_inputs)
    broken += check_rings(netlist, board.rings)
    plain = plain_read_ports(netlist)
    if len(plain) > board.plain_read_ports:
        broken.append(
            f"{len(plain)} read ports of block RAMs have no output register, at most {board.plain_read_ports} "
            f"expected: a register must take what they give before all else (they are in plain_read_ports of "
            f"{manifest.name}), or `ecp5_board` must allow more"
        )
    if broken:
        keep(broken)
        raise TimingError("; ".join(broken))

    expected_mhz = _expected_mhz(board, plan)
    names = clock_names(netlist, board.clock_sources)
    failures: dict[int, list[str]] = {}

    def finish(seed: int, cpu_seconds: float) -> None:
        routed[seed] = round(cpu_seconds, 1)
        reports[seed] = report = TimingReport.read(out_dir / f"seed{seed}.report.json", names)
        failures[seed] = _broken(board, plan, report, expected_mhz, seed, out_dir)
        reached = ", ".join(f"{c.clock} {c.achieved_mhz:.1f} MHz ({c.margin:.2f}x)" for c in report.clocks.values())
        left = f"; {len(reports)} of {seeds} seeds done" if seeds > 1 else ""
        verdict = "; breaks rules" if failures[seed] else ""
        progress(f"seed {seed}: {reached}; {routed[seed]:.0f} s of processor time{verdict}{left}")

    jobs = jobs or default_jobs(seeds)
    progress(f"place and route, {seeds} seed{'s' * (seeds > 1)}" + (f", {jobs} at once" if seeds > 1 else ""))
    run_seeds(
        seeds,
        lambda seed, stop: _place_and_route(board, seed, out_dir, stop),
        jobs=jobs,
        log_of=lambda seed: out_dir / f"seed{seed}.log",
        done=finish,
        progress=progress,
    )
    reports = dict(sorted(reports.items()))
    routed = dict(sorted(routed.items()))
    broken += [f"seed {seed}: {sentence}" for seed in reports for sentence in failures[seed]]
    if broken:
        keep(broken)
        raise TimingError(f"{board.name} misses its rules (see {manifest.name}): " + "; ".join(broken))

    best = best_seed(reports)
    progress(f"bitstream, build id {identifier:016x}")
    mark_config(out_dir / f"seed{best}.config", identifier)
    run_tool(
        "ecppack", ["--compress", "--input", f"seed{best}.config", "--bit", bitstream.name], out_dir, "ecppack.log"
    )
    keep(broken, best)
    return BuildResult(bitstream, manifest, plan, reports, cells, routed)


def best_seed(reports: dict[int, TimingReport]) -> int:
    """The seed whose worst clock has the most margin: on the board every clock must hold."""
    return max(reports, key=lambda seed: min(timing.margin for timing in reports[seed].clocks.values()))


def worst_margins(reports: dict[int, TimingReport]) -> dict[str, tuple[float, int]]:
    """Worst margin of each clock over seeds, and the seed that gave it."""
    clocks = next(iter(reports.values())).clocks
    return {clock: min((reports[seed].clocks[clock].margin, seed) for seed in reports) for clock in clocks}


def resource_table(report: TimingReport) -> str:
    """Used and available resources, one a line, the large ones first."""
    kinds = [*RESOURCES, *sorted(set(report.used) - set(RESOURCES))]
    return "\n".join(
        f"{RESOURCES.get(kind, kind):<18}{used:>8} of {available:>6}  {100 * used / available:5.1f} %"
        for kind in kinds
        if kind in report.used
        for used, available in (report.used[kind],)
    )


def _expected_mhz(board: Board, plan: ClockPlan) -> dict[str, float]:
    """Clocks that must be in the report. The edge clock is not: it serves no cell whose timing the tool knows."""
    expected = {
        "word_clock": plan.word_clock_hz,
        "gear_clock": plan.gear_clock_hz,
        "osc_clock": board.oscillator_hz,
    }
    if plan.external:
        expected["reference_clock"] = plan.reference_hz
    if board.wiring.ulpi is not None:
        expected["usb_clock"] = Fraction(USB_HZ)
    return {clock: float(hz) / 1e6 for clock, hz in expected.items()}


def _elaborate(
    board: Board,
    plan: ClockPlan,
    station: Callable[[BoardFacts], Any],
    seeds: int,
    tools: dict[str, str],
    out_dir: Path,
    progress: Callable[[str], None],
) -> tuple[int, float]:
    """Write the design with its build id into `out_dir`; returns the id and the processor time in seconds."""
    began = time.process_time()
    progress("elaboration")
    # Amaranth writes its netlist with its own Yosys; the board classes look for tools only when they build themselves.
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")

    def files(facts: BoardFacts) -> dict[str, str]:
        plan_files = board.platform().prepare(board.top(plan, station(facts)), TOP, debug_verilog=False).files
        contents = {suffix: plan_files[f"{TOP}.{suffix}"] for suffix in ("il", "lpf")}
        return {
            suffix: stable_names(text if isinstance(text, str) else text.decode()) for suffix, text in contents.items()
        }

    facts = board.facts(plan)
    recipe = [board.name, _synthesis(board, plan), f"{seeds} seeds", *_options(board, seeds)]
    identifier = build_id(files(facts), recipe, tools)
    for suffix, text in files(replace(facts, build_id=identifier)).items():
        (out_dir / f"{TOP}.{suffix}").write_text(text)
    return identifier, time.process_time() - began


def _synthesis(board: Board, plan: ClockPlan) -> str:
    """Script of the synthesis tool."""
    external = board.external_synthesis if plan.external else ""
    sealed, unseal = ("read_verilog -lib carry.v; ", f"{UNSEAL}; ") if board.chains else ("", "")
    # Without wide multiplexers: their tables must sit side by side, which costs the word clock more than they save.
    synth = f"synth_ecp5 -top {TOP} -nowidelut"
    # Aliases of nets are removed half way: with them Yosys 0.70 stops at a failed assertion in some of these designs.
    return (
        f"{sealed}read_rtlil {TOP}.il; {synth} -run begin:map_ffs; clean -purge; "
        f"{synth} -run map_ffs:; {external}; {unseal}write_json {TOP}.json"
    )


def _synthesise(board: Board, plan: ClockPlan, out_dir: Path, progress: Callable[[str], None]) -> float:
    progress("synthesis")
    if board.chains:
        (out_dir / "carry.v").write_text(BLACK_BOX)
    script = _synthesis(board, plan)
    tool = run_tool("yosys", ["-q", "-l", "yosys.log", "-p", script], out_dir, "yosys.messages.log")
    began = time.process_time()
    saved = absorb_output_registers(out_dir / f"{TOP}.json")
    progress(f"{saved} flip-flops moved into block RAMs")
    return time.process_time() - began + tool


def _options(board: Board, seed: int) -> list[str]:
    """Arguments of place and route."""
    return [
        *board.device_options,
        *("--json", f"{TOP}.json", "--lpf", f"{TOP}.lpf", "--textcfg", f"seed{seed}.config"),
        # A missed constraint is judged here, together with the crossings, so that all of them are named at once.
        *("--seed", str(seed), "--report", f"seed{seed}.report.json", "--timing-allow-fail"),
        *PLACER,
        # Place and route stops at a loop of look-up tables; in other designs each one is a mistake.
        *(("--ignore-loops",) if board.rings else ()),
        *(("--write", f"seed{seed}.placed.json") if board.chains or board.rings else ()),
    ]


def _place_and_route(board: Board, seed: int, out_dir: Path, stop: threading.Event) -> float:
    return run_tool("nextpnr-ecp5", _options(board, seed), out_dir, f"seed{seed}.log", stop=stop)


def _broken(
    board: Board, plan: ClockPlan, report: TimingReport, expected_mhz: dict[str, float], seed: int, out_dir: Path
) -> list[str]:
    """Sentences on the rules that one seed breaks."""
    broken = list(report.broken(expected_mhz, board.crossings))
    if plan.external and not re.search(board.reference_arc, (out_dir / f"seed{seed}.config").read_text()):
        broken.append("the reference reaches the PLL through the fabric, not from its pad")
    at_pads = sum(report.used[kind][0] for kind in PAD_CELLS if kind in report.used)
    if at_pads < board.pad_cells:
        broken.append(f"{at_pads} gearboxes and flip-flops sit at their pads, at least {board.pad_cells} expected")
    held = (out_dir / f"seed{seed}.log").read_text().count("Hold/min time violation")
    if held:
        broken.append(f"{held} hold violations, see seed{seed}.log")
    placed = out_dir / f"seed{seed}.placed.json"
    if board.chains:
        broken += broken_chains(placed, board.chains, board.clock_sources["gear_clock"])
    if board.rings:
        broken += [f"{sentence}, placed" for sentence in check_rings(placed, board.rings)]
    return broken
