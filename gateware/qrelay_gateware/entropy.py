"""The entropy of a station: noise source, its tests, the keys made of it, and what can be asked of them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from qrelay.protocol.windows import window

from .aes_core import AesCore
from .keys import KeyKeeper
from .layouts import config_layout, status_layout, table_write
from .noise import NoiseSampler
from .raw_samples import RawSamples
from .regenerate import Regenerator

__all__ = ["EntropyBlock"]


class EntropyBlock(wiring.Component):
    """Noise sampler, health tests, key keeper, regenerator and recorder around one small AES.

    Without a source there is no part of it, and no key can be made.

    Latency, reset, overflow: see the parts.

    Parameters
    ----------
    present : bool
        There is a noise source.
    timer_domain : str
        Clock domain of times, where the block's own clock may stop while `busy` is low.

    Ports
    -----
    config, status : group ``entropy``
        Without `stopped_slot`.
    noise : In(1)
    healthy, failed : Out(1)
        See `NoiseSampler`.
    running, in_use : In(1)
        The station runs; it is armed or runs.
    host_load : In(1)
        The host loads a key into the keystream.
    key : Out(Signature)
        Words for the keystream's key window.
    prepare, scrub, unload, settled : see `KeyKeeper`.
    on_board, place, number, not_made : see `KeyKeeper`.
    offsets, answer_address, answer_value : see `Regenerator`.
    raw_address, raw_value : see `RawSamples`.
    busy : Out(1)
    """

    config: In(config_layout("entropy"))
    status: Out(status_layout("entropy"))
    noise: In(1)
    healthy: Out(1)
    failed: Out(1)
    running: In(1)
    in_use: In(1)
    host_load: In(1)
    key: table_write("key").flip()
    prepare: Out(1)
    scrub: Out(1)
    unload: Out(1)
    settled: In(1)
    on_board: Out(1)
    place: Out(3)
    number: Out(32)
    not_made: Out(1)
    offsets: table_write("offsets")
    answer_address: In(range(window("draws").depth))
    answer_value: Out(32)
    raw_address: In(range(window("raw").depth))
    raw_value: Out(32)
    busy: Out(1)

    rest_words = NoiseSampler.rest_words

    def __init__(self, present: bool, timer_domain: str = "sync"):
        self._present = present
        self._timer_domain = timer_domain
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        if not self._present:
            return m
        m.submodules.sampler = sampler = NoiseSampler(True, self._timer_domain)
        m.submodules.core = core = AesCore()
        m.submodules.keeper = keeper = KeyKeeper()
        m.submodules.regenerator = regenerator = Regenerator()
        m.submodules.raw = raw = RawSamples()

        # A key made anew every so many words of a run.
        timer = m.d[self._timer_domain]
        elapsed = Signal(len(self.config.reseed_words))
        due = Signal()
        timer += due.eq(0)
        with m.If(~self.running | (self.config.reseed_words == 0)):
            timer += elapsed.eq(0)
        with m.Elif(elapsed + 1 >= self.config.reseed_words):
            timer += [elapsed.eq(0), due.eq(1)]
        with m.Else():
            timer += elapsed.eq(elapsed + 1)

        # The keeper goes first: it asks seldom, and what it does is over soon.
        keeps = Signal()
        m.d.comb += [
            core.start.eq(keeper.core.request | regenerator.core.request),
            keeper.core.taken.eq(keeper.core.request & ~core.busy),
            regenerator.core.taken.eq(regenerator.core.request & ~keeper.core.request & ~core.busy),
            keeper.core.done.eq(core.done & keeps),
            regenerator.core.done.eq(core.done & ~keeps),
            core.command.eq(Mux(keeper.core.request, keeper.core.command, regenerator.core.command)),
            core.place.eq(Mux(keeper.core.request, keeper.core.place, regenerator.core.place)),
            core.half.eq(keeper.core.half),
            core.plain.eq(Mux(keeper.core.request, keeper.core.plain.as_value(), regenerator.core.plain.as_value())),
            keeper.core.cipher.eq(core.cipher),
            regenerator.core.cipher.eq(core.cipher),
        ]
        with m.If(~core.busy):
            m.d.sync += keeps.eq(keeper.core.request)

        connect(m, flipped(self.offsets), regenerator.offsets)
        m.d.comb += [
            sampler.config.eq(self.config),
            sampler.noise.eq(self.noise),
            self.healthy.eq(sampler.healthy),
            self.failed.eq(sampler.failed),
            keeper.config.eq(self.config),
            keeper.valid.eq(sampler.valid),
            keeper.sample.eq(sampler.sample),
            keeper.healthy.eq(sampler.healthy),
            keeper.interval.eq(due),
            keeper.in_use.eq(self.in_use),
            keeper.host_load.eq(self.host_load),
            keeper.settled.eq(self.settled),
            self.prepare.eq(keeper.prepare),
            self.scrub.eq(keeper.scrub),
            self.unload.eq(keeper.unload),
            self.key.enable.eq(core.key_valid | keeper.zero),
            self.key.address.eq(Mux(core.key_valid, core.key_index, keeper.zero_address)),
            self.key.value.eq(Mux(core.key_valid, core.key_word, 0)),
            self.on_board.eq(keeper.on_board),
            self.place.eq(keeper.place),
            self.number.eq(keeper.number),
            self.not_made.eq(keeper.not_made),
            regenerator.config.eq(self.config),
            regenerator.keys.eq(keeper.keys),
            regenerator.address.eq(self.answer_address),
            self.answer_value.eq(regenerator.value),
            raw.valid.eq(sampler.valid),
            raw.sample.eq(sampler.sample),
            raw.record.eq(self.config.record),
            raw.address.eq(self.raw_address),
            self.raw_value.eq(raw.value),
            self.busy.eq(sampler.tick | due | keeper.busy | regenerator.busy | core.busy),
            self.status.eq(sampler.status),
            self.status.keys.eq(keeper.keys),
            self.status.key_place.eq(keeper.place),
            self.status.key_number.eq(keeper.number),
            self.status.key_state.eq(Cat(keeper.making, keeper.on_board, keeper.erase_refused)),
            self.status.answered.eq(regenerator.answered),
            self.status.raw_words.eq(raw.written),
        ]
        return m
