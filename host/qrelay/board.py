"""One station, by name: registers with units and limits, tables, key, counters, records."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .closing import ClosedAtExit
from .errors import IdentityMismatch, LinkTimeout, RegisterError
from .link import DEFAULT_BAUD, Link
from .packet_decoder import LinkStatistics
from .protocol import PROTOCOL_HASH
from .protocol.identity import IDENTITY_WORDS, Identity
from .protocol.records import RecordKind
from .protocol.registers import GROUPS, Group, Register, register
from .protocol.status import Alarm, State
from .protocol.windows import window
from .record_arrays import RecordArray

__all__ = ["KEY_BYTES", "Board"]

KEY_BYTES = 32


class Board(ClosedAtExit):
    """A station reached over a link; use as a context manager.

    >>> with Board.open("/dev/ttyUSB0") as board:
    ...     board.write("receiver.dead_slots_0", 9)
    ...     board.read("receiver.rate_0")
    """

    def __init__(self, link: Link, identity: Identity) -> None:
        self.link = link
        self.identity = identity

    @classmethod
    def open(cls, url: str, *, baud: int = DEFAULT_BAUD, timeout_s: float = 1.0) -> "Board":
        """Open any pyserial URL and check who answers.

        Raises
        ------
        LinkError
            The port cannot be opened or nothing answers.
        IdentityMismatch
            What answers is no qrelay station, or speaks another version of the protocol.
        """
        link = Link.open(url, baud=baud, timeout_s=timeout_s)
        try:
            words = link.read(window("identity").base, IDENTITY_WORDS)
            try:
                identity = Identity.from_words(words, PROTOCOL_HASH)
            except ValueError as error:
                raise IdentityMismatch(f"{url}: {error}") from error
        except BaseException:
            link.close()
            raise
        return cls(link, identity)

    def close(self) -> None:
        """Close the link; the station goes on with what it does."""
        self.link.close()

    @property
    def url(self) -> str:
        """Where the station is reached."""
        return self.link.url

    @property
    def statistics(self) -> LinkStatistics:
        """Running account of the link: losses, damaged frames, retries."""
        return self.link.statistics

    # -- registers and tables ----------------------------------------------------------------------------------------

    def read(self, name: str) -> int:
        """Value of register ``"group.register"``, in its own unit."""
        address, spec = _find(name)
        if spec.access in ("wo", "strobe"):
            raise RegisterError(f"register {name} is {spec.access}: it cannot be read")
        return _join(self.link.read(address, -(-spec.width // 32)))

    def write(self, name: str, value: int) -> None:
        """Set register ``"group.register"``. Raises RegisterError naming register, value and limit."""
        self.write_many({name: value})

    def write_many(self, values: Mapping[str, int]) -> None:
        """Set several registers; all values are checked before the first is sent."""
        self.link.write_all([_encode(name, value) for name, value in values.items()])

    def strobe_once(self, name: str, acted: Callable[[], bool]) -> None:
        """Set off strobe ``"group.register"`` that must not act twice.

        Where no answer comes, it is sent again only if `acted`, asked of the station, says that it did not act.
        """
        address, _ = _find(name)
        for attempts_left in reversed(range(self.link.attempts)):
            try:
                self.link.write(address, [1], once=True)
                return
            except LinkTimeout:
                # Requests are worked off in order: if the strobe comes at all, it came before what `acted` reads.
                if acted():
                    return
                if not attempts_left:
                    raise
                self.statistics.retries += 1

    def read_group(self, name: str) -> dict[str, int]:
        """All readable registers of a group, by their name inside the group."""
        group = _group(name)
        words = self.link.read(group.base, group.words)
        return {
            spec.name: _join(words[address - group.base :][: -(-spec.width // 32)])
            for address, spec in group.addressed()
            if spec.access not in ("wo", "strobe")
        }

    def write_table(self, name: str, values: ArrayLike, first: int = 0) -> None:
        """Load entries of a window from `first` on, pipelined. Raises RegisterError naming entry, value and limit."""
        table = window(name)
        entries = np.asarray(values)
        if table.access == "ro":
            raise RegisterError(f"table {name} is read-only")
        if entries.ndim != 1 or first < 0 or first + len(entries) > table.depth:
            raise RegisterError(
                f"table {name}: entries {first} to {first + entries.size - 1} do not fit its {table.depth} in one row"
            )
        wrong = np.flatnonzero((entries < 0) | (entries >= 1 << table.width))
        if len(wrong):
            index = int(wrong[0])
            raise RegisterError(
                f"table {name}, entry {first + index}: {int(entries[index])} is out of range; give 0 to "
                f"{(1 << table.width) - 1}"
            )
        self.link.write_all([(table.base + first, [int(value) for value in entries])])

    def read_table(self, name: str, first: int = 0, count: int | None = None) -> list[int]:
        """Entries of a readable window."""
        table = window(name)
        count = table.depth - first if count is None else count
        if table.access == "wo":
            raise RegisterError(f"table {name} is write-only")
        if first < 0 or count < 0 or first + count > table.depth:
            raise RegisterError(f"table {name}: entries {first} to {first + count - 1} do not fit its {table.depth}")
        return self.link.read(table.base + first, count)

    def load_key(self, key: bytes) -> None:
        """Load and expand an AES-256 key of the keystream. Raises RegisterError unless it has 32 bytes."""
        if len(key) != KEY_BYTES:
            raise RegisterError(f"key of {len(key)} bytes; AES-256 takes {KEY_BYTES}")
        self.write_table("key", [int.from_bytes(key[i : i + 4], "little") for i in range(0, KEY_BYTES, 4)])
        self.write("keystream.load", 1)

    # -- commands ----------------------------------------------------------------------------------------------------

    def arm(self) -> None:
        """Wait for the start event; counters and running counts begin at zero."""
        self.link.write_and_restart_counts(register("system.arm")[0], [1])

    def disarm(self) -> None:
        """Stop the slot counter; lines go to their idle level."""
        self.write("system.disarm", 1)

    def start(self) -> None:
        """Send the start pulse. Not repeated if the answer is lost: a second pulse would be a second start."""
        try:
            self.link.write(register("system.start")[0], [1], once=True)
        except LinkTimeout:
            if not self.state() & State.RUNNING:
                raise

    def state(self) -> State:
        """Present state bits."""
        return State(self.read("system.state"))

    def alarms(self) -> Alarm:
        """Latched alarm bits."""
        return Alarm(self.read("system.alarms"))

    def clear_alarms(self) -> None:
        """Clear all latched alarms."""
        self.write("system.alarms", 0xFFFF)

    def latch_counters(self) -> None:
        """Copy all counters to their readable copies at one instant."""
        self.write("system.latch_counters", 1)

    def counters(self) -> dict[str, int]:
        """Latch the counters and read them all."""
        self.latch_counters()
        return self.read_group("counters")

    # -- records -----------------------------------------------------------------------------------------------------

    def take(self, kind: RecordKind) -> RecordArray:
        """Records of one kind received since the last call, as a structured array."""
        return self.link.take(kind)

    def events(self, idle_s: float = 1.0) -> Iterator[tuple[RecordKind, RecordArray]]:
        """Arrays of records as they arrive, until none came for `idle_s` seconds or the link went down."""
        while self.link.wait_for_records(idle_s):
            for kind in RecordKind:
                records = self.link.take(kind)
                if len(records):
                    yield kind, records


def _join(words: Sequence[int]) -> int:
    return sum(word << 32 * index for index, word in enumerate(words))


def _find(name: str) -> tuple[int, Register]:
    try:
        return register(name)
    except KeyError as error:
        raise RegisterError(str(error.args[0])) from None


def _group(name: str) -> Group:
    for group in GROUPS:
        if group.name == name:
            return group
    raise RegisterError(f"no group {name!r}; there are {', '.join(group.name for group in GROUPS)}")


def _encode(name: str, value: int) -> tuple[int, list[int]]:
    address, spec = _find(name)
    if spec.access == "ro":
        raise RegisterError(f"register {name} is read-only")
    limit = (1 << spec.width) - 1 if spec.maximum is None else spec.maximum
    if not 0 <= value <= limit:
        unit = f" {spec.unit}s" if spec.unit else ""
        raise RegisterError(f"register {name}: {value} is out of range; give 0 to {limit}{unit} ({spec.doc})")
    return address, [int(value) >> 32 * index & 0xFFFFFFFF for index in range(-(-spec.width // 32))]
