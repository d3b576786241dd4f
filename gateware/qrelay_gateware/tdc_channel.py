"""From captured taps to the hits of words: one channel of the time-to-digital converter."""

from amaranth.hdl import Cat, DomainRenamer, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qrelay.protocol.tdc import CODE_BITS, SPAN_FINES, TAPS
from qrelay.protocol.units import SLOTS_PER_WORD

from .layouts import WordHits
from .tdc_calibration import TdcCalibration, TimedHit
from .tdc_encoder import EXTRA_BITS, TapHit, TdcConfig, TdcEncoder

__all__ = ["CAPTURES_PER_WORD", "TableWrite", "TdcChannel", "TdcWord"]

CAPTURES_PER_WORD = 2
TableWrite = wiring.Signature({"address": Out(CODE_BITS), "value": Out(range(SPAN_FINES)), "enable": Out(1)})


class TdcWord(data.Struct):
    """What the channels' captures of one word gave."""

    hits: WordHits
    """At most one hit in each half of the word; `fine` means nothing where not `valid`."""
    extra: data.ArrayLayout(EXTRA_BITS, CAPTURES_PER_WORD)
    """Further edges in each half, which get no hit."""


class TdcChannel(wiring.Component):
    """Encoder and calibration table in the gear clock, and the crossing to words and back.

    A capture is two slots, so a word has two; the capture in the middle of a word shows its slots 0 and 1. An edge
    that reaches the chain in slot s of a word comes out as a hit of lane s of that word. Closer hits than two slots are
    counted, not placed.

    Data cross held for a whole word: into the gear clock where `capture` is high, that is, in the middle of the word;
    out of it a quarter of a word or more after they changed.

    Latency: `latency` words from the word in which an edge reaches the chain to `word`, one less to `density`;
    settings and table entries act within three words.
    Reset (domain ``gear``): no hits until new ones have passed; settings and table are kept.
    Overflow: hits beyond one per two slots are only counted, in `extra`, at most 31 per capture.

    Parameters
    ----------
    taps : int
        As of `TdcEncoder`, and such that encoder and table together take an even number of captures (128 to 288).

    Ports
    -----
    taps : In(taps)
        Domain ``gear``, tap 0 the newest.
    capture : In(1)
        Word phase in the domain ``gear``, alternating: high in the gear period that ends in the middle of a word.
    config : In(TdcConfig)
    table : In(TableWrite)
        In a word with `enable`, code `address` takes the time `value`; at most one write per word.
    word : Out(TdcWord)
    density : Out(TapHit)
        The first hit of a word, for the code-density histogram.
    """

    def __init__(self, taps: int = TAPS):
        self._encoder = TdcEncoder(taps)
        captures = self._encoder.latency + TdcCalibration.latency
        if captures % CAPTURES_PER_WORD:
            raise ValueError(
                f"taps {taps}: encoder and table take {captures} captures, an odd number that tears words apart; "
                "give 128 to 288 taps"
            )
        self.latency = captures // CAPTURES_PER_WORD + 2
        super().__init__(
            {
                "taps": In(taps),
                "capture": In(1),
                "config": In(TdcConfig),
                "table": In(TableWrite),
                "word": Out(TdcWord),
                "density": Out(TapHit),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.encoder = encoder = DomainRenamer("gear")(self._encoder)
        m.submodules.calibration = calibration = DomainRenamer("gear")(TdcCalibration())
        m.d.comb += [encoder.taps.eq(self.taps), calibration.hit.eq(encoder.hit)]

        # Into the gear clock, from registers that hold for a word.
        asked = Signal(TableWrite.members["address"].shape, reset_less=True)
        value = Signal(TableWrite.members["value"].shape, reset_less=True)
        enable = Signal(reset_less=True)
        settings = Signal(TdcConfig, reset_less=True)
        m.d.sync += [
            asked.eq(self.table.address),
            value.eq(self.table.value),
            enable.eq(self.table.enable),
            settings.eq(self.config),
        ]
        # The phase alternates, so its complement a gear clock later is the phase again: in a register of its own, as
        # the settings are where the station is and the hits where the chain is.
        enter = Signal(init=1, reset_less=True)
        m.d.gear += enter.eq(~self.capture)
        own_settings = Signal(TdcConfig, reset_less=True)
        write = Signal(data.StructLayout({"address": asked.shape(), "value": value.shape(), "enable": 1}))
        with m.If(enter):
            m.d.gear += [own_settings.eq(settings), write.eq(Cat(asked, value, enable))]
        m.d.comb += [
            encoder.config.eq(own_settings),
            calibration.table.address.eq(write.address),
            calibration.table.value.eq(write.value),
            calibration.table.enable.eq(write.enable),
        ]

        # Out of the gear clock: two captures at a time.
        earlier = Signal(TimedHit)
        # Encoder and table take an odd number of captures each: a code waits for one more, to be paired like its hit.
        code = Signal(TapHit)
        earlier_code = Signal(TapHit)
        held = Signal(TdcWord)
        held_code = Signal(TapHit)
        halves = (earlier, calibration.timed)
        m.d.gear += [earlier.eq(calibration.timed), code.eq(encoder.hit), earlier_code.eq(code)]
        with m.If(self.capture):
            for half, timed in enumerate(halves):
                first = half * SLOTS_PER_WORD // CAPTURES_PER_WORD
                m.d.gear += [
                    held.hits[first].valid.eq(timed.valid & ~timed.later),
                    held.hits[first + 1].valid.eq(timed.valid & timed.later),
                    held.hits[first].fine.eq(timed.fine),
                    held.hits[first + 1].fine.eq(timed.fine),
                    held.extra[half].eq(timed.extra),
                ]
            m.d.gear += held_code.eq(Mux(earlier_code.valid, earlier_code, code))
        m.d.sync += [self.word.eq(held), self.density.eq(held_code)]
        return m
