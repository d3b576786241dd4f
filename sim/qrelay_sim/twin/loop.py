"""The digital twin: four boards of the same RTL, the light between them, and a byte link to each.

One thread steps all boards in batches. Within a batch the emitters (Alice, Bob, source) run in parallel with the
optics and the receiver of the batch before, which keeps two cores busy and is causal, because nothing but the start
cable leads from the receiver to the emitters. A start pulse reaches every station at the beginning of a later batch:
the start cables have one common length.

The boards' time is not wall time: it runs as fast as the machine can while a station is armed or running, waits for a
client that reads too slowly, and idles otherwise.
"""

import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from qrelay.twin_settings import TwinSettings

from ..optics import OpticsSettings, RelayOptics
from .click_queue import ClickQueue
from .endpoint import Endpoint, PtyEndpoint, TcpEndpoint
from .native import build_library
from .station import HIT_DTYPE, PULSE_DTYPE, NativeStation, Stepped
from .wiring import LEVEL_SHIFT, PHASE_MASK, PULSE, DelayLine, FibrePaths, sender_light, source_light

__all__ = ["EMITTERS", "STATIONS", "Twin"]

EMITTERS = ("alice", "bob", "source")
STATIONS = (*EMITTERS, "receiver")

_IDLE_WORDS = 512
_BUSY_WORDS = 4096
_IDLE_WAIT_S = 0.01
_START_BINS = 0b0111_1000
"""The start pulse rises in bin 3, away from the edge of the word."""

_PHASE_MEMORY_SLOTS = 900_000_000
_PHASE_MASK = np.uint8(PHASE_MASK)
_NO_HITS = np.zeros(0, HIT_DTYPE)
_NO_STARTS = np.zeros(0, PULSE_DTYPE)


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
    )


class Twin:
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
        library = build_library(progress)
        self.stations = {
            "alice": NativeStation(library, sender_light()),
            "bob": NativeStation(library, sender_light()),
            "source": NativeStation(library, source_light()),
            "receiver": NativeStation(library),
        }
        self._endpoints: dict[str, Endpoint] = {
            name: TcpEndpoint() if link == "tcp" else PtyEndpoint() for name in STATIONS
        }
        self.urls = {name: endpoint.url for name, endpoint in self._endpoints.items()}
        self.words = 0
        """Words that the emitters have run since the twin began."""
        self.error: BaseException | None = None
        """What stopped the twin, if something did."""
        self._stop = threading.Event()
        self._light_lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="twin-board")
        self._thread = threading.Thread(target=self._serve, name="twin", daemon=True)
        self._reset_light()
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
        """Phase [rad] that offset and drift added to Alice minus Bob, at slots counted from the last start event.

        Slots more than `_PHASE_MEMORY_SLOTS` ago are left out, and the answer is shorter by them.
        """
        with self._light_lock:
            return self._optics.phase_error(slots[slots >= self._optics.slot - _PHASE_MEMORY_SLOTS])

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
            self._loop()
        except BaseException as error:
            self.error = error
            raise

    def _loop(self) -> None:
        emitted: dict[str, Stepped] | None = None
        starts_due = False
        starts_seen = False
        busy = False
        words = _IDLE_WORDS
        previous_words = 0
        previous_started = False
        while not self._stop.is_set():
            inputs = {name: endpoint.poll() for name, endpoint in self._endpoints.items()}
            if any(endpoint.stalled for endpoint in self._endpoints.values()):
                time.sleep(_IDLE_WAIT_S)
                continue
            starts_due, starts_seen = starts_seen, False
            starts = _NO_STARTS
            if starts_due:
                starts = np.array([(0, _START_BINS)], PULSE_DTYPE)
            words = _BUSY_WORDS if busy else _IDLE_WORDS
            tasks: dict[str, Future[Stepped]] = {
                name: self._pool.submit(self.stations[name].step, words, _NO_HITS, starts, inputs[name])
                for name in EMITTERS
            }
            if emitted is not None:
                if previous_started:
                    self._reset_light()
                stepped = self._step_receiver(emitted, previous_words, previous_started, inputs["receiver"])
                starts_seen |= self._finish("receiver", stepped)
                busy_receiver = stepped.busy
            else:
                busy_receiver = False
            emitted = {name: task.result() for name, task in tasks.items()}
            busy = busy_receiver
            for name, stepped in emitted.items():
                starts_seen |= self._finish(name, stepped)
                busy |= stepped.busy
            previous_words, previous_started = words, starts_due
            self.words += words
            if not busy and not any(endpoint.pending for endpoint in self._endpoints.values()):
                select.select(list(self._endpoints.values()), [], [], _IDLE_WAIT_S)

    def _finish(self, name: str, stepped: Stepped) -> bool:
        """Carry the link bytes of one station's batch; whether it sent a start pulse."""
        endpoint = self._endpoints[name]
        endpoint.taken(stepped.rx_used)
        if stepped.tx:
            endpoint.offer(stepped.tx)
        return len(stepped.start_pulses) > 0

    def _step_receiver(self, emitted: dict[str, Stepped], words: int, started: bool, rx: bytes) -> Stepped:
        light = {}
        for name in EMITTERS:
            codes = emitted[name].codes
            assert codes is not None
            light[name] = self._fibres[name].pass_through(codes)
        alice, bob = light["alice"], light["bob"]
        with self._light_lock:
            slots, detectors, fines = self._optics.sample(
                self._level(alice), alice & _PHASE_MASK, self._level(bob), bob & _PHASE_MASK, light["source"] >= PULSE
            )
        delays = np.array([self.paths.m1_delay] * 2 + [self.paths.m2_delay] * 2, np.int64)
        self._clicks.put(slots + self._light_slot + delays[detectors], detectors, fines)
        hits = self._clicks.take(self._light_slot, 4 * words)
        self._light_slot += 4 * words
        starts = np.array([(0, _START_BINS)], PULSE_DTYPE) if started else _NO_STARTS
        return self.stations["receiver"].step(words, hits, starts, rx)

    @staticmethod
    def _level(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Intensity code for the optics: 0 dark, 4..7 a pulse with level code 0..3."""
        return codes >> np.uint8(LEVEL_SHIFT)
