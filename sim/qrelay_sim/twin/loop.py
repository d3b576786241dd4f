"""The digital twin: four boards of the same RTL, the light between them, and a byte link to each.

Time goes in batches of words, through three stages that run in parallel: the emitters (Alice, Bob, source), the optics
with what they emitted in the batch before, and the receiver with the clicks of the batch before that. This keeps two
cores busy and is causal, because nothing but the start cable leads from the receiver to the emitters. A start pulse
reaches every station at the beginning of a later batch: the start cables have one common length.

The boards' time is not wall time: it runs as fast as the machine can while a station is armed or running, waits for a
client that reads too slowly, and idles otherwise.
"""

import ctypes
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qrelay.closing import ClosedAtExit
from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.units import BINS_PER_SLOT, FINES_PER_SLOT
from qrelay.twin_settings import TwinSettings

from ..optics import OpticsSettings, RelayOptics
from ..tap_chain import TapChain
from .click_queue import ClickQueue
from .endpoint import Endpoint, PtyEndpoint, TcpEndpoint
from .native import build_library
from .station import HIT_DTYPE, PULSE_DTYPE, ChainModel, NativeStation, Stepped
from .wiring import LEVEL_SHIFT, PHASE_MASK, PULSE, REFERENCE, DelayLine, FibrePaths, sender_light, source_light

__all__ = ["EMITTERS", "STATIONS", "Twin", "injected_phase_rad"]

EMITTERS = ("alice", "bob", "source")
STATIONS = (*EMITTERS, "receiver")

_IDLE_WORDS = 512
_BUSY_WORDS = 8192
_IDLE_WAIT_S = 0.01
_START_BINS = 0b0111_1000
"""The start pulse rises in bin 3, away from the edge of the word."""

_PHASE_SPAN_SLOTS = 900_000_000
"""What a drifting phase remembers, with a margin."""
_PHASE_MASK = np.uint8(PHASE_MASK)
_NO_HITS = np.zeros(0, HIT_DTYPE)
_NO_STARTS = np.zeros(0, PULSE_DTYPE)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 2


def optics_settings(settings: TwinSettings) -> OpticsSettings:
    """The light of the bench. Intensity codes 1 to 3 do not occur: without a pulse the level does not matter."""
    return OpticsSettings(
        parameters=settings.relay_parameters(),
        levels_a=(0.0, 0.0, 0.0, 0.0, *settings.level_photon_numbers()),
        phase_offset_rad=settings.phase_offset_rad,
        drift_slope_rms_rad_per_ms=settings.phase_drift_rad_per_ms,
        drift_correlation_ms=settings.phase_drift_correlation_ms,
        dead_slots=settings.detector_dead_slots,
        afterpulse_probability=settings.afterpulse_probability,
        pulse_fine=settings.arrival_fines,
        jitter_ps=settings.jitter_ps,
        reference_photons=settings.reference_photon_number,
        reference_visibility=settings.reference_visibility,
        fine_bins=FINES_PER_SLOT if settings.detectors == "tdc" else BINS_PER_SLOT,
    )


def chain_models(settings: TwinSettings, station: str) -> tuple[ChainModel, ...]:
    """Carry chains of a station; none where its detectors have two bins per slot."""
    if settings.detectors != "tdc" or (settings.loop_back is None and station != "receiver"):
        return ()
    number = STATIONS.index(station)
    chains = [TapChain.random(np.random.default_rng((settings.tdc_seed, number, d))) for d in range(DETECTORS)]
    return tuple(
        ChainModel(
            chain,
            settings.tdc_pad_ns[d] * 1000 - chain.first_age,
            seed=(settings.seed * len(STATIONS) + number) * DETECTORS + d,
        )
        for d, chain in enumerate(chains)
    )


