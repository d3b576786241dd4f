"""An SDRAM chip by its data sheet, for simulations: it holds words, and refuses what the chip would not do."""

from collections import deque

from qrelay_gateware.sdram import Command

__all__ = ["CAS_CLOCKS", "ChipModel", "connect_chip"]

CLOCK_NS = 1e9 / 76.13e6
CAS_CLOCKS = 2
# 256 Mbit parts of grade -7: data sheet of AS4C16M16SA.
POWER_UP_NS = 200_000
RCD_NS, RP_NS, RC_NS, RAS_NS, RFC_NS, WR_NS = 21, 21, 63, 42, 63, 14
RAS_MOST_NS = 100_000
REFRESHES_AT_POWER_UP = 2
NS_PER_REFRESH = 64e6 / 8192
NEVER = -1e12


class ChipModel:
    """Call `clock` once per clock with what the controller's port shows; it gives what the port reads in that clock.

    `way` is what the cells in the pads add: the data of a read are at the port `CAS_CLOCKS + way` clocks after its
    command. `power_up_ns` may be shortened, to spare simulations the wait. `broken` is what a broken chip makes of an
    address and a word that is written there.

    Raises AssertionError where a command breaks a rule of the data sheet.
    """

    def __init__(self, way=2, power_up_ns=POWER_UP_NS, broken=lambda address, word: (address, word)):
        self._power_up_ns = power_up_ns
        self.cells = {}
        self.counts = dict.fromkeys(Command, 0)
        self.rows = [None] * 4
        self._broken = broken
        self._now = 0.0
        self._activated, self._closed, self._written = [NEVER] * 4, [NEVER] * 4, [NEVER] * 4
        self._refreshed = self._mode_set = self._read = NEVER
        self._first_access = None
        """Time and number of refreshes at the first ACTIVATE."""
        self._mode = None
        self._precharged = False
        self._coming = deque([None] * (CAS_CLOCKS + way))

    def clock(self, command, bank, address, data, drive, mask):
        self._now += CLOCK_NS
        self._coming.append(None)
        assert mask or self._now >= self._power_up_ns, "data masks are low in power-up"
        command = Command(command)
        self.counts[command] += 1
        if command != Command.NOTHING:
            assert self._now >= self._power_up_ns, f"{command} {self._now:.0f} ns after power-up"
            self._after(self._refreshed, RFC_NS, f"{command} after REFRESH")
            self._after(self._mode_set, 1.5 * CLOCK_NS, f"{command} after MODE")
            assert not mask or command not in (Command.READ, Command.WRITE), f"{command} with data masks high"
            getattr(self, command.name.lower())(bank, address, data, drive)
        if drive:
            self._after(self._read, (CAS_CLOCKS + 1.5) * CLOCK_NS, "controller drives the data pins after READ")
        for number, row in enumerate(self.rows):
            assert row is None or self._now - self._activated[number] < RAS_MOST_NS, f"bank {number} stays open"
        shown = self._coming.popleft()
        # What nobody drives may be anything.
        return 0xA5A5 if shown is None else shown

    def precharge(self, bank, address, data, drive):
        for number in range(4) if address >> 10 & 1 else [bank]:
            if self.rows[number] is not None:
                self._after(self._activated[number], RAS_NS, f"PRECHARGE of bank {number} after ACTIVATE")
                self._after(self._written[number], WR_NS + 0.5 * CLOCK_NS, f"PRECHARGE of bank {number} after WRITE")
            self.rows[number] = None
            self._closed[number] = self._now
        self._precharged = True

    def refresh(self, bank, address, data, drive):
        self._idle("REFRESH")
        self._refreshed = self._now

    def mode(self, bank, address, data, drive):
        self._idle("MODE")
        assert self.counts[Command.REFRESH] >= REFRESHES_AT_POWER_UP
        assert bank == 0
        assert address == CAS_CLOCKS << 4, f"mode {address:#x}: bursts of one word and CAS latency 2 are modelled"
        self._mode = address
        self._mode_set = self._now

    def activate(self, bank, address, data, drive):
        assert self._mode is not None, "ACTIVATE before the mode is set"
        assert self.rows[bank] is None, f"ACTIVATE of bank {bank}, which is open"
        self._after(self._closed[bank], RP_NS, f"ACTIVATE of bank {bank} after PRECHARGE")
        self._after(self._activated[bank], RC_NS, f"ACTIVATE of bank {bank} after ACTIVATE")
        self._first_access = self._first_access or (self._now, self.counts[Command.REFRESH])
        self.rows[bank] = address
        self._activated[bank] = self._now

    def write(self, bank, address, data, drive):
        assert drive, "WRITE without data"
        place, word = self._broken(self._place(bank, address, "WRITE"), data)
        self.cells[place] = word
        self._written[bank] = self._now

    def read(self, bank, address, data, drive):
        place = self._place(bank, address, "READ")
        self._read = self._now
        self._coming[-1] = self.cells.get(place, 0)

    def check_refresh(self):
        """Refreshes since the first access came often enough for all rows."""
        began, before = self._first_access
        spent = self._now - began
        refreshes = self.counts[Command.REFRESH] - before
        # One may be under way.
        assert refreshes + 1 >= spent / NS_PER_REFRESH, f"{refreshes} refreshes in {spent:.0f} ns"

    def _place(self, bank, address, what):
        assert self.rows[bank] is not None, f"{what} in bank {bank}, which is closed"
        self._after(self._activated[bank], RCD_NS, f"{what} after ACTIVATE")
        assert address < 512, f"{what}: column {address}"
        return self.rows[bank] << 11 | bank << 9 | address

    def _idle(self, what):
        assert self._precharged, f"{what} before the first PRECHARGE"
        for number, row in enumerate(self.rows):
            assert row is None, f"{what} while bank {number} is open"
            self._after(self._closed[number], RP_NS, f"{what} after PRECHARGE of bank {number}")

    def _after(self, before, ns, what):
        assert self._now - before >= ns, f"{what}: {self._now - before:.1f} ns, at least {ns:.1f} needed"


def connect_chip(ctx, pins, chip):
    """One clock of the chip in Amaranth's simulator: what the port shows now decides what it reads."""
    word = chip.clock(
        *(ctx.get(getattr(pins, name)) for name in ("command", "bank", "address", "data", "drive", "mask"))
    )
    ctx.set(pins.read_data, word)
