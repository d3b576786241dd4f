"""Histograms of a receiver: words in, what the windows show after each swap, and the comparison with the model."""

import numpy as np
from amaranth.lib import data
from receiver_cases import Case, group_by_word
from test_clicks import detector_bits

from qrelay.protocol.registers import DETECTORS, LAG_SLOTS
from qrelay_gateware.histograms import Histograms
from qrelay_gateware.layouts import config_layout, status_layout
from qrelay_sim.golden.histograms import fine_counts, fine_kept, lag_counts, parts

__all__ = ["FIRST", "bits_of_slots", "case", "random_clicks"]

_CONFIG = data.Layout.cast(config_layout("histograms"))
_STATUS = data.Layout.cast(status_layout("histograms"))
READ_WORDS = 1024 + 2
FIRST = 8
"""Word from which `bits_of_slots` counts."""
_PREAMBLE = 2 * Histograms.settle_words + 16
"""Words in which the block clears itself after the reset."""
_READABLE = Histograms.settle_words + 900
"""Words from a swap until the windows are read; pairs may wait."""


def random_clicks(random, words, rate):
    """Clicks by detector and slot, their fines, and more hits with fines of their own slots."""
    shape = (DETECTORS, 4 * words)
    hits = random.random(shape) < np.broadcast_to(rate, (DETECTORS,))[:, np.newaxis]
    return hits, hits & (random.random(shape) < 0.8), random.integers(0, 256, shape).astype(np.uint8)


def bits_of_slots(words, **slots):
    """Clicks at given slots, counted from word FIRST on: `bits_of_slots(100, d0=[4, 9])`."""
    bits = np.zeros((DETECTORS, 4 * words), bool)
    for name, places in slots.items():
        bits[int(name[1:]), 4 * FIRST + np.asarray(places, int)] = True
    return bits


def _fine_column(fines):
    by_detector = [group_by_word(f, 8).astype(object) for f in fines]
    return [sum(int(part) << 32 * d for d, part in enumerate(word)) for word in zip(*by_detector, strict=True)]


def case(
    name, settings, hits, clicks, fines, swaps, *, running=None, counted=None, live=None, clears=(), expect=None, wait=0
):
    """Clears at words `clears`, swaps at words `swaps`; the words behind the last swap are for reading.

    Words are counted from after the preamble. All columns are cut or filled with nothing so that the last histogram can
    be read, `wait` words later than usual. `expect` gets (fine, lags, sums) shown after each swap, to check by hand.
    """
    first = _PREAMBLE
    hits, clicks, fines = (np.pad(bits, ((0, 0), (4 * first, 0))) for bits in (hits, clicks, fines))
    running, counted = (
        np.pad(np.ones(hits.shape[1] // 4 - first, bool) if words is None else words, (first, 0))
        for words in (running, counted)
    )
    live = None if live is None else np.pad(live, (4 * first, 0))
    swaps, clears = ([first + word for word in words] for words in (swaps, clears))
    readable = _READABLE + wait
    settings = {"enable_fine": 1, "fine_source": 0, "enable_lag": 1, "lag_a": 0, "lag_b": 1, "swap": 0} | settings
    total = swaps[-1] + readable + READ_WORDS + 8
    given = hits.shape[1] // 4
    padding = (0, max(0, total - given))
    slots = (0, 4 * padding[1])

    def column(values):
        return np.pad(values, padding)[:total]

    hits, clicks, fines = (np.pad(bits, ((0, 0), slots))[:, : 4 * total] for bits in (hits, clicks, fines))
    running = column(running)
    counted = column(counted) & running
    live = np.pad(np.ones(4 * given, bool) if live is None else live, slots)[: 4 * total]
    clicks = clicks & np.repeat(counted, 4)
    at = np.arange(total)
    address = np.zeros(total, int)
    for swap in swaps:
        address[swap + readable :][: READ_WORDS - 2] = np.arange(READ_WORDS - 2)
    inputs = {
        "config": [_CONFIG.const(settings).as_value().value] * total,
        "swap": np.isin(at, swaps),
        "clear": np.isin(at, clears),
        "running": running,
        "counted": counted,
        "live": group_by_word(live, 1),
        "hits": detector_bits(hits, 1),
        "clicks": detector_bits(clicks, 1),
        "fines": _fine_column(fines),
        "fine_counts.address": address,
        "lag_counts.address": address,
    }
    outputs = ("fine_counts.value", "lag_counts.value", "status")

    def check(seen):
        edges = sorted({*swaps, *clears})
        source = clicks if settings["fine_source"] else hits & np.repeat(running, 4)
        source = source & bool(settings["enable_fine"])
        kept = fine_kept(source, edges)
        pieces = {piece.stop: piece for piece in parts(total, edges)}
        shown = []
        number = 0
        for edge in edges:
            number = 0 if edge in clears else number + 1
            if edge not in swaps:
                continue
            reading = slice(edge + readable + 2, edge + readable + READ_WORDS)
            fine = np.array(seen["fine_counts.value"][reading]).reshape(DETECTORS, 256)
            lag = np.array(seen["lag_counts.value"][reading])
            status = int(seen["status"][edge + readable])
            sums = {key: status >> f.offset & (1 << f.width) - 1 for key, f in _STATUS}
            piece = pieces[edge]
            assert sums["busy"] == 0
            assert sums["swaps"] == number
            part = slice(4 * piece.start, 4 * piece.stop)
            np.testing.assert_array_equal(fine, fine_counts(kept, fines, piece), f"fine before {edge}")
            assert sums["lost_fine"] == (source & ~kept)[:, part].sum()
            runs = running[piece] & bool(settings["enable_fine"] | settings["enable_lag"])
            counts = counted[piece] & runs
            assert sums["words"] == runs.sum()
            assert sums["counted_words"] == counts.sum()
            assert sums["live_slots"] == live.reshape(-1, 4)[piece][counts].sum()
            # Clicks before the last clear are forgotten.
            start = max((clear for clear in clears if clear <= piece.start), default=0)
            a, b = (clicks[settings[key]] & bool(settings["enable_lag"]) for key in ("lag_a", "lag_b"))
            a, b = (np.where(np.arange(4 * total) < 4 * start, False, bits) for bits in (a, b))
            for key, bits in (("a", a), ("b", b)):
                assert sums[f"clicks_{key}"] + sums[f"lost_{key}"] == bits[part].sum()
            if not sums["lost_a"] and not sums["lost_b"]:
                model = lag_counts(a, b, piece)
                found = np.concatenate((lag[LAG_SLOTS - 1 :: -1], [sums["coincidences"]], lag[LAG_SLOTS:]))
                np.testing.assert_array_equal(found, model, f"lags before {edge}")
            shown.append((fine, np.concatenate((lag[:512][::-1], [sums["coincidences"]], lag[512:])), sums))
        if expect is not None:
            expect(shown)

    return Case(name, inputs, outputs, check)
