"""How many event records a link carries: from its bit rate and the overhead of packets, and measured on a station."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .board import Board
from .errors import RunError
from .free_run import start_free_run
from .protocol.identity import Identity
from .protocol.packets import EVENT_BASE, MAX_RECORDS, frame_packet
from .protocol.records import RECORD_BITS, RecordKind
from .protocol.registers import DETECTORS
from .protocol.units import FINES_PER_SLOT, SLOTS_PER_WORD
from .protocol.usb import HIGH_SPEED_BPS, HIGH_SPEED_BYTES_PER_S

__all__ = [
    "UART_BITS_PER_BYTE",
    "LinkRate",
    "bytes_per_packet",
    "link_records_per_second",
    "measure",
    "records_per_second",
]

UART_BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit."""
_RUNNING_COUNT_BYTES = 4
_WAIT_S = 0.02
_START_LIMIT_S = 10.0


def bytes_per_packet(records: int = MAX_RECORDS) -> int:
    """Bytes on the wire of an event packet with so many records, from the packet builder itself."""
    if not 1 <= records <= MAX_RECORDS:
        raise ValueError(f"{records} records: an event packet holds 1 to {MAX_RECORDS}")
    # The content does not change the length: COBS adds one byte to any packet.
    return len(frame_packet(EVENT_BASE, 0, bytes(_RUNNING_COUNT_BYTES + records * RECORD_BITS // 8)))


def records_per_second(bps: int, records: int = MAX_RECORDS) -> float:
    """Event records per second that a link of `bps` bits per second carries in packets of `records` each.

    A serial port sends a byte in ten bits. At `HIGH_SPEED_BPS` it is USB: the upper bound of its bulk transfers, which
    hosts reach in part. Under load packets are full. Answers to the host share the link and are not counted here.
    """
    carried = HIGH_SPEED_BYTES_PER_S if bps == HIGH_SPEED_BPS else bps / UART_BITS_PER_BYTE
    return carried / bytes_per_packet(records) * records


def link_records_per_second(identity: Identity) -> float:
    """What a station's link carries by its identity block.

    A station gives its link one byte per word at most: that is the limit where the link itself has none, or a higher
    one.
    """
    words = identity.slot_rate_numerator_hz / identity.slot_rate_denominator / SLOTS_PER_WORD
    own = words / bytes_per_packet() * MAX_RECORDS
    return min(own, records_per_second(identity.link_baud)) if identity.link_baud else own


@dataclass(frozen=True)
class LinkRate:
    """What a station's link carried while more clicks came than it could carry.

    `seconds` are those of the wall, `station_seconds` those of the station's own clock, which on a simulated station
    are others. `lost` records were damaged or lost on the wire or in the host, `dropped` ones found their queue full.
    """

    records: int
    seconds: float
    station_seconds: float
    lost: int
    dropped: int
    damaged_frames: int

    @property
    def per_second(self) -> float:
        """Records per second on the wall."""
        return self.records / self.seconds

    @property
    def per_station_second(self) -> float:
        """Records per second of the station's clock."""
        return self.records / self.station_seconds

    def facts(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "records": self.records,
            "seconds": self.seconds,
            "station_seconds": self.station_seconds,
            "records_per_second": self.per_second,
            "records_per_station_second": self.per_station_second,
            "lost": self.lost,
            "dropped": self.dropped,
            "damaged_frames": self.damaged_frames,
        }


def measure(
    board: Board, seconds: float, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> LinkRate:
    """Let the station's test pulser make more clicks than any link carries, and count the records that arrive.

    `progress` is called with tenths of a second done and to do. The station is disarmed before and afterwards; its
    settings are left as a run does not need them, which configures a station anew. Raises RunError where no records
    come.
    """
    registers = {
        "receiver.windows": 0,
        "receiver.live_mask": 0,
        "receiver.blank": 0,
        "receiver.pulser_period": 1,
        "receiver.pulser_mask": (1 << DETECTORS) - 1,
        "receiver.pulser_lane": 0,
        "receiver.pulser_fine": FINES_PER_SLOT // 2,
        "reference.mode": 0,
        "events.status_words": 0,
    }
    for d in range(DETECTORS):
        registers |= {
            f"receiver.enable_{d}": 1,
            f"receiver.delay_slots_{d}": 0,
            f"receiver.delay_fine_{d}": 0,
            f"receiver.dead_slots_{d}": 0,
            f"receiver.gate_start_{d}": 0,
            f"receiver.gate_width_{d}": FINES_PER_SLOT,
        }
    for kind in RecordKind:
        registers[f"events.enable_{kind.name.lower()}"] = int(kind == RecordKind.CLICK)
    board.disarm()
    board.clear_alarms()
    board.write_many(registers)
    board.take(RecordKind.CLICK)
    damaged = board.statistics.damaged_frames
    start_free_run(board)
    try:
        records, elapsed, slots = _count(board, seconds, progress)
        dropped = board.read("events.dropped_click")
    finally:
        board.disarm()
        board.write("receiver.pulser_period", 0)
        board.write("events.enable_click", 0)
        board.take(RecordKind.CLICK)
    identity = board.identity
    return LinkRate(
        records=records,
        seconds=elapsed,
        station_seconds=slots * identity.slot_rate_denominator / identity.slot_rate_numerator_hz,
        lost=board.statistics.lost_records[RecordKind.CLICK] + board.statistics.discarded_records[RecordKind.CLICK],
        dropped=dropped,
        damaged_frames=board.statistics.damaged_frames - damaged,
    )


def _count(board: Board, seconds: float, progress: Callable[[int, int], None]) -> tuple[int, float, int]:
    """Records in at least `seconds`, the time that they took, and the slots between their ends.

    The first records fill queues and buffers on the way; what counts begins after them. Time on the station's clock is
    read before each end, as the slot that the host sees last would lag behind by what waits in the queues.
    """
    board.link.wait_for_records(_START_LIMIT_S)
    if not len(board.take(RecordKind.CLICK)):
        names = ", ".join([*board.state().names(), *board.alarms().names()]) or "none"
        raise RunError(f"station at {board.url}: no clicks from its test pulser; state and alarms: {names}")
    time.sleep(min(0.2, seconds / 4))
    first_slot = board.read("timebase.slot_now")
    board.take(RecordKind.CLICK)
    began = time.monotonic()
    records = 0
    tenths = max(1, int(10 * seconds))
    while (elapsed := time.monotonic() - began) < seconds:
        time.sleep(_WAIT_S)
        records += len(board.take(RecordKind.CLICK))
        progress(min(tenths, int(10 * elapsed)), tenths)
    last_slot = board.read("timebase.slot_now")
    records += len(board.take(RecordKind.CLICK))
    return records, time.monotonic() - began, last_slot - first_slot
