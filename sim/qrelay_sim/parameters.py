"""Parameters of the relay and of the baselines it is compared with (physics.md section 6).

Where each value of a preset comes from is stated beside it, in ``presets/*.toml``.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from qrelay_sim.success_table import DOUBLE_CLICK_RULES
from qrelay_sim.timing import Filtered, Timing

__all__ = ["RelayParameters", "preset"]


@dataclass(frozen=True)
class RelayParameters:
    """One relay, Alice - M1 - S - M2 - Bob, as the click model needs it.

    Parameters
    ----------
    name : str
        Label for plots and reports.
    source_mean_photons : float
        Mean photon number n = p1 + 2 p2 leaving S at the fibre wavelength, both outputs of its splitter together.
    g2 : float
        2 p2 / n^2.
    overlap : float
        M = <psi_coh|rho_dot|psi_coh>, over all degrees of freedom, at both nodes.
    node_overlaps : (M1, M2, M12) or None
        Unequal overlaps: M1 and M2 at the nodes, M12 in the term that carries the phase; M12^2 <= M1 M2.
    eta_d : float
        Detector efficiency including the node's optics, for every detector.
    dark_count_per_gate : float
        Probability p_d of a dark click per detector and gate.
    arms_km : (Alice-M1, M1-S, S-M2, M2-Bob)
        Fibre lengths.
    misalignment : float
        Fraction of a user's power in the wrong polarisation; multiplies every overlap by 1 - misalignment.
    phase_slices : int
        D, number of discrete phases of a user.
    phase_residual_rms_rad : float
        Residual of the phase estimate.
    error_correction_efficiency : float
        f >= 1, leak = f h(E).
    slot_rate_hz, duty : float
        Slots per second and the fraction of them that carries signal, not references: rates per second only.
    double_clicks : str
        What a node announces when both of its detectors click: see `success_table.DOUBLE_CLICK_RULES`.
    dead_slots : int
        Slots for which a detector is blind after a click. Slots in which any detector is blind are vetoed.
    baseline_misalignment : float
        Error probability e_d of the optics of the baselines, phase noise included.
    pairing_slots : int
        Longest distance of paired successes in mode pairing, l.
    pairing_slope_rad_per_ms : float
        rms of the phase drift that is left between paired successes.
    timing : Timing or None
        Shapes in time and the gate. If given, `overlap` is what is left after the temporal part, `eta_d` excludes what
        the gate cuts, and the dark counts follow from rate and gate. None: the numbers hold after gating.
    provenance : Mapping[str, str]
        Source of each value, by name; "default" for a value that nobody gave.
    """

    name: str = "A"
    source_mean_photons: float = 0.30
    g2: float = 0.010
    overlap: float = 0.95
    node_overlaps: tuple[float, float, float] | None = None
    eta_d: float = 0.75
    dark_count_per_gate: float = 1e-8
    arms_km: tuple[float, float, float, float] = (12.5, 12.5, 12.5, 12.5)
    attenuation_db_per_km: float = 0.20
    misalignment: float = 0.0
    phase_slices: int = 16
    phase_residual_rms_rad: float = 0.15
    error_correction_efficiency: float = 1.10
    slot_rate_hz: float = 304_520_000.0
    duty: float = 1.0
    double_clicks: str = "discard"
    dead_slots: int = 0
    baseline_misalignment: float = 0.015
    pairing_slots: int = 30_000
    pairing_slope_rad_per_ms: float = 0.0
    timing: Timing | None = None
    provenance: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in ("overlap", "eta_d", "dark_count_per_gate", "misalignment", "duty"):
            self._within(key, getattr(self, key), 0.0, 1.0)
        self._within("baseline_misalignment", self.baseline_misalignment, 0.0, 0.5)
        self._within("dead_slots", self.dead_slots, 0, math.inf)
        self._within("pairing_slots", self.pairing_slots, 1, math.inf)
        self._within("pairing_slope_rad_per_ms", self.pairing_slope_rad_per_ms, 0.0, math.inf)
        self._within("slot_rate_hz", self.slot_rate_hz, 1.0, 1e12)
        if self.double_clicks not in DOUBLE_CLICK_RULES:
            raise ValueError(
                f"double_clicks {self.double_clicks!r} does not exist; give one of {', '.join(DOUBLE_CLICK_RULES)}"
            )
        self._within("source_mean_photons", self.source_mean_photons, 0.0, 2.0)
        self._within("g2", self.g2, 0.0, 1.0)
        self._within("phase_residual_rms_rad", self.phase_residual_rms_rad, 0.0, math.inf)
        self._within("attenuation_db_per_km", self.attenuation_db_per_km, 0.0, math.inf)
        self._within("error_correction_efficiency", self.error_correction_efficiency, 1.0, math.inf)
        self._within("phase_slices", self.phase_slices, 2, math.inf)
        if len(self.arms_km) != 4:
            raise ValueError(f"arms_km has {len(self.arms_km)} entries; give 4: Alice-M1, M1-S, S-M2, M2-Bob")
        for length in self.arms_km:
            self._within("arms_km", length, 0.0, math.inf)
        if self.node_overlaps is not None:
            for value in self.node_overlaps:
                self._within("node_overlaps", value, 0.0, 1.0)
            m1, m2, m12 = self.node_overlaps
            if m12**2 > m1 * m2 * (1 + 1e-12):
                raise ValueError(f"node_overlaps M12 = {m12} exceeds sqrt(M1 M2) = {math.sqrt(m1 * m2):.6f}; lower M12")
        if min(self.p0, self.p1) < 0:
            raise ValueError(
                f"source_mean_photons {self.source_mean_photons} with g2 {self.g2} gives p0 = {self.p0:.4f}, "
                f"p1 = {self.p1:.4f}; a source of at most two photons needs both >= 0, lower one of the two"
            )

    @staticmethod
    def _within(key: str, value: float, lowest: float, highest: float) -> None:
        if not lowest <= value <= highest:
            raise ValueError(f"{key} {value} is out of range; give {lowest} to {highest}")

    @property
    def p2(self) -> float:
        """Probability of two photons in a slot."""
        return self.g2 * self.source_mean_photons**2 / 2

    @property
    def p1(self) -> float:
        """Probability of one photon in a slot."""
        return self.source_mean_photons - 2 * self.p2

    @property
    def p0(self) -> float:
        """Probability of no photon in a slot."""
        return 1 - self.p1 - self.p2

    @cached_property
    def filtered(self) -> Filtered | None:
        """What the gate does; None if the numbers hold after gating."""
        return self.timing.filtered() if self.timing else None

    @property
    def dark_probability(self) -> float:
        """p_d per detector and gate, from the gate's width if `timing` is given."""
        return self.filtered.dark_count_per_gate if self.filtered else self.dark_count_per_gate

    @property
    def log_dark_silence(self) -> float:
        """ln(1 - p_d), for closed forms that need a detector to be silent at times."""
        if not self.dark_probability < 1:
            raise ValueError(f"dark_count_per_gate {self.dark_probability} is out of range; give less than 1")
        return math.log1p(-self.dark_probability)

    @property
    def overlaps(self) -> tuple[float, float, float]:
        """(M1, M2, M12) with the misalignment and, if timing is given, the temporal part included."""
        aligned = (1 - self.misalignment) * (self.filtered.overlap if self.filtered else 1.0)
        m1, m2, m12 = self.node_overlaps or (self.overlap, self.overlap, self.overlap)
        return m1 * aligned, m2 * aligned, m12 * aligned

    @property
    def arm_transmittances(self) -> tuple[float, float, float, float]:
        """(Alice-M1, M1-S, S-M2, M2-Bob), each including node optics, detector and gate."""
        user, source = (self.filtered.user_fraction, self.filtered.source_fraction) if self.filtered else (1.0, 1.0)
        a, left, right, b = (self.eta_d * 10 ** (-self.attenuation_db_per_km * length / 10) for length in self.arms_km)
        return a * user, left * source, right * source, b * user

    @property
    def user_transmittances(self) -> tuple[float, float]:
        """(Alice-S, Bob-S) including a detector: the arms of a baseline whose single node stands where S is."""
        alice, left, right, bob = self.arms_km
        gate = self.filtered.user_fraction if self.filtered else 1.0
        a, b = (
            self.eta_d * gate * 10 ** (-self.attenuation_db_per_km * length / 10)
            for length in (alice + left, right + bob)
        )
        return a, b

    @property
    def symmetric(self) -> bool:
        """Both users and both S arms see the same: equal intensities are then best."""
        a, left, right, b = self.arms_km
        m1, m2, _ = self.overlaps
        return a == b and left == right and m1 == m2

    @property
    def total_km(self) -> float:
        """Fibre between Alice and Bob."""
        return sum(self.arms_km)

    @property
    def channel_transmittance(self) -> float:
        """Fibre alone between Alice and Bob, the eta of the PLOB bound (channel only)."""
        return float(10 ** (-self.attenuation_db_per_km * self.total_km / 10))

    def for_length(self, total_km: float) -> "RelayParameters":
        """Return the same relay with its arms scaled to `total_km`; four equal arms if they were all zero."""
        if not 0 <= total_km < math.inf:
            raise ValueError(f"total_km {total_km} is out of range; give a length of 0 or more")
        if self.total_km > 0:
            a, left, right, b = (total_km * length / self.total_km for length in self.arms_km)
        else:
            a = left = right = b = total_km / 4
        return dataclasses.replace(self, arms_km=(a, left, right, b))


def preset(name: str) -> RelayParameters:
    """Return preset "A", "B" or "C" of physics.md section 6, at 50 km in total."""
    from qrelay_sim.parameter_file import load_preset

    return load_preset(name)
