"""A run as a TOML file: every key checked, every error names its key."""

import math
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from .choice_settings import ChoiceSettings
from .errors import ConfigError
from .protocol.choice import SETTINGS, THRESHOLD_RANGE
from .protocol.registers import DETECTORS, FINE_DELAY_TAPS, LINES, REFERENCE_BINS
from .protocol.units import SLOTS_PER_BLOCK, SLOTS_PER_WORD
from .strict_model import StrictModel
from .success_rules import success_rule
from .twin_settings import PathDelays, TwinSettings

__all__ = [
    "STATIONS",
    "DetectorConfig",
    "EventsConfig",
    "FrameConfig",
    "ReceiverConfig",
    "RunConfig",
    "Segment",
    "Setting",
    "SiftingConfig",
    "Stations",
    "Step",
    "TwinSettings",
    "load_config",
    "parse_config",
]

STATIONS = ("alice", "bob", "source", "receiver")
TWIN = "twin"


class Stations(StrictModel):
    """Where each station is reached: a pyserial URL, or "twin" for a simulated board."""

    alice: str = TWIN
    bob: str = TWIN
    source: str = TWIN
    receiver: str = TWIN
    master: Literal["alice", "bob", "source", "receiver"] = Field(default="source", description="sends the start pulse")
    start_delay_words: dict[Literal["alice", "bob", "source", "receiver"], Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, description="words by which a station sees the start pulse late"
    )

    def urls(self) -> dict[str, str]:
        """URL, or "twin", by station."""
        return {name: getattr(self, name) for name in STATIONS}

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        simulated = [name for name, url in self.urls().items() if url == TWIN]
        if simulated and any(self.start_delay_words.values()):
            raise ValueError(
                f"start_delay_words = {self.start_delay_words}: simulated boards all see the start pulse together; "
                "leave it out, or give 0"
            )
        if simulated and len(simulated) < len(STATIONS):
            rest = ", ".join(name for name in STATIONS if name not in simulated)
            raise ValueError(f"light passes between simulated boards only: give {rest} as 'twin' as well, or none")
        return self


class Segment(StrictModel):
    """A part of the frame."""

    kind: Literal["reference", "guard", "quantum", "idle"]
    slots: int = Field(gt=0, multiple_of=SLOTS_PER_WORD, lt=SLOTS_PER_WORD << 24)


class Step(StrictModel):
    """What the senders do during one step of a segment that is not quantum."""

    setting: str
    phase: int = Field(ge=0, le=15)


class FrameConfig(StrictModel):
    """The frame that repeats through the run."""

    segments: Annotated[tuple[Segment, ...], Field(min_length=1, max_length=8)] = (Segment(kind="quantum", slots=8192),)
    steps: Annotated[tuple[Step, ...], Field(max_length=64)] = ()
    step_slots: int = Field(default=4, ge=4, le=4 * 65535, multiple_of=SLOTS_PER_WORD)

    @model_validator(mode="after")
    def _blocks(self) -> Self:
        total = sum(segment.slots for segment in self.segments)
        if total % SLOTS_PER_BLOCK:
            raise ValueError(f"the frame has {total} slots; make it a multiple of {SLOTS_PER_BLOCK}")
        return self


class Setting(StrictModel):
    """A setting that a sender may draw: how often, how bright, and by which code on its level lines."""

    name: str = Field(min_length=1)
    probability: float = Field(ge=0, le=1)
    mean_photon_number: float = Field(ge=0, le=100)
    level_code: int = Field(ge=0, le=3)


class DetectorConfig(StrictModel):
    """One detector input; its number is its place in the list."""

    name: str
    delay_slots: int = Field(default=0, ge=0, le=2047, description="trim, on top of the delay that aligns the stations")
    delay_fines: int = Field(default=0, ge=0, le=255)
    active_low: bool = Field(default=False, description="the falling edge of the input is the click")
    dead_slots: int | None = Field(default=None, ge=0, le=65535, description="replaces receiver.dead_slots")
    gate_start_fines: int = Field(default=0, ge=0, le=255)
    gate_width_fines: int = Field(default=256, ge=0, le=256)
    late_start_fines: int = Field(default=0, ge=0, le=255)
    late_width_fines: int = Field(default=0, ge=0, le=256)


_DETECTOR_NAMES = ("m1_plus", "m1_minus", "m2_plus", "m2_minus")


