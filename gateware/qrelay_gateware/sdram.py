"""Controller of a single-data-rate SDRAM chip: whole lines in, single words out, refresh in between."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import data, enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["LINE_WORDS", "READ_CLOCKS", "Command", "Sdram", "SdramChip", "SdramPins"]

LINE_WORDS = 8
"""Memory words of 16 bits that are written together."""
READ_CLOCKS = range(3, 10)
"""Clocks from a read command at the port to its data at the port that the controller can wait for."""
_BITS = 16
_CAS_LATENCY = 2
_MOST_CLOCK_HZ = 100_000_000
"""Of chips of grade -7 with this latency."""
_A10 = 1 << 10
"""Address bit 10 of a precharge: all banks."""


class Command(enum.Enum, shape=3):
    """Levels of the command pins: RAS#, CAS#, WE#, from bit 2 down."""

    MODE = 0b000
    REFRESH = 0b001
    PRECHARGE = 0b010
    ACTIVATE = 0b011
    WRITE = 0b100
    READ = 0b101
    NOTHING = 0b111


class SdramPins(wiring.Signature):
    """Pins of the chip as the controller sees them; clock enable is high, chip select is low."""

    def __init__(self):
        super().__init__(
            {
                "command": Out(Command, init=Command.NOTHING),
                "bank": Out(2),
                "address": Out(13),
                "data": Out(_BITS),
                "drive": Out(1),
                "mask": Out(1, init=1),
                "read_data": In(_BITS),
            }
        )


@dataclass(frozen=True)
class SdramChip:
    """Size and times of a chip with four banks and 16 data pins.

    The times are no shorter than those of the common 256 Mbit chips of grade -7 and faster (data sheets of
    MT48LC16M16A2, AS4C16M16SA, W9825G6KH, IS42S16160G), so that any of them may be on the board.
    """

    row_bits: int = 13
    column_bits: int = 9
    clock_hz: Fraction = Fraction(76_130_000)
    power_up_us: int = 200
    """Before the first command."""
    activate_to_access_ns: int = 21
    """tRCD."""
    precharge_ns: int = 21
    """tRP."""
    write_ns: int = 15
    """tWR."""
    refresh_ns: int = 70
    """tRFC, and tRC."""
    active_ns: int = 50
    """tRAS."""
    refresh_interval_ns: int = 7812
    """On average: 8192 rows in 64 ms."""

    def __post_init__(self) -> None:
        if self.clock_hz > _MOST_CLOCK_HZ:
            raise ValueError(
                f"clock of {self.clock_hz} Hz: with a CAS latency of two, chips go up to {_MOST_CLOCK_HZ} Hz"
            )

    @property
    def address_bits(self) -> int:
        """Of the address of a memory word: column, then bank, then row from the top bits."""
        return self.row_bits + 2 + self.column_bits

    def clocks(self, ns: int) -> int:
        """Clocks that last at least so long."""
        return ceil(Fraction(ns) * self.clock_hz / 1_000_000_000)