def injected_phase_rad(settings: TwinSettings, slots: NDArray[np.int64]) -> NDArray[np.float64]:
    """Phase [rad] added to Alice minus Bob at ascending slots of a run, from its beginning on.

    Drawn anew from the seed, which gives the phase that the run had: its own optics remember the last part alone.
    """
    optics = RelayOptics(optics_settings(settings), seed=settings.seed)
    parts = np.split(slots, np.flatnonzero(np.diff(slots // _PHASE_SPAN_SLOTS)) + 1)
    return np.concatenate([optics.phase_error(part) for part in parts])


@dataclass
class _Batch:
    """Words on their way through the stages."""

    words: int
    started: bool
    """A start pulse reaches all stations in the first word."""
    codes: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    hits: NDArray[np.void] = field(default_factory=lambda: _NO_HITS)


class Twin(ClosedAtExit):
    """Simulated bench of a relay, reached through `urls` by the same host as a real one.

    Parameters
    ----------
    settings : physics and geometry.
    link : ``"tcp"`` for ``socket://`` URLs, ``"pty"`` for pseudo-terminals.
    progress : called with a line of text while the RTL is compiled.

    Raises
    ------
    BuildError
        The RTL could not be compiled; the message says what is missing.
    """

    def __init__(
        self,
        settings: TwinSettings,
        *,
        link: Literal["tcp", "pty"] = "tcp",
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.paths = FibrePaths(**settings.path_delays())
        self.stations = self._stations(progress)
        for station in self.stations.values():
            station.noise_ones = settings.noise_ones
            station.external_bits = settings.external_bits
        self._endpoints: dict[str, Endpoint] = {
            name: TcpEndpoint() if link == "tcp" else PtyEndpoint() for name in STATIONS
        }
        self.urls = {name: endpoint.url for name, endpoint in self._endpoints.items()}
        self.words = 0
        """Words that the emitters have run since the twin began."""
        self.error: BaseException | None = None
        """What stopped the twin, if something did."""
        self._stop = threading.Event()
        # No more workers than processors: they would take turns, and the receiver, which takes longest, end last.
        self._pool = ThreadPoolExecutor(max_workers=_processors(), thread_name_prefix="twin-board")
        self._thread = threading.Thread(target=self._serve, name="twin", daemon=True)
        if settings.loop_back is None:
            self._reset_light()
        self._thread.start()

    def _stations(self, progress: Callable[[str], None]) -> dict[str, NativeStation]:
        settings, loop = self.settings, self.settings.loop_back
        light = {"alice": sender_light(), "bob": sender_light(), "source": source_light()} if loop is None else {}
        wires = None if loop is None else list(zip(loop.lines, loop.delay_slots, strict=True))
        libraries: dict[bool, ctypes.CDLL] = {}
        stations = {}
        for number, name in enumerate(STATIONS):
            chains = chain_models(settings, name)
            if (kind := bool(chains)) not in libraries:
                libraries[kind] = build_library(progress, chains=kind)
            stations[name] = NativeStation(
                libraries[kind],
                light.get(name),
                wires=wires,
                chains=chains,
                noise_seed=len(STATIONS) * settings.seed + number,
            )
        return stations

    def close(self) -> None:
        """Stop the boards and release the ports."""
        self._stop.set()
        self._thread.join()
        self._pool.shutdown()
        for endpoint in self._endpoints.values():
            endpoint.close()
        for station in self.stations.values():
            station.close()

    @property
    def alive(self) -> bool:
        """The boards are being stepped."""
        return self._thread.is_alive()

    def injected_phase_rad(self, slots: NDArray[np.int64]) -> NDArray[np.float64]:
        """Phase [rad] that offset and drift added to Alice minus Bob, at slots counted from the last start event."""
        return injected_phase_rad(self.settings, slots)

    def _reset_light(self) -> None:
        """Empty fibres and fresh random numbers: a start pulse begins a reproducible run."""
        self._optics = RelayOptics(optics_settings(self.settings), seed=self.settings.seed)
        self._fibres = {
            "alice": DelayLine(self.paths.alice_lag),
            "bob": DelayLine(self.paths.bob_lag),
            "source": DelayLine(self.paths.lag),
        }
        self._clicks = ClickQueue()
        self._light_slot = 0

    def _serve(self) -> None:
        try:
            if self.settings.loop_back is None:
                self._loop()
            else:
                self._wired_loop()
        except BaseException as error:
            self.error = error
            raise

    def _loop(self) -> None:
        batch = _Batch(_IDLE_WORDS, started=False)
        emitted: _Batch | None = None
        seen: _Batch | None = None
        starts_due = False
        while not self._stop.is_set():
            inputs = {name: endpoint.poll() for name, endpoint in self._endpoints.items()}
            if any(endpoint.stalled for endpoint in self._endpoints.values()):
                time.sleep(_IDLE_WAIT_S)
                continue
            batch.started, starts_due = starts_due, False
            tasks: dict[str, Future[Stepped]] = {}
            light: Future[None] | None = None
            if seen is not None:  # first, as it takes longest
                tasks["receiver"] = self._step("receiver", seen, seen.hits, inputs["receiver"])
            if emitted is not None:
                light = self._pool.submit(self._shine, emitted)
            for name in EMITTERS:
                tasks[name] = self._step(name, batch, _NO_HITS, inputs[name])
            if light is not None:
                light.result()
            busy = False
            for name, task in tasks.items():
                stepped = task.result()
                starts_due |= self._finish(name, stepped)
                busy |= stepped.busy
                if name in EMITTERS:
                    assert stepped.codes is not None
                    batch.codes[name] = stepped.codes
            self.words += batch.words
            emitted, seen = batch, emitted
            batch = _Batch(_BUSY_WORDS if busy else _IDLE_WORDS, started=False)
            if not busy and not any(endpoint.pending for endpoint in self._endpoints.values()):
                select.select(list(self._endpoints.values()), [], [], _IDLE_WAIT_S)

    def _wired_loop(self) -> None:
        """Step the boards without light: each has its own wires."""
        batch = _Batch(_IDLE_WORDS, started=False)
        while not self._stop.is_set():
            inputs = {name: endpoint.poll() for name, endpoint in self._endpoints.items()}
            if any(endpoint.stalled for endpoint in self._endpoints.values()):
                time.sleep(_IDLE_WAIT_S)
                continue
            tasks = {name: self._step(name, batch, _NO_HITS, inputs[name]) for name in STATIONS}
            stepped = {name: task.result() for name, task in tasks.items()}
            starts = [self._finish(name, one) for name, one in stepped.items()]
            busy = any(one.busy for one in stepped.values())
            self.words += batch.words
            batch = _Batch(_BUSY_WORDS if busy else _IDLE_WORDS, started=any(starts))
            if not busy and not any(endpoint.pending for endpoint in self._endpoints.values()):
                select.select(list(self._endpoints.values()), [], [], _IDLE_WAIT_S)

    def _step(self, name: str, batch: "_Batch", hits: NDArray[np.void], rx: bytes) -> Future[Stepped]:
        starts = np.array([(0, _START_BINS)], PULSE_DTYPE) if batch.started else _NO_STARTS
        return self._pool.submit(self.stations[name].step, batch.words, hits, starts, rx)

    def _finish(self, name: str, stepped: Stepped) -> bool:
        """Carry the link bytes of one station's batch; whether it sent a start pulse."""
        endpoint = self._endpoints[name]
        endpoint.taken(stepped.rx_used)
        if stepped.tx:
            endpoint.offer(stepped.tx)
        return len(stepped.start_pulses) > 0

    def _shine(self, batch: _Batch) -> None:
        """Let the light of a batch meet, and note the clicks that the receiver gets in it."""
        if batch.started:
            self._reset_light()
        light = {name: self._fibres[name].pass_through(batch.codes[name]) for name in EMITTERS}
        alice, bob, source = light["alice"], light["bob"], light["source"]
        slots, detectors, fines = self._optics.sample(
            self._level(alice),
            alice & _PHASE_MASK,
            self._level(bob),
            bob & _PHASE_MASK,
            source == PULSE,
            source == REFERENCE,
        )
        delays = np.array([self.paths.m1_delay] * 2 + [self.paths.m2_delay] * 2, np.int64)
        self._clicks.put(slots + self._light_slot + delays[detectors], detectors, fines)
        batch.hits = self._clicks.take(self._light_slot, 4 * batch.words)
        self._light_slot += 4 * batch.words

    @staticmethod
    def _level(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Intensity code for the optics: 0 dark, 4..7 a pulse with level code 0..3."""
        return codes >> np.uint8(LEVEL_SHIFT)