class ReceiverConfig(StrictModel):
    """Detectors and success rule of the receiver."""

    success_rule: str | dict[str, Annotated[int, Field(ge=1, le=15)]] = Field(
        default="one-per-node",
        description="a rule by name (see `qrelay.success_rules`) or outcome codes by pattern 'm1_plus m2_plus'",
    )
    dead_slots: int = Field(default=0, ge=0, le=65535)
    bitstream: str | None = Field(
        default=None, description="file that was flashed: offsets of carry chains are kept under its hash"
    )
    subtract_tdc_offsets: bool = Field(default=True, description="take the kept offsets from the detectors' delays")
    detectors: Annotated[tuple[DetectorConfig, ...], Field(min_length=1, max_length=DETECTORS)] = tuple(
        DetectorConfig(name=name) for name in _DETECTOR_NAMES
    )

    def dead_slots_of_detectors(self) -> list[int]:
        """Slots after a click in which each detector's hits do not count."""
        return [self.dead_slots if detector.dead_slots is None else detector.dead_slots for detector in self.detectors]


class EventsConfig(StrictModel):
    """What is recorded beside successes."""

    clicks: Literal["off", "sample", "all"] = "sample"
    click_sample: int = Field(default=20_000, ge=0, description="clicks after which sampling stops")
    frames: Literal["off", "all", "with_success"] = "off"
    reference: Literal["off", "all", "with_success", "sum"] = Field(
        default="sum", description="counts of reference segments: per frame, of frames with a success, or summed"
    )
    reference_frames: int = Field(default=32, ge=1, le=65535, description="frames that 'sum' adds up")


class SiftingConfig(StrictModel):
    """Phase matching (P1, physics.md section 2): which settings play which part."""

    key: str = "mu"
    decoy: str = "nu"
    vacuum: str = "vac"
    phase_offset: int | Literal["auto"] = Field(
        default=0, description="j_off in 1/16 turn, or found from decoy successes"
    )
    invert: bool = Field(default=False, description="swap same and opposite sign: which port is which is a calibration")
    error_correction_efficiency: float = Field(default=1.10, ge=1, le=3)

    @model_validator(mode="after")
    def _offset(self) -> Self:
        if isinstance(self.phase_offset, int) and not 0 <= self.phase_offset < 16:
            raise ValueError(f"phase_offset {self.phase_offset} is no 16th of a turn; give 0 to 15 or 'auto'")
        return self


_Detector = Annotated[int, Field(ge=0, lt=DETECTORS)]
_Taps = Annotated[tuple[Annotated[int, Field(ge=0, lt=FINE_DELAY_TAPS)], ...], Field(max_length=LINES)]


class FineDelays(StrictModel):
    """Taps of the delay element of each line, from line 0 on; 0 for those not listed. A tap is nominally 25 ps."""

    alice: _Taps = ()
    bob: _Taps = ()
    source: _Taps = ()

    def of(self, role: str) -> tuple[int, ...]:
        """Taps of all lines of a station; the receiver's are 0."""
        taps: tuple[int, ...] = {"alice": self.alice, "bob": self.bob, "source": self.source}.get(role, ())
        return taps + (0,) * (LINES - len(taps))


class HistogramsConfig(StrictModel):
    """Histograms that the receiver takes on board."""

    fine: Literal["off", "hits", "clicks"] = Field(
        default="off", description="by place in the slot: hits before the gate, or gated clicks"
    )
    lag: tuple[_Detector, _Detector] | None = Field(
        default=None, description="detectors a and b whose clicks are paired by slots between them (g2)"
    )


