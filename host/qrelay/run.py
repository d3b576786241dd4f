"""Carry out a run: configure, key, arm, start together, collect, stop, keep everything."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

from .alignment import Alignment, align
from .audit import AUDIT_SLOTS, AuditReport, check_audit, disclosed_slots
from .bench import Bench
from .board_sender import BoardSender
from .board_sifting import BoardSifting
from .choice_keys import SENDERS, BoardKey, ChoiceKey, make_board_keys, make_choice_keys
from .collector import Collector
from .conclude import RunOutcome, conclude
from .config import STATIONS, RunConfig
from .configure import audit_slot, configure, detector_trims, sender_steps
from .draw_store import DrawStore
from .emission import SenderPlan
from .errors import ConfigError, LinkError, QrelayError, RunError, RunFolderError
from .frame import FrameLayout
from .histograms import Histograms, enable
from .live_tally import LiveTally, Progress
from .modulation import sender_lines
from .protocol.registers import LINES
from .protocol.status import Alarm, State
from .protocol.units import SLOTS_PER_BLOCK
from .refusals import REFUSALS, why_refused
from .run_folder import RunFolder
from .run_manifest import run_manifest
from .sifting import DrawsChoices
from .tdc_board import closer_hits
from .tdc_offsets import subtract_offsets

__all__ = ["Run", "RunOutcome", "execute"]

_START_LIMIT_S = 20.0
_STANDSTILL_S = 20.0
_POLL_S = 0.05


class Run:
    """One run on an open bench; its methods in order are its life."""

    def __init__(self, config: RunConfig, bench: Bench, folder: RunFolder) -> None:
        self.boards = bench.boards
        self.subtraction = subtract_offsets(config, bench.boards["receiver"].identity)
        self.warnings = self.subtraction.warnings
        self.config = config = self.subtraction.config
        self.folder = folder
        self.layout = FrameLayout.of(config.frame)
        self.alignment: Alignment = align(
            {name: board.identity for name, board in self.boards.items()},
            config.path_delays(),
            slots=config.slots,
            frame_slots=SLOTS_PER_BLOCK if self.layout.uniform else self.layout.slots,
            start_delay_words={str(k): v for k, v in config.stations.start_delay_words.items()},
            trims=detector_trims(config),
        )
        self.keys: dict[str, ChoiceKey] = make_choice_keys(config)
        self.board_senders = {name: self._board_sender(name, key) for name, key in make_board_keys(config).items()}
        self.choices: dict[str, DrawsChoices] = {
            name: self.board_senders[name].store if name in self.board_senders else self.keys[name].choices()
            for name in SENDERS
        }
        self.tally = LiveTally(config, self.choices["alice"], self.choices["bob"])
        self.sifting = BoardSifting(list(self.board_senders.values()), folder, self.tally)
        self.collector = Collector(
            self.boards,
            folder,
            config,
            self.alignment.first_slot,
            self.sifting,
            {name: sender.spans for name, sender in self.board_senders.items()},
        )
        self.start_places: dict[str, int] = {}
        self.counters: dict[str, int] = {}
        self.reference_missed = 0
        wanted = config.histograms
        self.histograms = (
            Histograms(self.boards["receiver"]) if wanted.fine != "off" or wanted.lag is not None else None
        )
        self.audits_missing: dict[str, str] = {}
        """By sender: why there is no audit, though the run was long enough for it."""
        self.trouble: str | None = None
        self.stopped = False
        self.stopped_slot: int | None = None
        """Slot up to which all stations were known to run, if one stopped by itself."""
        self.slots_done = 0
        self.seconds = 0.0
        self._started_at_s = 0.0

    def configure(self) -> None:
        """Load registers, tables and keys of all stations; those that do not get a key from here make their own."""
        for name, key in self.keys.items():
            self.folder.write_secret(f"{name}.choice-key", key.to_json())
        keys: dict[str, ChoiceKey | BoardKey] = {name: sender.key for name, sender in self.board_senders.items()}
        keys |= self.keys
        for name, board in self.boards.items():
            configure(board, name, self.config, self.alignment, keys.get(name))
        wanted = self.config.histograms
        enable(self.boards["receiver"], fine=wanted.fine, lag=wanted.lag)
        for sender in self.board_senders.values():
            sender.prepare(self.folder.log, self.alignment.stations[sender.name].length)
        for name in SENDERS:
            self._wait_for(name, State.KEYSTREAM_READY | State.NONCE_FRESH, "its keystream is not ready")

    def start(self) -> None:
        """Arm all stations and start them together. Raises RunError naming the station that did not follow."""
        for name, board in self.boards.items():
            board.arm()
            self._wait_for(name, State.ARMED, "it does not arm")
        self._started_at_s = time.monotonic()  # before the answers, while slots already pass
        self.boards[self.config.stations.master].start()
        for name, board in self.boards.items():
            self._wait_for(name, State.RUNNING | State.FINISHED, "it did not see the start pulse", any_of=True)
            self.start_places[name] = board.read("timebase.start_place")
            self._check_alarms(name)
        self.folder.log("started", start_places=self.start_places)

    def collect(self, on_progress: Callable[[Progress], None], stop: threading.Event) -> None:
        """Take records until the run is over or `stop` is set. Ends early, with `trouble`, if a station is lost."""
        moved = time.monotonic()
        last_slot = 0
        try:
            while not stop.is_set():
                # Read first: what follows then holds everything up to the end.
                finished = State.FINISHED in self._states()["receiver"]
                self.collector.drain()
                self.sifting.proceed(self.collector, audit_over=self._audit_over())
                slot = self.boards["receiver"].read("timebase.slot_now")
                now = time.monotonic()
                if slot != last_slot:
                    moved, last_slot = now, slot
                self.slots_done = done = max(self.slots_done, slot - self.alignment.first_slot)
                self.seconds = now - self._started_at_s
                self._latch_counters()
                if self.histograms is not None:
                    self.histograms.keep_up()
                clicks = sum(self.counters[f"clicks_{i}"] for i in range(4))
                on_progress(self.tally.progress(min(done, self.config.slots or done), clicks))
                if finished:
                    break
                if now - moved > _STANDSTILL_S:
                    raise RunError(f"the receiver's slot counter stands at {slot} for {_STANDSTILL_S:g} s")
                stop.wait(_POLL_S)
            else:
                self.stopped = True
        except KeyboardInterrupt:
            self.stopped = True
        except (LinkError, RunError, RunFolderError) as error:
            self.trouble = str(error)
            self.folder.log("trouble", message=self.trouble)

    def finish(self) -> dict[str, AuditReport | None]:
        """Stop all stations, take what is left, read final counters and audits. Never raises for a lost station."""
        self._attempt(lambda: self.boards["receiver"].disarm())
        self._attempt(self._read_counters)
        if self.histograms is not None:
            self._attempt(self.histograms.take)
        self._attempt(self.collector.drain_to_the_end)
        self._attempt(lambda: self.sifting.finish(self.collector, audit_over=self._audit_over()))
        audits = {name: self._audit(name) for name in SENDERS} if self.config.audit else {}
        for name in STATIONS:
            self._attempt(self.boards[name].disarm)
        self.sifting.end()
        return audits

    def _board_sender(self, name: str, key: BoardKey) -> BoardSender:
        delay = self.alignment.stations[name].line_delay_slots
        return BoardSender(
            name,
            self.boards[name],
            key,
            self.config.choices,
            DrawStore(key.thresholds, self.folder.path / f"{name}.draws"),
            disclosed_slots(audit_slot(self.alignment), delay) if self.config.audit else None,
        )

    def _audit_over(self) -> bool:
        """Every sender that makes its own keys has captured its audit, whose draws it can then be asked for."""
        return all(State.AUDIT_COMPLETE in sender.board.state() for sender in self.board_senders.values())

    # -- parts -------------------------------------------------------------------------------------------------------

    def _wait_for(self, name: str, wanted: State, what: str, *, any_of: bool = False) -> None:
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            state = self.boards[name].state()
            if state & wanted if any_of else state & wanted == wanted:
                return
            self._check_alarms(name)
            if time.monotonic() > deadline:
                shown = ", ".join(state.names()) or "none"
                raise RunError(f"station {name}: {what} after {_START_LIMIT_S:g} s; its state bits: {shown}")
            time.sleep(0.005)

    def _check_alarms(self, name: str) -> None:
        refused = self.boards[name].alarms() & REFUSALS
        if refused & Alarm.CHOICES_BEFORE_KEYSTREAM and name in self.board_senders:
            self.board_senders[name].check()
            raise RunError(self.board_senders[name].why_stopped())
        if refused:
            raise RunError(why_refused(name, self.boards[name], refused))

    def _states(self) -> dict[str, State]:
        """State of each station. Raises LinkError or RunError naming one that is lost, or stopped by itself.

        That is where its clock was lost, or it was reset: what the others announced since the question before is not
        known to have been light of this run.
        """
        states = {}
        for name, board in self.boards.items():
            try:
                states[name] = state = board.state()
            except LinkError as error:
                raise LinkError(f"station {name} is lost: {error}; what was taken before is kept") from error
            if not state & (State.RUNNING | State.FINISHED):
                self.stopped_slot = self.alignment.first_slot + self.slots_done
                alarms = ", ".join(self.boards[name].alarms().names()) or "none, so it was reset"
                raise RunError(
                    f"station {name} stopped by itself after slot {self.stopped_slot} (alarms: {alarms}); the result "
                    "ends there; look at its power and reference clock, then start again"
                )
        return states

    def _attempt(self, action: Callable[[], object]) -> None:
        try:
            action()
        except QrelayError as error:
            if self.trouble is None:
                self.trouble = str(error)
            self.folder.log("trouble", message=str(error))

    def _read_counters(self) -> None:
        self._latch_counters()
        receiver = self.boards["receiver"]
        self.counters |= closer_hits(receiver, len(self.config.receiver.detectors))
        self.reference_missed = receiver.read("reference.missed")

    def _latch_counters(self) -> None:
        counters = self.boards["receiver"].counters()
        if counters["slots"] >= self.counters.get("slots", 0):  # not where the board was reset
            self.counters = counters

    def _audit(self, name: str) -> AuditReport | None:
        """Outcome of a sender's audit; None where it is not complete, which is noted if the run was long enough."""
        try:
            complete = State.AUDIT_COMPLETE in self.boards[name].state()
            words = self.boards[name].read_table("audit")
        except LinkError as error:
            self._no_audit(name, str(error))
            return None
        if not complete:
            self._no_audit(name, "its capture did not complete; start again, and if it recurs flash the board")
            return None
        if name in self.board_senders and not self.board_senders[name].audit_answered:
            self._no_audit(name, "the station did not answer for the audited slots")
            return None
        return check_audit(words, audit_slot(self.alignment), self._plan(name))

    def _no_audit(self, name: str, reason: str) -> None:
        if self.alignment.first_slot + self.slots_done >= audit_slot(self.alignment) + AUDIT_SLOTS:
            self.audits_missing[name] = reason
            self.folder.log("audit missing", station=name, message=reason)

    def _plan(self, name: str) -> SenderPlan:
        timing = self.alignment.stations[name]
        return SenderPlan(
            self.board_senders[name].audit_draws if name in self.board_senders else self.choices[name],
            self.layout,
            timing.start_slot,
            sender_steps(self.config),
            self.config.frame.step_slots,
            sender_lines([setting.level_code for setting in self.config.settings]),
            (timing.line_delay_slots,) * LINES,
        )


