"""A whole station: one design for every role, of which a board adds only clocks, pins and detector PHY."""

from amaranth.hdl import Cat, Const, DomainRenamer, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from qrelay.protocol.choice import PHASE_BITS
from qrelay.protocol.identity import Capability, Entropy
from qrelay.protocol.registers import DETECTORS
from qrelay.protocol.status import Alarm, State
from qrelay.protocol.units import SLOT_WORD_BITS, SLOTS_PER_WORD

from .audit import Audit
from .block_clocks import GATED_BLOCKS, BlockBits, BlockClocks
from .block_ring import BlockRing
from .board_facts import START_LATENCY, BoardFacts
from .choices import ChoiceMapper
from .entropy import EntropyBlock
from .events import Events
from .external_bits import ExternalBits
from .fine_delay import FineDelay, FineDelayPort
from .keystream import Keystream
from .layouts import LINE_BINS, Hits, Lines, Segment
from .link import LinkedBank
from .modulator import Modulator
from .probe import Probe
from .receiver import Receiver
from .sdram import SdramPins
from .sdram_ring import SdramRing
from .sequencer import Sequencer
from .tdc_control import TdcControl, TdcPort
from .timebase import TimeBase

__all__ = ["Station"]

_KEY_BIT = PHASE_BITS - 1
"""Bit of a draw that is the key bit: the top bit of the phase."""


def _bits(causes):
    """Levels by flag, as the flags' register."""
    return Cat(causes[flag] for flag in type(next(iter(causes))))