class RunConfig(StrictModel):
    """Everything that defines a run."""

    name: str = Field(default="run", pattern=r"^[A-Za-z0-9._-]+$")
    slots: int = Field(default=100_000_000, ge=0, lt=1 << 47, multiple_of=SLOTS_PER_BLOCK, description="0: no end")
    seed: int | None = Field(default=None, ge=0, description="twin only: reproducible keys of the host")
    output: str = Field(default="runs", description="folder in which the run folder is made")
    audit: bool = Field(default=True, description="capture line states of both senders and compare with the choices")
    stations: Stations = Stations()
    fine_delay_taps: FineDelays = FineDelays()
    frame: FrameConfig = FrameConfig()
    settings: Annotated[tuple[Setting, ...], Field(min_length=1, max_length=SETTINGS)]
    receiver: ReceiverConfig = ReceiverConfig()
    events: EventsConfig = EventsConfig()
    histograms: HistogramsConfig = HistogramsConfig()
    sifting: SiftingConfig = SiftingConfig()
    choices: ChoiceSettings = ChoiceSettings()
    path_delay_slots: PathDelays | None = Field(default=None, description="needed for boards; the twin has its own")
    twin: TwinSettings = TwinSettings()

    @property
    def reference_records(self) -> Literal["off", "all", "with_success", "sum"]:
        """Which counts of the reference segments are recorded; "off" where the frame has no such segment."""
        has_any = any(segment.kind == "reference" for segment in self.frame.segments)
        return self.events.reference if has_any else "off"

    @property
    def simulated(self) -> bool:
        """The stations are simulated boards."""
        return self.stations.alice == TWIN

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [setting.name for setting in self.settings]
        if len(set(names)) < len(names):
            raise ValueError(f"settings: names {names} must differ")
        total = math.fsum(setting.probability for setting in self.settings)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"settings: probabilities add up to {total:.9g}; make them add up to 1")
        self._check_levels()
        self._check_receiver()
        known = set(names)
        for key in ("key", "decoy", "vacuum"):
            if getattr(self.sifting, key) not in known:
                value = getattr(self.sifting, key)
                raise ValueError(f"sifting.{key}: no setting {value!r}; there are {', '.join(names)}")
        self._check_drawn()
        for index, step in enumerate(self.frame.steps):
            if step.setting not in known:
                there = ", ".join(names)
                raise ValueError(f"frame.steps.{index}.setting: no setting {step.setting!r}; there are {there}")
        self._check_reference()
        if self.choices.external_key_bit and len(self.choices.on_board()) < 2:
            raise ValueError("choices.external_key_bit: needs keys made on board; set alice_key and bob_key = 'board'")
        if self.choices.on_board() and self.simulated and self.twin.engine == "fast":
            raise ValueError(
                "choices: the fast twin has no stations that could make keys; set twin.engine = 'rtl', or alice_key "
                "and bob_key = 'host'"
            )
        if (self.histograms.fine != "off" or self.histograms.lag) and self.simulated and self.twin.engine == "fast":
            raise ValueError(
                "histograms: the fast twin has no station that could count; set twin.engine = 'rtl', or leave "
                "[histograms] out"
            )
        if not self.simulated:
            if self.path_delay_slots is None:
                raise ValueError("path_delay_slots: missing; boards need the optical delay of the four paths in slots")
            if self.seed is not None:
                raise ValueError("seed: a key from a seed is known to all; leave it out for boards")
        return self

    def _check_levels(self) -> None:
        """A level code is one brightness: settings that share it must ask for the same."""
        first: dict[int, int] = {}
        for index, setting in enumerate(self.settings):
            other = first.setdefault(setting.level_code, index)
            before = self.settings[other].mean_photon_number
            if setting.mean_photon_number != before:
                raise ValueError(
                    f"settings.{index}.mean_photon_number: {setting.mean_photon_number:g} with level_code "
                    f"{setting.level_code}, for which settings.{other}.mean_photon_number says {before:g}; give each "
                    "brightness its own level_code (0 to 3), or both settings the same mean_photon_number"
                )

    def _check_receiver(self) -> None:
        receiver = self.receiver
        names = [detector.name for detector in receiver.detectors]
        if len(set(names)) < len(names):
            raise ValueError(f"receiver.detectors: names {names} must differ")
        try:
            rule = success_rule(receiver.success_rule, names)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if not any(rule.table[: 1 << len(names) * (2 if rule.windows else 1)]):
            raise ValueError(
                f"receiver.success_rule: {receiver.success_rule!r} holds for no clicks of the {len(names)} detectors "
                f"{names}; list more under receiver.detectors, or give another rule"
            )
        if receiver.bitstream is not None and self.simulated and self.twin.detectors != "tdc":
            raise ValueError(
                f"receiver.bitstream = {receiver.bitstream!r}: it is for offsets of carry chains, and the twin's "
                "receiver has none; set twin.detectors = 'tdc', or leave it out"
            )

    def _check_drawn(self) -> None:
        for index, (setting, drawn) in enumerate(zip(self.settings, self.drawn_probabilities(), strict=True)):
            if setting.probability and not drawn:
                raise ValueError(
                    f"settings.{index}.probability: {setting.probability:g} means never, as settings are drawn in "
                    f"steps of 1/{THRESHOLD_RANGE}; give 0, or at least {2 / THRESHOLD_RANGE:.2g}"
                )
        key = self.sifting.key
        if self.receiver.success_rule == "one-per-node" and not self.settings[self.setting_index(key)].probability:
            raise ValueError(
                f"sifting.key: setting {key!r} has probability 0, so that no bit can be sifted; give it at least "
                f"{2 / THRESHOLD_RANGE:.2g}, or name a setting that is drawn"
            )

    def _check_reference(self) -> None:
        if self.reference_records == "off":
            return
        bins = len({(step.setting, step.phase) for step in self.frame.steps}) or 1
        if bins > REFERENCE_BINS:
            raise ValueError(
                f"frame.steps: {bins} different steps; the reference counters have {REFERENCE_BINS} bins: repeat "
                "steps, or set events.reference = 'off'"
            )
        words = sum(segment.slots for segment in self.frame.segments) // SLOTS_PER_WORD
        words *= self.events.reference_frames if self.events.reference == "sum" else 1
        needed = DETECTORS // 2 * bins + 2
        if words < needed:
            raise ValueError(
                f"events.reference: {words} words of frame are too few to send {bins} bins; give the frame "
                f"{needed * SLOTS_PER_WORD} slots or sum more frames"
            )

    def check_files(self) -> None:
        """Raise ConfigError for a file that is named and cannot be read.

        Apart from the validation of the keys: what a run was is read where its files may be gone.
        """
        named = self.receiver.bitstream
        if named is not None:
            try:
                Path(named).open("rb").close()
            except OSError as error:
                raise ConfigError(
                    f"receiver.bitstream = {named!r}: {error.strerror}; give the file that was flashed, or leave it out"
                ) from error

    def thresholds(self) -> tuple[int, ...]:
        """The seven cumulative thresholds of the senders' choices, nearest to the given probabilities."""
        running = 0.0
        thresholds = []
        for setting in self.settings[:-1]:
            running += setting.probability
            thresholds.append(round(running * THRESHOLD_RANGE))
        return tuple(thresholds + [THRESHOLD_RANGE] * (SETTINGS - 1 - len(thresholds)))

    def drawn_probabilities(self) -> tuple[float, ...]:
        """Probability of each setting as it is really drawn, in 1/4096."""
        edges = (0, *self.thresholds(), THRESHOLD_RANGE)
        return tuple((edges[k + 1] - edges[k]) / THRESHOLD_RANGE for k in range(len(self.settings)))

    def setting_index(self, name: str) -> int:
        """Number 0..7 of the setting `name`."""
        return next(index for index, setting in enumerate(self.settings) if setting.name == name)

    def path_delays(self) -> dict[str, int]:
        """Optical delay of each path in slots."""
        if self.path_delay_slots is not None:
            return self.path_delay_slots.model_dump()
        return self.twin.path_delays()

    def twin_settings(self) -> TwinSettings:
        """The [twin] table with what follows from the rest of the file filled in."""
        update: dict[str, object] = {}
        if self.twin.mean_photon_number_by_level_code is None:
            levels = [0.0] * 4
            for setting in self.settings:
                levels[setting.level_code] = setting.mean_photon_number
            update["mean_photon_number_by_level_code"] = tuple(levels)
        if self.choices.external_key_bit:
            update["external_bits"] = True
        if self.path_delay_slots is not None:
            update["path_delay_slots"] = self.path_delay_slots
        return self.twin.model_copy(update=update)


def parse_config(text: str, source: str = "run file") -> RunConfig:
    """Read a run file's text. Raises ConfigError naming each key that is wrong."""
    try:
        return RunConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError(_explain(error, source)) from error


def load_config(path: Path | str) -> RunConfig:
    """Read a run file. Raises ConfigError naming the file and each key that is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_config(text, str(path))


def _explain(error: ValidationError, source: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        value = problem.get("input")
        shown = f" (given: {value!r})" if key and not isinstance(value, dict) else ""
        if problem["type"] == "extra_forbidden":
            message, shown = "no such key; `qrelay run --template` prints an example", ""
        lines.append(f"{source}: {key + ': ' if key else ''}{message}{shown}")
    return "\n".join(lines)