def execute(
    config: RunConfig,
    config_text: str,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_message: Callable[[str], None] = lambda _: None,
    on_started: Callable[[], None] = lambda: None,
    stop: threading.Event | None = None,
) -> RunOutcome:
    """Carry out a run from its settings to its result. Whatever was taken is in the run folder, also after trouble."""
    stop = stop or threading.Event()
    if config.simulated and config.twin.loop_back is not None:
        raise ConfigError("twin.loop_back: wires in place of light are for `qrelay selftest`; leave it out for a run")
    if config.simulated and config.twin.engine == "fast":
        return _execute_fast(config, config_text, on_progress, on_message, on_started, stop)
    with Bench(config, on_message) as bench:
        folder = RunFolder.create(config.output, config.name, config_text)
        run: Run | None = None
        try:
            on_message(f"run folder {folder.path}")
            for warning in bench.warnings():
                on_message(f"warning: {warning}")
            try:
                run = Run(config, bench, folder)
                for warning in run.warnings:
                    on_message(f"warning: {warning}")
                run.configure()
                run.start()
                on_started()
                run.collect(on_progress, stop)
                audits = run.finish()
            except BaseException as error:
                _abandon(bench, folder, error, on_message)
                if run is not None and run.start_places:
                    _keep_what_is_known(run, bench, error)
                raise
            manifest = run_manifest(run, bench, audits)
            return conclude(folder, config, manifest, run.choices, on_message)
        finally:
            folder.close()


