"""Histograms of a receiver against their model."""

import numpy as np
import pytest
from histogram_cases import FIRST, bits_of_slots, case, random_clicks
from stepping import step_words

from benches import run_bench
from qrelay_gateware.histograms import Histograms
from qrelay_sim.golden.histograms import lag_counts, queue_fill

CLICK_PROBABILITY = 4e6 / 304.52e6
"""Per slot and detector, at 4 MHz."""
SPACE = Histograms.settle_words + 900 + 1024 + 20
"""Words between swaps whose histograms are read."""


def random_case(seed):
    """Random clicks around 4 MHz, or at every slot, with pauses; swaps at random words; any pair of detectors."""
    random = np.random.default_rng(seed)
    swaps = np.cumsum(SPACE * np.array([0.3, 2.0]) + random.integers(0, 300, 2)).astype(int).tolist()
    words = swaps[-1] + 3000
    rate = [CLICK_PROBABILITY * 1.2] * 4
    rate[3] = 1.0
    hits, clicks, fines = random_clicks(random, words, rate)
    fines[3] = random.choice([fines[3], fines[3] % 2, 7 + 0 * fines[3]][seed % 3 : seed % 3 + 1])[0]
    a, b = random.integers(0, 3, 2)
    return case(
        f"random_{seed}",
        {"fine_source": seed % 2, "lag_a": int(a), "lag_b": int(a if seed % 3 == 2 else b)},
        hits,
        clicks,
        fines,
        swaps,
        running=np.repeat(random.random(words // 50 + 1) < 0.9, 50)[:words],
        counted=np.repeat(random.random(words // 30 + 1) < 0.9, 30)[:words],
        live=random.random(4 * words) < 0.9,
        clears=[swaps[0] + SPACE] if seed % 4 == 1 else (),
    )


def cases():
    for seed in range(4):
        yield random_case(seed)

    def edges(shown):
        _, lag, sums = shown[0]
        found = {int(place) - 512: int(lag[place]) for place in np.flatnonzero(lag)}
        assert found == {-512: 1, 512: 1, 0: 1, 511: 1, -511: 1, 1: 1, -1: 1, 3: 1, -3: 1}
        assert (sums["clicks_a"], sums["clicks_b"]) == (10, 10)

    a = np.array([100, 2100, 4000, 6000, 8003, 9000, 10000, 11003, 13000, 14000])
    lags = np.array([512, -512, 0, 511, -511, 1, -1, -3, 513, -513])
    bits = bits_of_slots(4200, d0=a, d1=a + lags)
    extra = bits_of_slots(4200, d0=[15000], d1=[15003])
    bits |= extra
    bits[0, 4 * FIRST + 14000] = bits[1, 4 * FIRST + 14000 - 513] = False
    none = np.zeros_like(bits)
    yield case("edges_of_the_lags", {}, none, bits, none.astype(np.uint8), [4500], expect=edges)

    def itself(shown):
        pairs = {1: 3, 2: 2, 3: 1, 100: 1, 101: 1, 102: 1, 103: 1}
        _, lag, sums = shown[0]
        found = {int(place) - 512: int(lag[place]) for place in np.flatnonzero(lag)}
        assert found == {0: 5} | {sign * lag: n for lag, n in pairs.items() for sign in (-1, 1)}
        assert sums["coincidences"] == 5

    bits = bits_of_slots(200, d2=[2, 3, 4, 5, 105])
    yield case(
        "autocorrelation",
        {"lag_a": 2, "lag_b": 2},
        bits,
        bits,
        np.zeros_like(bits, np.uint8),
        [300],
        expect=itself,
    )

    def across(shown):
        assert [int(s[1].sum()) for s in shown] == [0, 1]
        assert shown[1][1][512 + 40] == 1

    swap = 400
    bits = bits_of_slots(swap + 200, d0=[4 * (swap - FIRST) - 1], d1=[4 * (swap - FIRST) + 39])
    yield case(
        "a_pair_belongs_to_its_later_click",
        {},
        bits,
        bits,
        np.zeros_like(bits, np.uint8),
        [swap, swap + SPACE],
        expect=across,
    )

    def full(shown):
        """A click in every slot of all detectors: one per word is counted, but for the words of the read-out."""
        queue = 16 + 1
        assert [s[2]["lost_fine"] + int(s[0].sum()) for s in shown] == [16 * 600, 16 * SPACE]
        assert abs(int(shown[0][0].sum()) - 4 * (600 + 4 * queue)) <= 16
        assert abs(int(shown[1][0].sum()) - 4 * (SPACE - 256)) <= 16

    words = 600 + SPACE
    bits = np.ones((4, 4 * words), bool)
    fines = np.where(np.arange(4 * words) // 4 % 3 == 0, 255, 0).astype(np.uint8) * np.ones((4, 1), np.uint8)
    yield case("every_slot", {"enable_lag": 0}, bits, bits, fines, [600, words], expect=full)

    def whole(shown):
        """A hit in every word of all detectors: nothing is lost, but for the words of the read-out."""
        assert [s[2]["lost_fine"] for s in shown] == [0, 4 * (256 - 14)]

    single = np.zeros((4, 4 * words), bool)
    single[:, 2::4] = True
    yield case("every_word", {"enable_lag": 0}, single, single, fines, [600, words], expect=whole)

    def burst(shown):
        """Sixteen dense words are counted, at once before a read-out too."""
        assert int(shown[0][0].sum()) == 4 * 64
        assert shown[0][2]["lost_fine"] == 0

    dense = np.zeros((4, 4 * 700), bool)
    dense[:, 4 * (600 - 16) : 4 * 600] = True
    yield case("a_dense_burst", {"enable_lag": 0}, dense, dense, fines[:, : 4 * 700], [600], expect=burst)

    def lossy(shown):
        """Clicks that find the queue full are lost as a whole: what is counted is symmetric still."""
        _, lag, sums = shown[0]
        assert sums["lost_a"] == sums["lost_b"] > 1000
        assert sums["high_water"] >= 480
        assert sums["coincidences"] == sums["clicks_a"] == sums["clicks_b"] > 400
        assert lag[:512].sum() > 20_000
        np.testing.assert_array_equal(lag, lag[::-1])

    dense = np.random.default_rng(9).random((4, 4 * 2000)) < 0.25
    none = np.zeros_like(dense, np.uint8)
    overload = {"lag_a": 1, "lag_b": 1}
    yield case("more_than_the_queue_holds", overload, dense, dense, none, [2000], expect=lossy, wait=120_000)

    def off(shown):
        assert not shown[0][0].any()
        assert not shown[0][1].any()
        assert shown[0][2]["words"] == 0

    yield case(
        "off", {"enable_fine": 0, "enable_lag": 0}, bits[:, :2400], bits[:, :2400], fines[:, :2400], [500], expect=off
    )


CASES = list(cases())


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("autocorrelation", "edges_of_the_lags")], ids=str)
def test_equals_the_model(case):
    case.check(step_words(Histograms, case.inputs, case.outputs))


@pytest.mark.cocotb
def test_exported_verilog(tmp_path):
    run_bench(Histograms(), "bench_cases", tmp_path, env={"QRELAY_CASES": "test_histograms"})


def test_the_queue_holds_4_mhz():
    """13 million slots of random clicks with 4 MHz on both detectors, and a read-out every 50000 words (seed fixed)."""
    random = np.random.default_rng(4)
    a, b = random.random((2, 4 * 3_300_000)) < CLICK_PROBABILITY
    fill = queue_fill(a, b, range(1000, 3_300_000, 50_000))
    assert fill.max() < 480
    assert fill.max() > 60


def test_model_of_pairs_by_hand():
    """All pairs, written down as a sum over slots."""
    random = np.random.default_rng(5)
    a, b = random.random((2, 4000)) < 0.05
    counts = lag_counts(a, b, slice(0, 1000))
    for lag in (-512, -300, -1, 0, 1, 2, 511, 512):
        first, second = (a[: len(a) - lag], b[lag:]) if lag >= 0 else (a[-lag:], b[:lag])
        assert counts[512 + lag] == np.count_nonzero(first & second)
    np.testing.assert_array_equal(lag_counts(b, a, slice(0, 1000)), counts[::-1])
