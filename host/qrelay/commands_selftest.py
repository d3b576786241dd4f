"""What `qrelay selftest` does."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import tdc_board
from .bench import start_twin
from .board import Board
from .commands_calibrate import print_figures
from .config import STATIONS, RunConfig, load_config, parse_config
from .demo_config import demo_text
from .errors import ConfigError, RunError
from .json_output import print_json
from .loopback import PairReport, loop_back
from .protocol.registers import DETECTORS, LINES
from .protocol.units import DEFAULT_SLOT_RATE_HZ, FINES_PER_SLOT, fines_to_ps
from .tdc_offsets import KeptOffsets, kept_offsets
from .twin_settings import LoopBack

__all__ = ["parse_wires", "selftest"]

_TWIN_ROUNDS = (tuple(range(DETECTORS)), tuple(range(LINES - DETECTORS, LINES)))
"""Lines wired to the detectors of a simulated board, round by round: every line is seen once."""


_CAPTION = "wire: output line to detector; lag in slots, from the line's place in the slot counter to the click"


def parse_wires(texts: Sequence[str]) -> dict[int, int]:
    """Line by detector from texts ``LINE:DETECTOR``. Raises ConfigError naming the one that is wrong."""
    wires: dict[int, int] = {}
    for text in texts:
        line, _, detector = text.partition(":")
        if not (line.isdecimal() and detector.isdecimal() and int(line) < LINES and int(detector) < DETECTORS):
            raise ConfigError(
                f"--wire {text}: give LINE:DETECTOR with line 0 to {LINES - 1} and detector 0 to {DETECTORS - 1}, "
                "such as 3:0"
            )
        if int(detector) in wires:
            raise ConfigError(f"--wire {text}: detector {detector} has a wire already; give one line for each")
        wires[int(detector)] = int(line)
    return wires


@dataclass
class _Findings:
    """Of the stations tested, by name: loop-back trials, and for those with carry chains figures and offsets."""

    subtract: bool
    bitstream: Path | None
    reports: dict[str, list[PairReport]] = field(default_factory=dict)
    chains: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """By station and detector."""
    simulated: dict[str, bool] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    """Where the figures of `chains` come from."""
    offsets: dict[str, KeptOffsets | None] = field(default_factory=dict)
    """None: none were kept, or they were not to be taken."""

    def test(self, name: str, board: Board, wires: Mapping[int, int], cable_fines: int) -> None:
        """Calibrate the carry chains of a station, as hits mean nothing before, and run the trials."""
        if tdc_board.chained_detectors(board):
            self.offsets[name] = kept_offsets(board.identity, self.bitstream) if self.subtract else None
            found = tdc_board.measure(board, progress=lambda text: print(text, file=sys.stderr, flush=True))
            self.simulated[name], self.provenance[name] = tdc_board.simulated(board), tdc_board.provenance(board)
            self.chains[name] = {str(detector): tdc_board.report(one) for detector, one in found.items()}
        kept = self.offsets.get(name)
        offsets = None if kept is None else kept.offsets
        reports = loop_back(board, wires, cable_fines=cable_fines, offsets=offsets)
        self.reports[name] = self.reports.get(name, []) + reports


def selftest(
    where: str | None,
    *,
    wires: Sequence[str],
    cable_ns: float,
    stations: Sequence[str],
    subtract: bool = True,
    bitstream: Path | None = None,
    as_json: bool,
) -> int:
    """Test stations whose lines are wired to their own detectors; return the exit code."""
    wanted = parse_wires(wires)
    findings = _Findings(subtract, bitstream)
    cable_fines = round(cable_ns * 1e-9 * float(DEFAULT_SLOT_RATE_HZ) * FINES_PER_SLOT)
    for name in stations:
        if name not in STATIONS:
            raise ConfigError(f"--station {name}: there are {', '.join(STATIONS)}")
    if where is not None and not Path(where).is_file():
        if stations:
            raise ConfigError(f"--station {stations[0]}: a URL is one station; give a run file to choose from its four")
        with Board.open(where) as board:
            findings.test(where, board, wanted, cable_fines)
    else:
        config = parse_config(demo_text(), "demo") if where is None else load_config(where)
        chosen = tuple(stations) or STATIONS
        if config.simulated:
            _simulated(findings, config, wanted, cable_fines, chosen)
        else:
            for name in chosen:
                with Board.open(config.stations.urls()[name]) as board:
                    findings.test(name, board, wanted, cable_fines)
    return _show(findings, as_json=as_json)


def _simulated(
    findings: _Findings, config: RunConfig, wanted: Mapping[int, int], cable_fines: int, stations: Sequence[str]
) -> None:
    """Simulated boards with the run file's wires, or with each line in its turn if it has none."""
    if config.twin.engine == "fast":
        raise ConfigError("twin.engine = 'fast' runs no gateware that could be tested; set engine = 'rtl'")
    given = config.twin.loop_back
    for lines in _TWIN_ROUNDS if given is None else (given.lines,):
        wiring = given or LoopBack.model_validate({"lines": lines})
        wires = dict(wanted) or {detector: line for detector, line in enumerate(lines) if line >= 0}
        wired = config.model_copy(update={"twin": config.twin.model_copy(update={"loop_back": wiring})})
        with start_twin(wired, lambda text: print(text, file=sys.stderr)) as twin:
            for name in stations:
                with Board.open(twin.urls[name], timeout_s=2.0) as board:
                    findings.test(name, board, wires, cable_fines)


