"""Carry chains in the twin: the boards' gateware behind modelled taps, from calibration to gated runs.

Seeds are fixed. Tap widths are those of the timing model of place and route, not measured on a board.
"""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from qrelay import tdc_board
from qrelay.bitstream_file import bitstream_sha256
from qrelay.board import Board
from qrelay.cli import app
from qrelay.config import parse_config
from qrelay.demo_config import demo_text
from qrelay.protocol.identity import Capability, Phy
from qrelay.protocol.records import RecordKind
from qrelay.protocol.tdc import SPAN_FINES
from qrelay.protocol.units import DEFAULT_SLOT_RATE_HZ, FINES_PER_SLOT, fines_to_ps
from qrelay.run import execute
from qrelay.tdc_offsets import load_offsets
from qrelay.twin_settings import PAD_WORDS, LoopBack, TwinSettings
from qrelay_gateware.tdc_channel import TdcChannel
from qrelay_sim.twin import Twin
from qrelay_sim.twin.click_queue import ClickQueue
from qrelay_sim.twin.identity import CHANNEL_WORDS
from qrelay_sim.twin.loop import chain_models
from qrelay_sim.twin.native import build_library

PADS_NS = (8.9, 11.2, 17.3, 14.05)
FINE_PS = fines_to_ps(1, DEFAULT_SLOT_RATE_HZ)
GATE = (56, 48)
"""Start and width in fines: less than one of the two bins of a slot."""


@pytest.fixture(scope="module", autouse=True)
def library():
    return build_library(chains=True)


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def run_text(folder, *, slots, length_km=8.0, brightness=1, receiver="", detectors="", events="", twin=""):
    """The demo with a receiver that measures with chains; lines to add to each table."""
    text = demo_text().replace("slots = 100_000_000", f"slots = {slots}").replace('"runs"', f'"{folder}/runs"')
    for intensity in (0.016, 0.0058):
        old = f"mean_photon_number = {intensity}"
        assert old in text
        text = text.replace(old, f"mean_photon_number = {brightness * intensity}")
    text = text.replace("length_km = 50.0", f"length_km = {length_km}").replace(
        "dead_slots = 0", "dead_slots = 5\n" + receiver
    )
    events = f"[events]\n{events}\n" if events else ""
    return text.replace("[twin] ", f"{detectors}\n{events}\n[twin] ") + f'\ndetectors = "tdc"\n{twin}\n'


def gated(start, width):
    names = ("m1_plus", "m1_minus", "m2_plus", "m2_minus")
    settings = f"gate_start_fines = {start}\ngate_width_fines = {width}\n"
    return "\n".join(f'[[receiver.detectors]]\nname = "{name}"\n{settings}' for name in names)


def go(text):
    outcome = execute(parse_config(text), text)
    assert outcome.trouble is None
    return outcome


def test_latency_of_the_channel():
    assert TdcChannel().latency == CHANNEL_WORDS


def test_code_density_recovers_the_taps_of_the_model():
    """Each code's width within 5 standard deviations of its count and what jitter moves; fails by chance 1 in 10^4."""
    settings = TwinSettings(detectors="tdc", loop_back=LoopBack())
    with Twin(settings) as twin, Board.open(twin.urls["bob"], timeout_s=10.0) as board:
        identity = board.identity
        assert (identity.phy, identity.chains, identity.build_id) == (Phy.TWIN_TDC, 0b1111, 0)
        assert Capability.SIMULATED in identity.capabilities
        counts = tdc_board.code_density(board, 2, 200_000)
        found = tdc_board.measure(board, [2])[2]
    chain = chain_models(settings, "bob")[2].chain
    ages = np.concatenate(([chain.first_age], chain.ages_of_codes()))
    width_ps = np.diff(ages)[: found.last_code]
    hits = counts.sum()
    assert hits > 200_000
    share = width_ps / fines_to_ps(SPAN_FINES, DEFAULT_SLOT_RATE_HZ)
    # Flip-flops with jitter change the order of taps that are nearly as old as each other.
    error = np.hypot(np.sqrt(hits * share), hits * 3.0 / 6567)
    assert (np.abs(counts[: found.last_code] - hits * share) < 5 * error).mean() > 0.95
    np.testing.assert_allclose(np.cumsum(counts)[: found.last_code] / hits, np.cumsum(share), atol=0.004)
    assert found.rms_error_ps < 20


