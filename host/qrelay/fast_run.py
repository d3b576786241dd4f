"""A run on the fast twin: the same run folder as a run on boards, without boards.

Nothing is stepped and no link is used, so there is no audit, no alarm and no start pulse; everything else, from the
choice keys to the records and counters, is written as a run on boards writes it.
"""

import threading
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .alignment import Alignment, align
from .bench import describe_identity
from .choice_keys import ChoiceKey, make_choice_keys
from .config import STATIONS, RunConfig
from .configure import COUNTED_KINDS, detector_trims
from .errors import ConfigError, RunError, RunFolderError
from .extras import how_to_get
from .frame import FrameLayout
from .live_tally import LiveTally, Progress
from .protocol import PROTOCOL_HASH
from .protocol.identity import Capability, Entropy, Identity, Phy
from .protocol.records import RecordKind
from .protocol.registers import DETECTORS, LINES
from .protocol.units import DEFAULT_SLOT_RATE_HZ, FINES_PER_SLOT, SLOTS_PER_BLOCK
from .record_arrays import unpack_records
from .run_folder import RunFolder
from .run_manifest import alignment_entry

if TYPE_CHECKING:
    from qrelay_sim.fast import FastRelay, Part

__all__ = ["FAST_IDENTITY", "FastRun"]

_RECEIVER = STATIONS.index("receiver")
_PHASES_KEPT = 8192

FAST_IDENTITY = Identity(
    protocol_hash=PROTOCOL_HASH,
    version=(0, 0, 0),
    board="fast twin",
    slot_rate_numerator_hz=DEFAULT_SLOT_RATE_HZ.numerator,
    slot_rate_denominator=DEFAULT_SLOT_RATE_HZ.denominator,
    clock_error_ppb=0,
    capabilities=Capability.SENDER | Capability.RECEIVER | Capability.EXTERNAL_REFERENCE | Capability.SIMULATED,
    detectors=DETECTORS,
    lines=LINES,
    phy=Phy.FAST_TWIN,
    entropy=Entropy.SIMULATED,
    fine_step=128,
    fine_first=64,
    start_latency=0,
    line_latency=0,
    pin_latency=0,
    receiver_latency=0,
    event_latency=0,
    choice_to_pin=0,
    pin_to_event=0,
    fifo_success=0,
    fifo_click=0,
    fifo_frame=0,
    fifo_gap=0,
    fifo_status=0,
    fifo_reference=0,
    fifo_key=0,
    link_baud=0,
)
"""What stands for each station: no gateware, so its version is 0 and it has no latency and no FIFO."""


