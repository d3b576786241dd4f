"""What the digital twin simulates between the boards: the [twin] table of a run file."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from .protocol.registers import LINES
from .protocol.units import DEFAULT_SLOT_RATE_HZ, SLOTS_PER_WORD
from .strict_model import StrictModel

if TYPE_CHECKING:
    from qrelay_sim.parameters import RelayParameters

__all__ = ["ARMS", "PAD_WORDS", "WIRE_SLOTS", "ArmLengths", "LoopBack", "PathDelays", "TwinSettings", "slots_of_fibre"]

ARMS = ("alice_m1", "source_m1", "source_m2", "bob_m2")
"""The four paths of light, in the order of the chain."""

WIRE_SLOTS = 24
"""Longest wire of the twin's loop-back."""

PAD_WORDS = 2
"""Words that `pin_latency` of a station with carry chains allows for the way from pad to chain."""

_Length = Annotated[float, Field(ge=0, le=1000)]
_Line = Annotated[int, Field(ge=-1, lt=LINES)]
_Wire = Annotated[int, Field(ge=0, le=WIRE_SLOTS)]
_Pad = Annotated[float, Field(ge=1, le=100)]
_PAD_NS = PAD_WORDS * SLOTS_PER_WORD * 1e9 / float(DEFAULT_SLOT_RATE_HZ)
_Delay = Annotated[int, Field(ge=0, le=1 << 24)]
_Probability = Annotated[float, Field(ge=0, le=1)]
_Photons = Annotated[float, Field(ge=0, le=100)]


def slots_of_fibre(length_km: float, delay_us_per_km: float) -> int:
    """Delay of a fibre, rounded to whole slots."""
    return round(length_km * delay_us_per_km * 1e-6 * float(DEFAULT_SLOT_RATE_HZ))


class PathDelays(StrictModel):
    """Optical delay of each path in slots, from a station's output to the node's input."""

    alice_m1: _Delay
    source_m1: _Delay
    source_m2: _Delay
    bob_m2: _Delay


class ArmLengths(StrictModel):
    """Fibre length of each arm in km."""

    alice_m1: _Length
    source_m1: _Length
    source_m2: _Length
    bob_m2: _Length


class LoopBack(StrictModel):
    """Wires from each station's output lines to its own detector inputs, in place of all light."""

    lines: tuple[_Line, _Line, _Line, _Line] = Field(
        default=(0, 1, 2, 3), description="line wired to each detector input, -1: none"
    )
    delay_slots: tuple[_Wire, _Wire, _Wire, _Wire] = Field(default=(0, 0, 0, 0), description="delay of each wire")