def test_self_test_reports_linearity_and_resolution(tmp_path):
    path = tmp_path / "wired.toml"
    path.write_text(demo_text() + '\ndetectors = "tdc"\n[twin.loop_back]\nlines = [3, 0, 6, 1]\n')
    result = CliRunner().invoke(app, ["selftest", str(path), "--station", "alice", "--json"])
    assert result.exception is None
    document = json.loads(result.stdout)
    assert document["passed"]
    assert document["tdc_offsets"] == {"alice": None}
    for figures in document["tdc"]["alice"].values():
        assert math.hypot(figures["rms_error_ps"], figures["statistical_error_ps"]) < 20
        assert figures["effective_resolution_ps"] == pytest.approx(math.sqrt(12) * figures["rms_error_ps"])
        assert 30 < figures["mean_width_ps"] < 36
        assert -1 <= figures["dnl_min_lsb"] < 0 < figures["dnl_max_lsb"] < 3
        assert figures["inl_max_lsb"] - figures["inl_min_lsb"] > 0
    # A chain tells more than halves of a slot: each lag is right to a few taps.
    assert all(abs(report["slip_slots"]) < 5 / FINES_PER_SLOT for report in document["loop_back"]["alice"])


def test_clicks_have_the_injected_times(tmp_path, monkeypatch):
    """Every click record against the edge that the light made: error of 20 ps rms at most, no click lost or added."""
    injected = []

    def take(queue, first_slot, slots):
        hits = plain(queue, first_slot, slots)
        slot = first_slot + 4 * hits["word"].astype(np.int64) + (hits["place"] & 3)
        injected.append(np.column_stack((hits["place"] >> 2, slot, hits["fine"])))
        return hits

    plain = ClickQueue.take
    monkeypatch.setattr(ClickQueue, "take", take)
    # Dead time of the detectors themselves: longer than their pulses in the twin.
    # So much jitter that the edges are everywhere in the slot: each code has its own error.
    dead = "detector_dead_slots = 9\njitter_ps = 1500"
    text = run_text(tmp_path, slots=1_000_000, length_km=300.0, events='clicks = "all"', twin=dead)
    outcome = go(text + '\n[histograms]\nfine = "clicks"\n')
    table = pq.read_table(Path(outcome.folder) / "events.parquet").to_pydict()
    columns = {name: np.array(column, np.int64) for name, column in table.items()}
    clicks = columns["kind"] == int(RecordKind.CLICK)
    place = columns["slot"] * FINES_PER_SLOT + columns["pattern_or_fine"]
    of = columns["outcome_or_detector"]
    records = np.column_stack((of, place))[clicks]
    counts = np.stack([np.bincount(place[clicks & (of == d)] % FINES_PER_SLOT, minlength=256) for d in range(4)])
    assert counts.tolist() == outcome.manifest["histograms"]["fine_counts"]
    edges = np.concatenate(injected)
    for d in range(4):
        seen = np.sort(records[records[:, 0] == d, 1])
        sent = np.sort(edges[edges[:, 0] == d, 1] * FINES_PER_SLOT + edges[edges[:, 0] == d, 2])
        assert len(seen) > 500
        # The same whole slots for all clicks: what lies between the start pulse and the run's first slot.
        first = (sent[:200, np.newaxis] - seen[:400]).ravel()
        shifts, counts = np.unique(np.rint(first / FINES_PER_SLOT).astype(int), return_counts=True)
        sent = sent - FINES_PER_SLOT * shifts[counts.argmax()]
        sent = sent[(sent > seen[0] - 128) & (sent < seen[-1] + 128)]
        assert len(sent) == len(seen)
        # An edge is in the middle of its fine.
        error_ps = (seen - sent - 0.5) * FINE_PS
        # The mean belongs to the offset, which the loop-back measures.
        assert abs(error_ps.mean()) < 30
        assert error_ps.std() < 20
        assert abs(error_ps).max() < 120