class Station(wiring.Component):
    """Time base, sender, receiver, events and link of one board, in the word clock domain.

    Every clock is one word of four slots. The role of the station is configuration: all parts are always there.

    A start event (command or start input) is followed after `start_latency` words by the word of slot
    ``timebase.start_slot``, which leaves the lines output `line_latency` words later. Hits presented
    in the word of slot s (`receiver_latency` words after that word left the slot counter) carry slot s.

    Reset: unlocked lines idle, nothing armed. Overflow: as the blocks say; every loss is counted and reported.

    Parameters
    ----------
    facts : BoardFacts
        What the board adds to the identity block.
    gated : bool
        Put each of `GATED_BLOCKS` in a clock domain of its own name: the word clock, which may stop while the block's
        bit of `clocked` is low. A simulation does so, as most stations have no use for most blocks most of the time.

    Ports
    -----
    rx, tx : byte streams of the link.
    framing_error, overrun : one clock for each byte that the serial port lost; counted, and latch an alarm.
    hits : detector edges of the word, ``hits[detector][lane]``.
    hits_inverted : detectors whose falling edge is the hit, for what finds the edges.
    start_bins : samples of the start input, bit 0 earliest.
    lines : bins of the output lines, ``lines[line]``, bit 2 * lane + bin.
    start_out : bins of the start output.
    probe : one bit per slot.
    noise : level of the noise source, sampled now and then; not looked at where the facts name no source.
    external_bits, external_valid : key bits from outside, one per slot of a word, and whether there are any in this
        word; not looked at where the facts give them no memory.
    clock_locked, external_reference : present state of the clocks.
    reference_lost, lock_lost, phase_slipped : one-clock (or longer) reports that latch an alarm.
    armed, running : for lamps, and for a simulation that wants to know whether time matters.
    fine_delay : to the delay elements in the pins of the lines, where the facts say that there are any.
    tdc : to and from the carry chains, on a board whose facts name any; otherwise nothing happens there.
    sdram : to and from the memory of key bits from outside, where the facts name one; otherwise nothing happens there.
    clocked : the block has something to do in this word. While low, nothing in it can change but the phase of the
        receiver's free-running rate interval and test pulser. Follows from registers and from `rx.valid` and
        `clock_locked`.
    """

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))
    framing_error: In(1)
    overrun: In(1)
    hits: In(Hits)
    hits_inverted: Out(DETECTORS)
    start_bins: In(LINE_BINS)
    noise: In(1)
    external_bits: In(SLOTS_PER_WORD)
    external_valid: In(1)
    lines: Out(Lines)
    start_out: Out(LINE_BINS)
    probe: Out(SLOTS_PER_WORD)
    clock_locked: In(1)
    external_reference: In(1)
    reference_lost: In(1)
    lock_lost: In(1)
    phase_slipped: In(1)
    armed: Out(1)
    running: Out(1)
    fine_delay: Out(FineDelayPort)
    tdc: Out(TdcPort)
    sdram: Out(SdramPins())
    clocked: Out(BlockBits)

    def __init__(self, facts: BoardFacts, *, gated: bool = False):
        self.facts = facts
        self._gated = gated
        super().__init__()

    def _external_ring(self):
        if self.facts.external_chip is not None:
            return SdramRing(self.facts.external_chip)
        return BlockRing(self.facts.external_ring_words) if self.facts.external_ring_words else None

    def elaborate(self, platform):
        m = Module()
        bank = LinkedBank(self.facts.identity.to_words())
        keystream = Keystream()
        receiver = Receiver(config_domain="config", histogram_domain="histograms")
        events = Events(timer_domain="word")
        modulator = Modulator(config_domain="config")
        entropy = EntropyBlock(self.facts.entropy != Entropy.HOST, timer_domain="word")
        external = ExternalBits(self._external_ring())
        blocks = {
            "link": bank,
            "keystream": keystream,
            "receiver": receiver,
            "events": events,
            "modulator": modulator,
            "entropy": entropy,
            "external": external,
        }
        for name, block in blocks.items():
            domains = {"sync": "sync", "word": "sync", "config": "sync", "histograms": "sync"}
            if self._gated:
                domains |= {
                    "sync": name if name in GATED_BLOCKS else "sync",
                    "config": "link",
                    "histograms": "histograms",
                }
            m.submodules[name] = DomainRenamer(domains)(block)
        m.submodules.timebase = timebase = TimeBase(START_LATENCY - Sequencer.latency)
        m.submodules.sequencer = sequencer = Sequencer()
        m.submodules.choices = choices = ChoiceMapper()
        m.submodules.audit = audit = Audit()
        m.submodules.probe = probe = Probe()
        system = bank.config_system

        connect(m, flipped(self.rx), bank.rx)
        connect(m, bank.tx, flipped(self.tx))
        # Through a register, as the alarm: its bit is what starts the clock of a link at rest.
        lost_byte = Signal(2)
        m.d.sync += lost_byte.eq(Cat(self.framing_error, self.overrun))
        m.d.comb += Cat(bank.framing_error, bank.overrun).eq(lost_byte)
        connect(m, events.packets, bank.packets)
        for block, group in (
            (timebase, "timebase"),
            (sequencer, "sequencer"),
            (keystream, "keystream"),
            (choices, "keystream"),
            (modulator, "modulator"),
            (probe, "modulator"),
            (audit, "audit"),
            (entropy, "entropy"),
            (external, "external"),
            (receiver, "receiver"),
            (events, "events"),
        ):
            m.d.comb += block.config.eq(getattr(bank, f"config_{group}"))
        m.d.comb += [
            bank.status_timebase.eq(timebase.status),
            bank.status_receiver.eq(receiver.status),
            receiver.copies.address.eq(bank.read_counters.address),
            bank.read_counters.value.eq(receiver.copies.value),
            bank.status_events.eq(events.status),
            bank.status_reference.eq(receiver.reference_status),
            receiver.reference_config.eq(bank.config_reference),
            bank.status_histograms.eq(receiver.histograms_status),
            receiver.histograms_config.eq(bank.config_histograms),
            receiver.fine_counts.address.eq(bank.read_fine_counts.address),
            bank.read_fine_counts.value.eq(receiver.fine_counts.value),
            receiver.lag_counts.address.eq(bank.read_lag_counts.address),
            bank.read_lag_counts.value.eq(receiver.lag_counts.value),
            bank.status_entropy.eq(entropy.status),
            bank.status_external.eq(external.status),
        ]
        for table, user in (
            (bank.table_segments, sequencer.segments),
            (bank.table_steps, sequencer.steps),
            (bank.table_offsets, entropy.offsets),
            (bank.table_lines, modulator.table),
            (bank.table_success, receiver.success_table),
        ):
            connect(m, table, user)

        # Arming is refused where the slots could not be filled with fresh choices, or have no clock.
        arm = Signal()
        arm_refused = Signal()
        may_arm = Signal()
        unhealthy = Signal()
        wrong_key = Signal()
        made_here = bank.config_entropy.on_board
        m.d.sync += [
            unhealthy.eq((bank.config_entropy.required | made_here) & ~entropy.healthy),
            wrong_key.eq(made_here ^ entropy.on_board),
        ]
        m.d.sync += arm.eq(system.arm & may_arm & ~timebase.armed & ~timebase.running & ~arm)
        m.d.comb += [
            may_arm.eq(
                self.clock_locked & (~bank.config_keystream.enable | (keystream.fresh & ~unhealthy & ~wrong_key))
            ),
            arm_refused.eq(system.arm & ~may_arm & ~timebase.armed & ~timebase.running),
            timebase.arm.eq(arm),
            timebase.disarm.eq(system.disarm | ~self.clock_locked),
            timebase.start.eq(system.start),
            timebase.start_bins.eq(self.start_bins),
            self.start_out.eq(timebase.start_out),
            self.armed.eq(timebase.armed),
            self.running.eq(timebase.running),
        ]

        # The sender. The keystream learns of the start a word late, from a register: the start input is at the pins. It
        # goes on until the sequencer, some words behind, has used the last draws.
        go = Signal()
        m.d.sync += go.eq(timebase.go)
        used = Signal(Sequencer.latency + 1)
        m.d.sync += used.eq(Cat(timebase.armed | timebase.running, used))
        m.d.comb += [
            sequencer.running.eq(timebase.running),
            sequencer.slot_word.eq(timebase.slot_word),
            keystream.go.eq(go),
            keystream.halt.eq(~used.any() | unhealthy),
            keystream.start_slot.eq(bank.config_timebase.start_slot),
            choices.tick.eq(sequencer.tick),
            Cat(draw[_KEY_BIT] for draw in choices.draws).eq(
                Mux(external.replaces, external.key_bits, Cat(draw[_KEY_BIT] for draw in keystream.draws))
            ),
            *(
                choices_draw[part].eq(keystream_draw[part])
                for choices_draw, keystream_draw in zip(choices.draws, keystream.draws, strict=True)
                for part in (slice(_KEY_BIT), slice(_KEY_BIT + 1, None))
            ),
            external.bits.eq(self.external_bits),
            external.valid.eq(self.external_valid),
            external.tick.eq(sequencer.tick),
            external.arm.eq(arm),
            external.clock_locked.eq(self.clock_locked),
            external.address.eq(bank.read_external.address),
            bank.read_external.value.eq(external.value),
            external.offsets.address.eq(bank.table_offsets.address),
            external.offsets.value.eq(bank.table_offsets.value),
            external.offsets.enable.eq(bank.table_offsets.enable),
            # What was not drawn must not look like a choice: setting and phase 0, as without a keystream.
            choices.config.enable.eq(bank.config_keystream.enable & keystream.valid & ~external.blocked),
            modulator.tick.eq(choices.tick_out),
            modulator.choices.eq(choices.choices),
            modulator.ready.eq(self.clock_locked),
            self.lines.eq(modulator.lines),
            audit.tick.eq(choices.tick_out),
            audit.choices.eq(choices.choices),
            audit.lines.eq(modulator.lines),
            audit.address.eq(bank.read_audit.address),
            bank.read_audit.value.eq(audit.value),
        ]
        # Keys: the host's words and its load reach the keystream unless keys are made here.
        host_load = Signal()
        m.d.comb += [
            host_load.eq(bank.config_keystream.load & ~made_here),
            keystream.config.load.eq(host_load),
            keystream.unload.eq(entropy.unload),
            keystream.key.address.eq(Mux(entropy.key.enable, entropy.key.address, bank.table_key.address)),
            keystream.key.value.eq(Mux(entropy.key.enable, entropy.key.value, bank.table_key.value)),
            keystream.key.enable.eq(entropy.key.enable | (bank.table_key.enable & ~made_here)),
            keystream.prepare.eq(entropy.prepare),
            keystream.scrub.eq(entropy.scrub),
            entropy.noise.eq(self.noise),
            entropy.running.eq(timebase.running),
            entropy.in_use.eq(timebase.armed | timebase.running | arm),
            entropy.host_load.eq(host_load),
            entropy.settled.eq(keystream.settled),
            entropy.answer_address.eq(bank.read_draws.address),
            bank.read_draws.value.eq(entropy.answer_value),
            entropy.raw_address.eq(bank.read_raw.address),
            bank.read_raw.value.eq(entropy.raw_value),
            events.key.eq(Cat(keystream.first_slot, entropy.place, Const(0, 1), entropy.number[:12])),
            events.key_valid.eq(keystream.first & made_here),
        ]
        undrawn = Signal()
        m.d.comb += undrawn.eq(
            sequencer.tick.running
            & (sequencer.tick.segment == Segment.QUANTUM.value)
            & bank.config_keystream.enable
            & (~keystream.valid | external.blocked)
        )
        # Where drawing stopped, by the word; until the next arm.
        stopped = Signal()
        stopped_word = Signal(SLOT_WORD_BITS)
        with m.If(arm):
            m.d.sync += stopped.eq(0)
        with m.Elif(undrawn & ~stopped):
            m.d.sync += [stopped.eq(1), stopped_word.eq(sequencer.tick.slot_word)]
        m.d.comb += bank.status_entropy.stopped_slot.eq(stopped_word << 2)

        # The receiver.
        m.d.comb += [
            receiver.tick.eq(sequencer.tick),
            receiver.hits.eq(self.hits),
            self.hits_inverted.eq(Cat(bank.config_receiver[f"invert_{d}"] for d in range(DETECTORS))),
            receiver.latch.eq(system.latch_counters),
            receiver.clear.eq(system.clear_counters | arm),
            events.success.eq(receiver.success),
            events.clicks.eq(receiver.clicks),
            events.clicks_beyond_four.eq(receiver.clicks_beyond_four),
            events.frame.eq(receiver.frame),
            events.frame_valid.eq(receiver.frame_valid),
            events.reference.eq(receiver.reference),
            events.reference_valid.eq(receiver.reference_valid),
            events.arm.eq(arm),
            probe.tick.eq(sequencer.tick),
            probe.success.eq(receiver.success_bits),
            probe.hits.eq(receiver.hit_bits),
            probe.clicks.eq(receiver.click_bits),
            self.probe.eq(probe.out),
        ]

        if self.facts.capabilities & Capability.FINE_DELAY:
            m.submodules.fine_delay = fine_delay = FineDelay()
            m.d.comb += [
                fine_delay.config.eq(bank.config_fine_delay),
                bank.status_fine_delay.eq(fine_delay.status),
                self.fine_delay.eq(fine_delay.pins),
            ]
        if self.facts.external_chip is not None:
            connect(m, external.sdram, flipped(self.sdram))
        if self.facts.chains:
            m.submodules.tdc = tdc = TdcControl()
            connect(m, bank.table_tdc_times, tdc.table)
            connect(m, tdc.channels, flipped(self.tdc))
            m.d.comb += [
                tdc.config.eq(bank.config_tdc),
                bank.status_tdc.eq(tdc.status),
                tdc.invert.eq(self.hits_inverted),
                tdc.clear.eq(system.clear_counters | arm),
                tdc.codes.address.eq(bank.read_tdc_codes.address),
                bank.read_tdc_codes.value.eq(tdc.codes.value),
            ]

        # State and alarms.
        was_locked = Signal()
        m.d.sync += was_locked.eq(self.clock_locked)
        state = _bits(
            {
                State.ARMED: timebase.armed,
                State.RUNNING: timebase.running,
                State.KEYSTREAM_READY: keystream.ready,
                State.NONCE_FRESH: keystream.fresh,
                State.CLOCK_LOCKED: self.clock_locked,
                State.EXTERNAL_REFERENCE: self.external_reference,
                State.FINISHED: timebase.finished,
                State.AUDIT_COMPLETE: audit.done,
            }
        )
        alarms = _bits(
            {
                Alarm.REFERENCE_LOST: self.reference_lost,
                Alarm.CLOCK_LOCK_LOST: self.lock_lost | (was_locked & ~self.clock_locked),
                Alarm.CLOCK_PHASE_SLIPPED: self.phase_slipped,
                Alarm.START_REFUSED: timebase.refused,
                Alarm.SYNC_SLIP: timebase.sync_slip,
                Alarm.RECORDS_DROPPED: events.overflow | receiver.reference_lost,
                Alarm.DAMAGED_PACKET: bank.damaged,
                Alarm.ENTROPY_TEST_FAILED: entropy.failed | external.failed,
                Alarm.ARM_REFUSED: arm_refused,
                Alarm.CHOICES_BEFORE_KEYSTREAM: undrawn,
                Alarm.KEY_NOT_MADE: entropy.not_made,
                Alarm.SERIAL_BYTE_LOST: self.framing_error | self.overrun,
            }
        )
        alarm_bits = Signal(len(alarms))
        m.d.sync += alarm_bits.eq(alarms)
        uptime = Signal(48)
        m.d.sync += uptime.eq(uptime + 1)
        m.d.comb += [
            bank.status_system.state.eq(state),
            bank.status_system.alarms.eq(alarm_bits),
            bank.status_system.uptime.eq(uptime),
            events.alarms.eq(system.alarms),
            events.state.eq(state),
            events.running.eq(sequencer.tick.running),
            events.slot_word.eq(timebase.slot_word),
        ]

        # Causes for blocks to be clocked.
        m.submodules.clocks = clocks = BlockClocks()
        link = self.rx.valid | self.tx.valid | events.packets.valid | alarm_bits.any()
        wanted = {
            "link": link,
            "events": link
            | arm
            | events.busy
            | (receiver.success.valid | receiver.clicks.valid).any()
            | (receiver.clicks_beyond_four != 0)
            | receiver.frame_valid
            | receiver.reference_valid
            | keystream.first,
            "keystream": bank.config_keystream.enable | link | entropy.busy,
            "receiver": bank.config_receiver.enable
            | receiver.latch
            | receiver.clear
            | bank.config_histograms.swap
            | receiver.histograms_status.busy,
            "entropy": entropy.busy | clocks.clocked.link,
            "histograms": bank.config_histograms.enable_fine
            | bank.config_histograms.enable_lag
            | bank.config_histograms.swap
            | receiver.clear
            | receiver.histograms_status.busy,
            "external": bank.config_external.enable | external.busy | arm | ~self.clock_locked | clocks.clocked.link,
        }
        m.d.comb += [clocks.wanted[name].eq(cause) for name, cause in wanted.items()]
        m.d.comb += self.clocked.eq(clocks.clocked)
        return m
