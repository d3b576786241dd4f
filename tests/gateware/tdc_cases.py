"""Captures for the encoder: chains with bubbles, and bits without any sense."""

import numpy as np

from qrelay_sim.golden.tdc import encode
from qrelay_sim.tap_chain import CAPTURE_PS, TapChain

TAPS = 288


def integers(taps):
    """Rows of taps as integers, tap 0 in bit 0."""
    return [int.from_bytes(row.tobytes(), "little") for row in np.packbits(taps, axis=1, bitorder="little")]


class EncoderCase:
    """Captures of a pulsed chain (or of noise) and settings of the encoder."""

    def __init__(self, kind, seed, captures=400, taps=TAPS):
        random = np.random.default_rng(seed)
        self.config = {"invert": 0, "high_from": 1, "low_from": taps // 8}
        if kind == "noise":
            density = random.choice([0.2, 0.5, 0.8], (captures, taps // 8)).repeat(8, axis=1)
            self.taps = random.random((captures, taps)) < density
            self.config = {
                "invert": int(random.integers(2)),
                "high_from": int(random.integers(1, taps // 8 + 1)),
                "low_from": int(random.integers(1, taps // 8 + 1)),
            }
        else:
            longest = {"long": 7.0, "short": 0.7}[kind] * CAPTURE_PS
            lengths = random.uniform(600.0 if kind == "short" else 1.6 * CAPTURE_PS, longest, 12 * captures)
            toggles = np.cumsum(lengths)
            self.chain = TapChain.random(random, taps=taps)
            self.toggles = toggles[toggles < (captures - 1) * CAPTURE_PS]
            self.taps = self.chain.capture(self.toggles, captures, random)
            if kind == "short":
                group = int(np.searchsorted(self.chain.reaches, CAPTURE_PS)) // 8
                self.config |= {"high_from": group, "low_from": group + 2}
            if seed % 2:
                self.taps = ~self.taps
                self.config["invert"] = 1

    def model(self):
        return encode(self.taps, **{name: (bool(v) if name == "invert" else v) for name, v in self.config.items()})

    def check(self, hits, latency):
        """`hits`: the encoder's output as integers, from the first capture on."""
        hits = np.array(hits[latency:])
        model = self.model()
        length = len(hits)
        np.testing.assert_array_equal(hits & 1, model.valid[:length])
        np.testing.assert_array_equal(np.where(hits & 1, hits >> 1 & 0x1FF, 0), model.code[:length])
        np.testing.assert_array_equal(hits >> 10, model.extra[:length])


def packed(valid, codes, extra):
    """Hits as integers in the layout of `TapHit`."""
    return valid.astype(int) | codes << 1 | extra << 10


def table_case(seed, captures=700):
    """A table of random times, codes, whether they are valid, and the hits; `extra` is the code modulo 32."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, 512, captures)
    valid = random.random(captures) < 0.6
    return random.integers(0, 512, 512), codes, valid, packed(valid, codes, codes % 32)


def density_case(kinds, captures=600):
    """Codes of so many kinds, whether they are valid, and the hits."""
    random = np.random.default_rng(kinds)
    codes = random.choice(random.permutation(512)[:kinds], captures)
    valid = random.random(captures) < 0.8
    return codes, valid, packed(valid, codes, np.zeros(captures, int))