def test_offset_of_the_pad_is_measured_and_subtracted(tmp_path):
    """Loop-back finds what was injected; a run that subtracts it is at the model, one that does not is lost."""
    described = tmp_path / "bench.toml"
    pads = f"tdc_pad_ns = {list(PADS_NS)}"
    described.write_text(demo_text() + f'\ndetectors = "tdc"\n{pads}\n[twin.loop_back]\nlines = [0, 1, 2, 3]\n')
    with Twin(parse_config(described.read_text()).twin_settings()) as twin:
        wires = [argument for d in range(4) for argument in ("--wire", f"{d}:{d}")]
        options = ["--bitstream", str(described), *wires, "--json"]
        result = CliRunner().invoke(app, ["calibrate", twin.urls["receiver"], *options])
        assert result.exception is None
        options = ["--bitstream", str(described), "--json"]
        tested = CliRunner().invoke(app, ["selftest", twin.urls["receiver"], *options])
        assert tested.exception is None
        bare = CliRunner().invoke(app, ["selftest", twin.urls["receiver"], "--no-offsets", "--json"])
        assert "slots off" in str(bare.exception)
    shown = json.loads(result.stdout)["offsets"]
    kept = load_offsets(bitstream_sha256(described), "twin")
    allowed = PAD_WORDS * 4 * FINES_PER_SLOT
    for d, pad_ns in enumerate(PADS_NS):
        expected = pad_ns * 1000 / FINE_PS - allowed
        # All edges meet the same few codes: an error of up to half the widest one stays.
        assert abs(kept[d].fines - expected) < 4
        assert shown[str(d)]["fines"] == kept[d].fines
    assert all(report["passed"] for reports in json.loads(tested.stdout)["loop_back"].values() for report in reports)
    assert json.loads(tested.stdout)["tdc_offsets"][twin.urls["receiver"]]["detectors"].keys() == {"0", "1", "2", "3"}

    named = f'bitstream = "{described}"'
    outcome = go(run_text(tmp_path, slots=2_000_000, brightness=3, receiver=named, detectors=gated(*GATE), twin=pads))
    manifest = outcome.manifest
    assert manifest["subtract_tdc_offsets"]
    assert manifest["stations"]["alice"]["tdc_offsets"] is None
    taken = manifest["stations"]["receiver"]["tdc_offsets"]
    assert taken["bitstream_sha256"] == bitstream_sha256(described)
    assert {int(d): entry["fines"] for d, entry in taken["detectors"].items()} == {d: kept[d].fines for d in range(4)}
    assert_gated(outcome.result, GATE)

    lost = go(run_text(tmp_path, slots=400_000, brightness=3, twin=pads)).result
    assert lost["qber_sigma"] > 10


def acceptance(gate):
    """Part of the light's clicks in a gate: mean arrival 64, jitter 40 ps rms, tail 80 ps."""
    random = np.random.default_rng(1)
    ps = random.normal(0, 40, 1_000_000) + random.exponential(80, 1_000_000) + random.normal(0, 15, 1_000_000)
    fines = np.floor(64.5 + ps / FINE_PS)
    return float(((fines >= gate[0]) & (fines < gate[0] + gate[1])).mean())


def assert_gated(result, gate):
    """Gain is the model's times the part of clicks in the gate, twice; QBER is that of the light. 4 standard errors."""
    part = acceptance(gate)
    # The edge of the gate cuts through a code or two.
    uncertain = 2 * 0.01 * part
    expected = result["gain_model"] * part**2
    assert abs(result["gain"] - expected) < 4 * result["gain_std"] + uncertain * result["gain_model"]
    assert abs(result["qber"] - result["qber_model"]) < 4 * result["qber_std"]
    assert result["sifted"] > 50


def test_gate_narrower_than_a_bin(tmp_path):
    gate = (60, 12)
    assert_gated(go(run_text(tmp_path, slots=2_000_000, brightness=3, detectors=gated(*gate))).result, gate)