class FastRun:
    """One run on the fast twin: `collect`, then `manifest`."""

    def __init__(self, config: RunConfig, folder: RunFolder, workers: int | None = None) -> None:
        self.config = config
        self.folder = folder
        self.layout = FrameLayout.of(config.frame)
        self.alignment: Alignment = align(
            dict.fromkeys(STATIONS, FAST_IDENTITY),
            config.path_delays(),
            slots=config.slots,
            frame_slots=SLOTS_PER_BLOCK if self.layout.uniform else self.layout.slots,
            trims=detector_trims(config),
        )
        self.keys: dict[str, ChoiceKey] = make_choice_keys(config)
        self.choices = {name: key.choices() for name, key in self.keys.items()}
        self.tally = LiveTally(config, self.choices["alice"], self.choices["bob"])
        self.trouble: str | None = None
        self.stopped = False
        self.seconds = 0.0
        self.click_fines = np.zeros((DETECTORS, FINES_PER_SLOT), np.int64)
        self._clicks_kept = 0
        self._sent = dict.fromkeys(RecordKind, 0)
        self._drift = _Drift()
        twin = config.twin
        self._drifts = bool(twin.phase_drift_rad_per_ms or twin.delay_drift_ps or twin.blink_off_us)
        self._relay = _relay(config, self.keys, self.alignment, workers)
        lead_in = self.layout.counted(self.alignment.lead_in_slots, COUNTED_KINDS)
        self.counters = {"slots": lead_in, "live_slots": lead_in}

    def collect(self, on_progress: Callable[[Progress], None], stop: threading.Event) -> None:
        """Draw the run into the folder until it is over or `stop` is set; what is drawn by then is kept."""
        for name, key in self.keys.items():
            self.folder.write_secret(f"{name}.choice-key", key.to_json())
        began = time.monotonic()
        done = 0
        try:
            for part in self._relay.parts(stop):
                self._keep(part)
                done = part.end_slot - self.alignment.first_slot
                self.seconds = time.monotonic() - began
                clicks = sum(self.counters[f"clicks_{d}"] for d in range(DETECTORS))
                on_progress(self.tally.progress(done, clicks))
        except KeyboardInterrupt:
            self.stopped = True
        except RunFolderError as error:
            self.trouble = str(error)
            self.folder.log("trouble", message=self.trouble)
        self.stopped |= self.trouble is None and (not self.config.slots or done < self.config.slots)
        self.seconds = time.monotonic() - began

    def _keep(self, part: "Part") -> None:
        from qrelay_sim.fast import COUNTERS

        clicks = self._click_sample(part.clicks)
        for kind, words in (
            (RecordKind.SUCCESS, part.successes),
            (RecordKind.CLICK, clicks),
            (RecordKind.FRAME, part.frames),
        ):
            self.folder.spool.append(_RECEIVER, kind, words)
            self._sent[kind] += len(words)
        records = unpack_records(RecordKind.CLICK, clicks)
        place = records["detector"].astype(np.int64) * FINES_PER_SLOT + records["fine"]
        self.click_fines += np.bincount(place, minlength=self.click_fines.size).reshape(self.click_fines.shape)
        for name, count in zip(COUNTERS, part.counters.tolist(), strict=True):
            if name != "outcome_0":
                self.counters[name] = self.counters.get(name, 0) + count
        self.tally.count(len(part.successes), part.fringes)
        if self._drifts:
            self._drift.add(part)

    def _click_sample(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        events = self.config.events
        if events.clicks == "sample":
            words = words[: max(0, events.click_sample - self._clicks_kept)]
            before, self._clicks_kept = self._clicks_kept, self._clicks_kept + len(words)
            if before < events.click_sample <= self._clicks_kept:
                self.folder.log("click sample complete", clicks=self._clicks_kept, dropped={})
        return words

    def manifest(self) -> dict[str, Any]:
        """Everything beside records and keys that the result depends on, as for a run on boards."""
        alignment = self.alignment
        station = {**describe_identity(FAST_IDENTITY), "start_place": None}
        account = {
            name: {
                kind.name.lower(): {
                    "sent": self._sent[kind] if name == "receiver" else 0,
                    "received": self._sent[kind] if name == "receiver" else 0,
                    "lost_on_link": 0,
                    "not_recorded": 0,
                    "dropped_by_station": 0,
                    "waiting": 0,
                    "unaccounted": 0,
                }
                for kind in RecordKind
            }
            for name in STATIONS
        }
        return {
            "versions": {"qrelay": metadata.version("qrelay"), "numpy": np.__version__},
            "protocol_hash": f"{PROTOCOL_HASH:016x}",
            "stations": {name: {"url": "fast twin", **station} for name in STATIONS},
            "clock_warnings": [],
            "injected_phase_rad": self._drift.phases() if self.config.twin.phase_drift_rad_per_ms else None,
            "injected_source": self._drift.source(self.config),
            "alignment": alignment_entry(alignment),
            "keys": {
                name: {"source": "host", "file": f"{name}.choice-key", "nonce": key.nonce, "stream": key.stream}
                for name, key in self.keys.items()
            },
            "choices_end_slot": None,
            "counters": self.counters,
            "reference_missed": 0,
            "accounting": account,
            "not_accounted": {},
            "alarms": {name: [] for name in STATIONS},
            "subtract_tdc_offsets": False,
            "histograms": None,
            "click_fines": self.click_fines.tolist(),
            "audit": {},
            "audit_missing": {},
            "seconds": self.seconds,
            "stopped_by_hand": self.stopped,
            "trouble": self.trouble,
        }


class _Drift:
    """What drifted, for the model that the result is compared with."""

    def __init__(self) -> None:
        self._sums = np.zeros(5)
        self._phases: list[float] = []
        self._stride = 1
        self._seen = 0

    def add(self, part: "Part") -> None:
        for one in part.drifted:
            self._sums += np.array((1, one.source_on, one.factor_1, one.factor_2, one.factor_12)) * one.slots
            for phase in one.phases.tolist():
                if self._seen % self._stride == 0:
                    self._phases.append(phase)
                self._seen += 1
        while len(self._phases) > _PHASES_KEPT:
            self._phases = self._phases[::2]
            self._stride *= 2

    def phases(self) -> list[float]:
        """Phases [rad] really added, spread over the run."""
        return self._phases

    def source(self, config: RunConfig) -> dict[str, float] | None:
        """Mean state of the source; None if it neither blinks nor drifts."""
        if not (config.twin.blink_off_us or config.twin.delay_drift_ps) or not self._sums[0]:
            return None
        on, one, two, both = self._sums[1:] / self._sums[0]
        return {
            "on_fraction": float(on),
            "overlap_factor_m1": float(one),
            "overlap_factor_m2": float(two),
            "overlap_factor_m12": float(both),
        }


def _relay(config: RunConfig, keys: dict[str, ChoiceKey], alignment: Alignment, workers: int | None) -> "FastRelay":
    try:
        from qrelay_sim.fast import FastRelay
    except ImportError as error:
        raise RunError(f"the fast twin is not installed ({error}); {how_to_get('sim')}") from error
    try:
        return FastRelay(
            config,
            keys,
            origin=alignment.stations["receiver"].start_slot,
            first_slot=alignment.first_slot,
            end_slot=alignment.end_slot,
            workers=workers,
        )
    except ValueError as error:
        raise ConfigError(f"twin: {error}") from error