class Sdram(wiring.Component):
    """Serve lines to be written and words to be read, one at a time, a line first.

    After power-up, during which the data masks are high, as some data sheets want it, the chip is set to bursts of one
    word and a CAS latency of two clocks. Every access opens a row and
    closes it: a line takes 14 clocks, a read 15 at most, a refresh 6 (at 76.13 MHz), so that a line that is asked for
    every 32 clocks is written before the next.

    The way from the controller's registers through the pads and back takes a number of clocks that the pads' cells
    decide and no simulation of them tells: `read_clocks` is for its user to find out.

    Reset: the start of power-up.  Overflow: none, requests wait.

    Parameters
    ----------
    chip : SdramChip

    Ports
    -----
    pins : Out(SdramPins())
        All outputs from registers.
    read_clocks : In(range(max(READ_CLOCKS) + 1))
        Clocks after which the data of a read are taken, one of `READ_CLOCKS`.
    ready : Out(1)
        Power-up is over.
    write, line : In(1), In(address_bits - 3)
        A line is to be written; both hold until `written`.
    index, value : Out(3), In(16)
        Memory word of the line that is wanted, which is to be at `value` in the next clock.
    written : Out(1)
        One clock: the line stands in the memory.
    read, address : In(1), In(address_bits)
        A word is to be read; both hold until `done`.
    done, word : Out(1), Out(16)
        One clock: `word` is what stands at `address`.
    """

    def __init__(self, chip: SdramChip):
        self._chip = chip
        super().__init__(
            {
                "pins": Out(SdramPins()),
                "read_clocks": In(range(READ_CLOCKS.stop)),
                "ready": Out(1),
                "write": In(1),
                "line": In(chip.address_bits - (LINE_WORDS - 1).bit_length()),
                "index": Out(range(LINE_WORDS)),
                "value": In(_BITS),
                "written": Out(1),
                "read": In(1),
                "address": In(chip.address_bits),
                "done": Out(1),
                "word": Out(_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        chip, pins = self._chip, self.pins
        place = data.StructLayout({"column": chip.column_bits, "bank": 2, "row": chip.row_bits})
        power_up = chip.clocks(1000 * chip.power_up_us)
        # A refresh may have to wait for what is going on.
        interval = chip.clocks(chip.refresh_interval_ns) - 1 - 32
        refreshes = 8

        pause = Signal(range(power_up + 1), init=power_up)
        due = Signal()
        until_due = Signal(range(interval + 1), init=interval)
        left = Signal(range(refreshes + 1), init=refreshes)
        writing = Signal()
        at = Signal(place)
        index = Signal(range(LINE_WORDS))

        def issue(command, *, clocks=1, **levels):
            """Send `command`; the next one can follow after `clocks`."""
            return [
                pins.command.eq(command),
                pause.eq(clocks - 1),
                *(getattr(pins, name).eq(level) for name, level in levels.items()),
            ]

        to_access = chip.clocks(chip.activate_to_access_ns)
        closing = chip.clocks(chip.precharge_ns)
        refreshing = chip.clocks(chip.refresh_ns)
        # After a read the row stays open until the data have come, which is longer than any row must.
        assert to_access + READ_CLOCKS.start >= chip.clocks(chip.active_ns) - 1

        m.d.sync += pins.command.eq(Command.NOTHING)
        m.d.comb += self.index.eq(index)
        with m.If(until_due == 0):
            m.d.sync += [due.eq(1), until_due.eq(interval)]
        with m.Else():
            m.d.sync += until_due.eq(until_due - 1)
        m.d.sync += [self.written.eq(0), self.done.eq(0)]
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.Else(), m.FSM():
            with m.State("POWER_UP"):
                m.d.sync += issue(Command.PRECHARGE, clocks=closing, address=_A10)
                m.next = "REFRESHES"
            with m.State("REFRESHES"):
                m.d.sync += [*issue(Command.REFRESH, clocks=refreshing), left.eq(left - 1)]
                with m.If(left == 1):
                    m.next = "MODE"
            with m.State("MODE"):
                m.d.sync += issue(Command.MODE, clocks=2, bank=0, address=_CAS_LATENCY << 4)
                m.next = "READY"
            with m.State("READY"):
                m.d.sync += [self.ready.eq(1), pins.mask.eq(0)]
                m.next = "IDLE"
            with m.State("IDLE"):
                m.d.sync += [index.eq(0), writing.eq(self.write)]
                wanted = Signal(place)
                m.d.comb += wanted.eq(Mux(self.write, self.line << (LINE_WORDS - 1).bit_length(), self.address))
                # Not what was done in this very clock: its request is still there.
                with m.If((self.write & ~self.written) | (self.read & ~self.write & ~self.done & ~due)):
                    m.d.sync += at.eq(wanted)
                    m.next = "OPEN"
                with m.Elif(due):
                    m.d.sync += [due.eq(0), *issue(Command.REFRESH, clocks=refreshing)]
            with m.State("OPEN"):
                m.d.sync += issue(Command.ACTIVATE, clocks=to_access, bank=at.bank, address=at.row)
                m.d.sync += pins.drive.eq(writing)
                with m.If(writing):
                    m.next = "WRITE"
                with m.Else():
                    m.next = "READ"
            with m.State("WRITE"):
                m.d.comb += self.index.eq(index + 1)
                m.d.sync += issue(Command.WRITE, address=at.column | index, data=self.value)
                m.d.sync += index.eq(index + 1)
                with m.If(index == LINE_WORDS - 1):
                    m.d.sync += pause.eq(chip.clocks(chip.write_ns) - 1)
                    m.next = "CLOSE"
            with m.State("READ"):
                m.d.sync += [*issue(Command.READ, address=at.column), pause.eq(self.read_clocks)]
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.sync += [self.word.eq(pins.read_data), self.done.eq(1)]
                m.d.sync += issue(Command.PRECHARGE, clocks=closing, address=Const(0, 13))
                m.next = "IDLE"
            with m.State("CLOSE"):
                m.d.sync += [self.written.eq(1), pins.drive.eq(0)]
                m.d.sync += issue(Command.PRECHARGE, clocks=closing, address=Const(0, 13))
                m.next = "IDLE"
        return m