def _abandon(bench: Bench, folder: RunFolder, error: BaseException, on_message: Callable[[str], None]) -> None:
    """Leave no station armed or running behind a run that ends without a result."""
    left = bench.disarm()
    folder.log("abandoned", message=str(error) or type(error).__name__, not_disarmed=left)
    for name, reason in left.items():
        on_message(f"warning: station {name} may still be armed or running: {reason}")


def _keep_what_is_known(run: Run, bench: Bench, error: BaseException) -> None:
    """Write the manifest of a run that began and ends without a result, so that its records can be analysed."""
    run.trouble = f"abandoned: {str(error) or type(error).__name__}"
    run.folder.release_reserve()
    run.sifting.abandon()
    with suppress(RunFolderError):
        run.collector.take_what_is_here()
    with suppress(RunFolderError):
        run.folder.write_json("manifest.json", run_manifest(run, bench, {}))


def _execute_fast(
    config: RunConfig,
    config_text: str,
    on_progress: Callable[[Progress], None],
    on_message: Callable[[str], None],
    on_started: Callable[[], None],
    stop: threading.Event,
) -> RunOutcome:
    from .fast_run import FastRun

    folder = RunFolder.create(config.output, config.name, config_text)
    try:
        on_message(f"run folder {folder.path}")
        run = FastRun(config, folder)
        on_started()
        run.collect(on_progress, stop)
        return conclude(folder, config, run.manifest(), run.choices, on_message)
    finally:
        folder.close()
