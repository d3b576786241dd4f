"""Key bits from outside, from the pads to the station."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib.io import SimulationPort
from amaranth.sim import Simulator

from qrelay_boards import boards
from qrelay_boards.ecp5_top import Ecp5Top

BOARD = boards()["ulx3s-85f"]
LATENCY = 2
"""Words from the pads to the station."""


def test_bits_and_valid_line_arrive_together_and_in_their_lanes():
    random = np.random.default_rng(1)
    sent = random.integers(0, 32, 300).tolist()  # bits of the lanes, then the valid line
    ports = {use: SimulationPort("i", 1) for use in BOARD.wiring.external}
    assert list(ports) == ["key_bit_0", "key_bit_1", "key_bit_2", "key_bit_3", "key_valid"]
    station = SimpleNamespace(external_bits=Signal(4), external_valid=Signal())
    m = Module()
    Ecp5Top(BOARD.clock_plan(), station, BOARD.wiring)._key_bits(
        m, SimpleNamespace(request=lambda use, dir: ports[use])
    )
    received = []

    async def bench(ctx):
        for levels in sent:
            for number, port in enumerate(ports.values()):
                ctx.set(port.i, levels >> number & 1)
            *_, bits, valid = await ctx.tick().sample(station.external_bits, station.external_valid)
            received.append(bits | valid << 4)

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert received[LATENCY:] == sent[:-LATENCY]
    assert len({a ^ b for a, b in pairwise(sent)}) == 32
