"""From a run file to the registers and tables of each station."""

from .alignment import Alignment
from .board import Board
from .choice_keys import BoardKey, ChoiceKey
from .config import RunConfig
from .fine_delay import settle, taps
from .frame import FrameLayout
from .modulation import sender_lines, source_lines, step_entries
from .protocol.choice import SETTINGS
from .protocol.registers import DETECTORS, FRAME_MODES, LINES, REFERENCE_MODES, SEGMENT_KINDS
from .protocol.units import SLOTS_PER_BLOCK, SLOTS_PER_WORD
from .reference_steps import ReferenceSteps, sender_steps
from .success_rules import success_rule
from .tdc_board import pads

__all__ = ["COUNTED_KINDS", "audit_slot", "configure", "detector_trims", "sender_steps"]

COUNTED_KINDS = (SEGMENT_KINDS.index("quantum"),)
"""Segment kinds whose slots count: a run blanks the clicks of all others."""


def detector_trims(config: RunConfig) -> tuple[int, ...]:
    """Extra delay of each detector input in slots."""
    trims = [detector.delay_slots for detector in config.receiver.detectors]
    return tuple(trims + [0] * (DETECTORS - len(trims)))


def audit_slot(alignment: Alignment) -> int:
    """First slot of the audit: behind the longest line delay, so that every line shows a slot of the run."""
    return alignment.first_slot + 256 // SLOTS_PER_BLOCK * SLOTS_PER_BLOCK


def configure(
    board: Board, role: str, config: RunConfig, alignment: Alignment, key: ChoiceKey | BoardKey | None
) -> None:
    """Bring a station from any state to ready-to-arm for its `role`; `key` is given to senders only.

    A sender that makes its own keys has none yet.
    """
    board.disarm()
    board.clear_alarms()
    timing = alignment.stations[role]
    layout = FrameLayout.of(config.frame)
    steps = sender_steps(config)
    registers = {
        "timebase.start_source": 1,
        "timebase.start_slot": timing.start_slot,
        "timebase.length": timing.length,
        "timebase.sync_period": 0,
        "sequencer.segments": len(layout.kinds),
        "sequencer.steps": len(steps),
        "sequencer.step_words": config.frame.step_slots // SLOTS_PER_WORD,
        "keystream.enable": int(key is not None),
        "entropy.on_board": 0,
        "entropy.required": 0,
        "entropy.reseed_words": 0,
        "external.enable": int(key is not None and config.choices.external_key_bit),
        "modulator.enable": int(role != "receiver"),
        "receiver.enable": int(role == "receiver"),
    }
    for line in range(LINES):
        registers[f"modulator.delay_{line}"] = timing.line_delay_slots
        registers[f"modulator.invert_{line}"] = 0
        registers[f"modulator.mode_{line}"] = 0
    registers |= taps(board, config.fine_delay_taps.of(role))
    registers |= _events(role, config)
    if role == "receiver":
        registers |= _receiver(config, alignment) | pads(board)
    if key is not None:
        registers |= {"keystream.nonce": key.nonce, "keystream.stream": key.stream}
        registers |= {f"keystream.threshold_{k}": key.thresholds[k - 1] for k in range(1, SETTINGS)}
        registers["audit.first_slot"] = audit_slot(alignment)
    board.write_many(registers)
    board.write_table("segments", layout.entries())
    counts = role == "receiver" and config.reference_records != "off"
    board.write_table("steps", ReferenceSteps.of(config).table() if counts else step_entries(steps))
    if role == "receiver":
        rule = success_rule(config.receiver.success_rule, [d.name for d in config.receiver.detectors])
        board.write("receiver.windows", int(rule.windows))
        board.write_table("success", rule.table)
    elif role == "source":
        board.write_table("lines", source_lines())
    else:
        board.write_table("lines", sender_lines([setting.level_code for setting in config.settings]))
    settle(board, role)
    if key is not None:
        if isinstance(key, ChoiceKey):
            board.load_key(key.key)
        if config.audit:
            board.write("audit.arm", 1)


def _events(role: str, config: RunConfig) -> dict[str, int]:
    receiver = role == "receiver"
    frames = config.events.frames if receiver else "off"
    return {
        "events.enable_success": int(receiver),
        "events.enable_click": int(receiver and config.events.clicks != "off"),
        "events.enable_frame": int(frames != "off"),
        "events.enable_gap": 1,
        "events.enable_key": 1,
        "events.enable_status": 1,
        "events.frame_mode": FRAME_MODES.index(frames),
        "events.enable_reference": int(receiver and config.reference_records != "off"),
        "events.status_words": 0,
    }


def _receiver(config: RunConfig, alignment: Alignment) -> dict[str, int]:
    detectors = config.receiver.detectors
    blank = sum(1 << kind for kind in range(len(SEGMENT_KINDS)) if kind not in COUNTED_KINDS)
    registers = {
        "receiver.live_mask": (1 << len(detectors)) - 1,
        "receiver.blank": blank,
        "receiver.pulser_period": 0,
        "reference.mode": REFERENCE_MODES.index(config.reference_records),
        "reference.bins": len(ReferenceSteps.of(config).steps),
        "reference.sum_frames": config.events.reference_frames,
    }
    for i in range(DETECTORS):
        registers[f"receiver.enable_{i}"] = int(i < len(detectors))
    for i, (detector, dead) in enumerate(zip(detectors, config.receiver.dead_slots_of_detectors(), strict=True)):
        registers |= {
            f"receiver.delay_slots_{i}": alignment.detector_delay_slots[i] + detector.delay_slots,
            f"receiver.delay_fine_{i}": detector.delay_fines,
            f"receiver.invert_{i}": int(detector.active_low),
            f"receiver.dead_slots_{i}": dead,
            f"receiver.gate_start_{i}": detector.gate_start_fines,
            f"receiver.gate_width_{i}": detector.gate_width_fines,
            f"receiver.late_start_{i}": detector.late_start_fines,
            f"receiver.late_width_{i}": detector.late_width_fines,
        }
    return registers