def _show(findings: _Findings, *, as_json: bool) -> int:
    found, chains = findings.reports, findings.chains
    kept = {name: None if offsets is None else offsets.plain() for name, offsets in findings.offsets.items()}
    reports = [report for of_station in found.values() for report in of_station]
    failed = [(name, report) for name, of_station in found.items() for report in of_station if not report.passed]
    if as_json:
        document: dict[str, Any] = {
            "passed": not failed and bool(reports),
            "loop_back": {name: [_plain(report) for report in of_station] for name, of_station in found.items()},
        }
        if chains:
            document |= {
                "tdc": chains,
                "tdc_simulated": findings.simulated,
                "tdc_provenance": findings.provenance,
                "tdc_offsets": kept,
                "subtract_tdc_offsets": findings.subtract,
            }
        print_json(document)
    else:
        for name, detectors in chains.items():
            print(f"Carry chains of {name}, {findings.provenance[name]}")
            print_figures(detectors)
            print(f"Offsets of {name}: {_offsets_text(kept[name], findings.subtract)}")
        _print(found)
    if not reports:
        raise RunError("nothing was tested: no line is wired to a detector")
    if failed:
        name, report = failed[0]
        raise RunError(
            f"{len(failed)} of {len(reports)} trials failed, the first at station {name}: {_reason(report)}; "
            "check cables and --cable-ns, then gearbox alignment"
        )
    return 0


def _offsets_text(kept: dict[str, Any] | None, subtract: bool) -> str:
    if kept is None:
        return (
            "none are kept; measure with `qrelay calibrate --bitstream FILE --wire`" if subtract else "not subtracted"
        )
    each = ", ".join(f"detector {d} {entry['fines']:+.2f} fines" for d, entry in kept["detectors"].items())
    return f"subtracted, {each} (bitstream {kept['bitstream_sha256'][:12]}, {kept['date']})"


def _plain(report: PairReport) -> dict[str, Any]:
    return {**asdict(report), "slip_slots": report.slip_slots, "passed": report.passed}


def _reason(report: PairReport) -> str:
    if report.line is None:
        wanted = "a line" if report.wanted_line is None else f"line {report.wanted_line}"
        return f"detector {report.detector} does not see {wanted} ({report.seen} clicks)"
    where = f"line {report.line} to detector {report.detector}, {report.trial}"
    if report.wanted_line not in (None, report.line):
        return f"detector {report.detector} sees line {report.line}, not line {report.wanted_line}"
    if report.missing or report.extra:
        return f"{where}: {report.missing} edges missing, {report.extra} too many"
    limit = report.limit_fines / FINES_PER_SLOT
    return f"{where}: {report.slip_slots:+g} slots off, allowed are less than {limit:g}"


def _print(found: Mapping[str, list[PairReport]]) -> None:
    console = Console()
    for name, reports in found.items():
        table = Table(
            "wire",
            "trial",
            "edges seen",
            "extra",
            "lag",
            "off by",
            "result",
            title=f"Loop-back of {name}",
            caption=_CAPTION,
        )
        for report in reports:
            lag = "-" if report.measured_lag_fines is None else f"{report.measured_lag_fines / FINES_PER_SLOT:g}"
            slip = report.slip_slots
            off = "-" if slip is None else f"{fines_to_ps(slip * FINES_PER_SLOT):+.0f} ps"
            table.add_row(
                f"line {'-' if report.line is None else report.line} to {report.detector}",
                report.trial,
                f"{report.sent - report.missing} of {report.sent}",
                str(report.extra),
                lag,
                off,
                "ok" if report.passed else "FAILED",
            )
        console.print(table)
        for report in reports:
            if not report.passed:
                console.print(f"{name}: {_reason(report)}", highlight=False)
