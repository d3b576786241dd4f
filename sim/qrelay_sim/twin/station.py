"""One simulated board: the station's RTL in a native library, its pins as arrays and its link as bytes."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qrelay.protocol.registers import DETECTORS, LINES
from qrelay.protocol.tdc import TAPS
from qrelay.twin_settings import WIRE_SLOTS

from ..tap_chain import TapChain

__all__ = ["HIT_DTYPE", "PULSE_DTYPE", "WIRE_SLOTS", "ChainModel", "NativeStation", "Stepped"]

HIT_DTYPE = np.dtype([("word", "<u4"), ("place", "<u2"), ("fine", "<u2")])
"""A detector edge: word of the batch, 4 * detector + lane, fine time in 1/256 slot."""
PULSE_DTYPE = np.dtype([("word", "<u4"), ("bins", "<u4")])
"""A start pulse: word of the batch and the bins of the word (bit 0 earliest) in which it is high."""

_LOCKED_TO_REFERENCE = 0b00011
_TX_BYTES_PER_WORD = 1
_PULSES = 1024


class _Batch(ctypes.Structure):
    _fields_ = (
        ("words", ctypes.c_uint32),
        ("clock_inputs", ctypes.c_uint32),
        ("hits", ctypes.c_void_p),
        ("hit_count", ctypes.c_uint32),
        ("start_count", ctypes.c_uint32),
        ("starts", ctypes.c_void_p),
        ("rx", ctypes.c_char_p),
        ("rx_size", ctypes.c_uint32),
        ("rx_used", ctypes.c_uint32),
        ("tx", ctypes.c_void_p),
        ("tx_size", ctypes.c_uint32),
        ("tx_used", ctypes.c_uint32),
        ("slot_lines", ctypes.c_void_p),
        ("code_of_bins", ctypes.c_void_p),
        ("slot_codes", ctypes.c_void_p),
        ("start_pulses", ctypes.c_void_p),
        ("start_pulse_size", ctypes.c_uint32),
        ("start_pulse_used", ctypes.c_uint32),
        ("probe_highs", ctypes.c_uint64),
        ("running", ctypes.c_uint32),
        ("clock_all", ctypes.c_uint32),
        ("noise_ones", ctypes.c_uint64),
        ("wires", ctypes.c_void_p),
        ("wire_slots", ctypes.c_void_p),
        ("external_valid", ctypes.c_uint32),
    )


@dataclass(frozen=True)
class Stepped:
    """What a batch of words gave."""

    rx_used: int
    """Bytes of the link that the station took."""
    tx: bytes
    """Bytes that the station sent."""
    codes: NDArray[np.uint8] | None
    """Light code of each slot, shape (4 * words,), where a code table is set."""
    start_pulses: NDArray[np.void]
    """Words in which the start output was high, `PULSE_DTYPE`."""
    probe_highs: int
    """Slots in which the probe output was high."""
    busy: bool
    """The station was armed or running at the end of the batch."""


@dataclass(frozen=True)
class ChainModel:
    """Carry chain of a detector with the way from its pad."""

    chain: TapChain
    pad_ps: float
    seed: int
    """Of its jitter and its oscillator."""


class NativeStation:
    """A station between simulated pins.

    Parameters
    ----------
    library : the native library of `build_library`.
    code_of_bins : 65536 light codes by the 16 line bins of a slot (line i at bits 2i and 2i + 1), or None for a station
        whose lines lead nowhere.
    noise_seed : of the station's noise source, and of its source of external bits.
    wires : loop-back, the line that is wired to each detector input, -1 for none, and the delay of each wire in slots,
        0 to `WIRE_SLOTS`; None: no wires. Edges are measured as the x2 gearbox does, where there are no chains.
    chains : of all detectors, for a library with chains.
    gate_clocks : leave out the clocks of blocks that have nothing to do. It makes no difference but for speed.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        code_of_bins: NDArray[np.uint8] | None = None,
        *,
        wires: Sequence[tuple[int, int]] | None = None,
        chains: Sequence[ChainModel] = (),
        noise_seed: int = 0,
        gate_clocks: bool = True,
    ) -> None:
        library.qrelay_station_new.argtypes = [ctypes.c_uint64]
        library.qrelay_station_new.restype = ctypes.c_void_p
        library.qrelay_station_delete.argtypes = [ctypes.c_void_p]
        library.qrelay_station_step.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Batch)]
        self._library = library
        self._handle: int | None = library.qrelay_station_new(noise_seed % (1 << 64))
        if code_of_bins is not None and code_of_bins.shape != (65536,):
            raise ValueError(f"code_of_bins has shape {code_of_bins.shape}; it must have 65536 entries")
        self._codes = None if code_of_bins is None else np.ascontiguousarray(code_of_bins, np.uint8)
        self._clock_all = not gate_clocks
        self._wires = self._wire_slots = None
        if wires is not None:
            if len(wires) != DETECTORS or not all(-1 <= line < LINES and 0 <= d <= WIRE_SLOTS for line, d in wires):
                raise ValueError(
                    f"wires {list(wires)}: give {DETECTORS} of (line -1 to {LINES - 1}, delay 0 to {WIRE_SLOTS} slots)"
                )
            self._wires = np.array([line for line, _ in wires], np.int8)
            self._wire_slots = np.array([slots for _, slots in wires], np.uint8)
        for detector, model in enumerate(chains):
            self._set_chain(detector, model)
        self._pulses = np.zeros(_PULSES, PULSE_DTYPE)
        self.noise_seed = noise_seed
        self.noise_ones = 0.5
        """Probability that the noise source is high in a word."""
        self.external_bits = False
        """There are key bits from outside in every word."""
        self.clock_inputs = _LOCKED_TO_REFERENCE
        """Clock state: bit 0 locked, 1 external reference, 2 reference lost, 3 lock lost, 4 phase slipped."""

    def _set_chain(self, detector: int, model: ChainModel) -> None:
        reaches = np.ascontiguousarray(model.chain.reaches, np.float64)
        if reaches.shape != (TAPS,):
            raise ValueError(f"chain of {len(reaches)} taps; the channels have {TAPS}")
        jitters = model.chain.tap_jitter, model.chain.edge_jitter, model.pad_ps
        set_chain = self._library.qrelay_station_chain
        set_chain.argtypes = [
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_void_p,
            *[ctypes.c_double] * 3,
            ctypes.c_uint64,
        ]
        set_chain(self._handle, detector, reaches.ctypes.data, *jitters, model.seed % (1 << 64))

    def step(
        self, words: int, hits: NDArray[np.void], starts: NDArray[np.void], rx: bytes, tx_space: int = 1 << 20
    ) -> Stepped:
        """Advance by `words` clocks.

        Parameters
        ----------
        words : batch length in words.
        hits : `HIT_DTYPE`, ordered by word; at most one per place and word.
        starts : `PULSE_DTYPE`, ordered by word.
        rx : bytes offered to the link, at most one is taken per word.
        tx_space : bytes that may be sent; the station waits beyond.
        """
        if self._handle is None:
            raise ValueError("this simulated station is closed")
        hits = np.ascontiguousarray(hits, HIT_DTYPE)
        starts = np.ascontiguousarray(starts, PULSE_DTYPE)
        tx = np.empty(min(words * _TX_BYTES_PER_WORD, tx_space), np.uint8)
        codes = None if self._codes is None else np.empty(4 * words, np.uint8)
        batch = _Batch(
            words=words,
            clock_inputs=self.clock_inputs,
            hits=hits.ctypes.data,
            hit_count=len(hits),
            start_count=len(starts),
            starts=starts.ctypes.data,
            rx=rx,
            rx_size=len(rx),
            tx=tx.ctypes.data,
            tx_size=len(tx),
            code_of_bins=None if self._codes is None else self._codes.ctypes.data,
            slot_codes=None if codes is None else codes.ctypes.data,
            start_pulses=self._pulses.ctypes.data,
            start_pulse_size=len(self._pulses),
            clock_all=self._clock_all,
            noise_ones=round(self.noise_ones * 2**32),
            wires=None if self._wires is None else self._wires.ctypes.data,
            wire_slots=None if self._wire_slots is None else self._wire_slots.ctypes.data,
            external_valid=self.external_bits,
        )
        self._library.qrelay_station_step(self._handle, ctypes.byref(batch))
        return Stepped(
            rx_used=batch.rx_used,
            tx=tx[: batch.tx_used].tobytes(),
            codes=codes,
            start_pulses=self._pulses[: batch.start_pulse_used].copy(),
            probe_highs=batch.probe_highs,
            busy=bool(batch.running),
        )

    def close(self) -> None:
        """Free the native model; a closed station cannot step."""
        if self._handle is not None:
            self._library.qrelay_station_delete(self._handle)
            self._handle = None
