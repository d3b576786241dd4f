"""Questions for external key bits and for draws, on a link whose packets may come in another order."""

from types import SimpleNamespace

import numpy as np
import pytest

from qrelay.errors import RunError
from qrelay.external_bits import ExternalBits
from qrelay.protocol.identity import Entropy
from qrelay.station_entropy import StationEntropy

SLOTS = np.array([7_000_300, 5_000_000, 5_000_001, 9_000_000_000], np.uint64)
KEPT_FROM = 5_000_001


class Station:
    """Answers with bits of the slots asked for. Where registers are written together, the first packet is lost and sent
    again after the others, as `qrelay.link` does."""

    identity = SimpleNamespace(board="test", entropy=Entropy.SIMULATED)
    url = "none"

    def __init__(self, lookback=(1000,)):
        self.registers = {"entropy.answered": 0, "external.answered": 0}
        self.lookback = list(lookback)
        self.answers = []

    def read(self, name):
        if name == "external.lookback":
            return self.lookback.pop(0) if len(self.lookback) > 1 else self.lookback[0]
        return self.registers[name]

    def write(self, name, value):
        self.registers[name] = value
        if name in ("external.ask", "entropy.regenerate"):
            group = name.split(".")[0]
            base = self.registers.get("external.base" if group == "external" else "entropy.regenerate_base", 0)
            slots = [base + int(offset) for offset in self.offsets[:value]]
            if group == "external":
                self.answers = [2 | slot & 1 if slot >= KEPT_FROM else 0 for slot in slots]
            else:
                self.answers = [1 << 16 | slot & 0xFFFF for slot in slots]
            self.registers[f"{group}.answered"] = value

    def write_many(self, values):
        first, *others = values.items()
        for name, value in [*others, first]:
            self.write(name, value)

    def write_table(self, name, values):
        assert name == "offsets"
        self.offsets = values

    def read_table(self, name, count):
        return self.answers[:count]


def test_bits_are_those_of_their_slots():
    bits, kept = ExternalBits(Station()).bits(SLOTS)
    assert kept.tolist() == [True, False, True, True]
    assert bits.tolist() == [0, 0, 1, 0]


def test_draws_are_those_of_their_slots():
    station = Station()
    drawn = StationEntropy(station).draws(0, 1, 2, SLOTS)
    assert drawn.tolist() == [int(slot) & 0xFFFF for slot in SLOTS]


def test_a_memory_that_tests_itself_is_waited_for():
    assert ExternalBits(Station([0, 0, 500])).lookback == 500


@pytest.mark.parametrize(
    ("lookback", "said"), [(1000, "keeps 1000 slots, and"), ((1 << 24) - 1, "16777215 slots or more")]
)
def test_a_bit_that_is_lost_ends_the_run(lookback, said):
    external = ExternalBits(Station([lookback]))
    with pytest.raises(RunError, match=f"1 of 4 external key bits are lost, the first of slot 5000000: .*{said}"):
        external.replace(SLOTS, np.zeros(4, np.uint16))


def test_long_runs_need_a_large_memory():
    small, large = ExternalBits(Station([131_040])), ExternalBits(Station([(1 << 24) - 1]))
    for slots in (0, 131_041, 1 << 40):
        large.check_length(slots)
        with pytest.raises(RunError, match="keeps the external key bits of 131040 slots"):
            small.check_length(slots)
    small.check_length(131_040)