class TwinSettings(StrictModel):
    """Optics of the simulated bench. Defaults are preset A of physics.md section 6 at 50 km."""

    engine: Literal["rtl", "fast"] = Field(
        default="rtl", description="rtl: four boards of the gateware; fast: clicks drawn where they happen, no gateware"
    )
    seed: int = Field(default=1, ge=0, description="seed of everything random in the optics")
    length_km: _Length = Field(default=50.0, description="fibre from Alice to Bob in total, four equal arms")
    arm_lengths_km: ArmLengths | None = Field(default=None, description="unequal arms; replaces length_km")
    fibre_loss_db_per_km: float = Field(default=0.20, ge=0, le=10)
    fibre_delay_us_per_km: float = Field(default=4.9, ge=0, le=10)
    path_delay_slots: PathDelays | None = Field(
        default=None, description="replaces the delays that follow from the lengths"
    )
    detector_efficiency: _Probability = Field(
        default=0.75, description="of every detector, with the optics of its node"
    )
    detector_dead_slots: int = Field(
        default=0, ge=0, le=100_000, description="slots a detector itself is blind after a click"
    )
    dark_count_probability: _Probability = Field(default=1e-8, description="per detector and slot")
    afterpulse_probability: _Probability = Field(default=0.0, description="of one more click after a click")
    source_mean_photon_number: float = Field(
        default=0.30, ge=0, le=1, description="leaving the source, both arms together"
    )
    g2: float = Field(default=0.010, ge=0, le=1, description="second-order correlation of the source at zero delay")
    overlap: _Probability = Field(default=0.95, description="of the dot's photon with the users' pulses, at both nodes")
    mean_photon_number_by_level_code: tuple[_Photons, _Photons, _Photons, _Photons] | None = Field(
        default=None, description="leaving a user for level code 0 to 3; none: as the [[settings]] of the run say"
    )
    reference_photon_number: _Photons = Field(
        default=0.0, description="of the reference light leaving the source in reference segments, both arms together"
    )
    reference_visibility: _Probability = Field(
        default=0.95, description="of the reference's interference with users' light of equal intensity"
    )
    phase_offset_rad: float = Field(default=0.0, description="constant added to Alice's phase minus Bob's")
    phase_drift_rad_per_ms: float = Field(default=0.0, ge=0, description="rms slope of the phase difference")
    phase_drift_correlation_ms: float = Field(default=1.0, gt=0, description="correlation time of that slope")
    delay_drift_ps: float = Field(
        default=0.0, ge=0, le=1000, description="fast only: rms error of the light's arrival at each node"
    )
    delay_drift_correlation_s: float = Field(default=60.0, gt=0, description="correlation time of that error")
    blink_on_us: float = Field(default=100.0, gt=0, description="fast only: mean time that the source shines")
    blink_off_us: float = Field(default=0.0, ge=0, description="fast only: mean time that it is dark; 0: never")
    arrival_fines: int = Field(
        default=64, ge=0, le=255, description="mean arrival of the light in its slot, 1/256 slot"
    )
    noise_ones: _Probability = Field(
        default=0.5, description="of a 1 in a sample of each board's noise source; its health tests stop a biased one"
    )
    external_bits: bool = Field(
        default=False, description="each board has a source of key bits; set by choices.external_key_bit"
    )
    jitter_ps: float = Field(default=40.0, ge=0, le=3000, description="rms of the detectors' timing")

    detectors: Literal["x2", "tdc"] = Field(
        default="x2",
        description="rtl only: what measures the edges, two bins per slot or carry chains (of the receiver; with "
        "loop_back of all stations), whose tap widths come from a timing model",
    )
    tdc_seed: int = Field(default=1, ge=0, description="of the chains' taps")
    tdc_pad_ns: tuple[_Pad, _Pad, _Pad, _Pad] = Field(
        default=(_PAD_NS, _PAD_NS, _PAD_NS, _PAD_NS),
        description="way from each detector's pad to the fourth tap of its chain, the first that tells; by default "
        "what `pin_latency` allows for it",
    )
    loop_back: LoopBack | None = Field(
        default=None, description="rtl only: wires from lines to detectors instead of light, for `qrelay selftest`"
    )

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        n = self.source_mean_photon_number
        two = self.g2 * n * n / 2
        if n - 2 * two < 0:
            raise ValueError(f"g2 = {self.g2} is impossible with source_mean_photon_number = {n}: lower one of them")
        for key in ("delay_drift_ps", "blink_off_us"):
            if self.engine != "fast" and getattr(self, key):
                raise ValueError(
                    f"{key} = {getattr(self, key)} needs the fast twin: set engine = 'fast', or leave it out"
                )
        if self.engine == "fast" and self.detectors == "tdc":
            raise ValueError(
                "detectors = 'tdc': the fast twin runs no gateware; set engine = 'rtl', or detectors = 'x2'"
            )
        if self.engine == "fast" and self.reference_photon_number:
            raise ValueError(
                f"reference_photon_number = {self.reference_photon_number}: the fast twin draws no reference light; "
                "set engine = 'rtl', or give 0"
            )
        return self

    def arm_km(self) -> dict[str, float]:
        """Length of each of the four arms in km."""
        if self.arm_lengths_km is not None:
            return {arm: getattr(self.arm_lengths_km, arm) for arm in ARMS}
        return dict.fromkeys(ARMS, self.length_km / 4)

    def path_delays(self) -> dict[str, int]:
        """Delay of each of the four arms in slots."""
        if self.path_delay_slots is not None:
            return {arm: getattr(self.path_delay_slots, arm) for arm in ARMS}
        lengths = self.arm_km()
        # A bench has at least some metres of patch fibre in each path.
        return {arm: max(8, slots_of_fibre(lengths[arm], self.fibre_delay_us_per_km)) for arm in ARMS}

    def level_photon_numbers(self) -> tuple[float, float, float, float]:
        """Mean photon number leaving a user for each level code. Raises ValueError if none is set."""
        if self.mean_photon_number_by_level_code is None:
            raise ValueError("twin.mean_photon_number_by_level_code is not set; give four mean photon numbers")
        return self.mean_photon_number_by_level_code

    def relay_parameters(self) -> "RelayParameters":
        """The same bench as the closed-form model wants it; no phase residual is assumed."""
        from qrelay_sim.parameters import RelayParameters

        arms = self.arm_km()
        return RelayParameters(
            name="twin",
            source_mean_photons=self.source_mean_photon_number,
            g2=self.g2,
            overlap=self.overlap,
            eta_d=self.detector_efficiency,
            dark_count_per_gate=self.dark_count_probability,
            arms_km=(arms["alice_m1"], arms["source_m1"], arms["source_m2"], arms["bob_m2"]),
            attenuation_db_per_km=self.fibre_loss_db_per_km,
            phase_residual_rms_rad=0.0,
        )
