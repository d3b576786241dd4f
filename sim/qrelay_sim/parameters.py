"""Parameters of the relay, each with the place its value comes from (physics.md section 6).

Tags as in physics.md: [S0] landing page of the paper, [R3] [R4] other papers of the same group, [G] general knowledge,
[I] an assumption of ours. No [I] number is a measured value of the experiment.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["PRESETS", "RelayParameters", "preset"]

_PROVENANCE: Mapping[str, str] = MappingProxyType(
    {
        "slot_rate_hz": "[S0] repetition rate of the experiment",
        "source_mean_photons": "[I] system efficiency 0.71 of [R3][R4] times 0.42 for conversion, filters and splitter",
        "g2": "[I] gated value, lower than the published 0.0205 of [R3]",
        "overlap": "[I]; [R3] reports an indistinguishability of 0.9856 between photons of the dot",
        "node_overlaps": "[I] both nodes equal unless given",
        "eta_d": "[I] detector efficiency including the node's optics",
        "dark_count_per_gate": "[I] for example 20 Hz in a gate of 0.5 ns",
        "arms_km": "[I] four equal arms",
        "attenuation_db_per_km": "[G] standard fibre; 0.16-0.17 for low-loss fibre",
        "misalignment": "[I] polarisation alignment counted in the overlap",
        "phase_slices": "[I] PM-QKD practice",
        "phase_residual_rms_rad": "[I] residual of the phase estimate",
        "error_correction_efficiency": "[I]",
    }
)


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
    provenance: Mapping[str, str] = field(default_factory=lambda: _PROVENANCE, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in ("overlap", "eta_d", "dark_count_per_gate", "misalignment"):
            self._within(key, getattr(self, key), 0.0, 1.0)
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

    @property
    def overlaps(self) -> tuple[float, float, float]:
        """(M1, M2, M12) with the misalignment included."""
        aligned = 1 - self.misalignment
        m1, m2, m12 = self.node_overlaps or (self.overlap, self.overlap, self.overlap)
        return m1 * aligned, m2 * aligned, m12 * aligned

    @property
    def arm_transmittances(self) -> tuple[float, float, float, float]:
        """(Alice-M1, M1-S, S-M2, M2-Bob), each including node optics and detector."""
        a, left, right, b = (self.eta_d * 10 ** (-self.attenuation_db_per_km * length / 10) for length in self.arms_km)
        return a, left, right, b

    @property
    def total_km(self) -> float:
        """Fibre between Alice and Bob."""
        return sum(self.arms_km)

    @property
    def channel_transmittance(self) -> float:
        """Fibre alone between Alice and Bob, the eta of the PLOB bound (channel only)."""
        return float(10 ** (-self.attenuation_db_per_km * self.total_km / 10))

    def for_length(self, total_km: float) -> "RelayParameters":
        """Return the same relay with four equal arms of ``total_km / 4``."""
        arm = total_km / 4
        return dataclasses.replace(self, arms_km=(arm, arm, arm, arm))


PRESETS: Mapping[str, RelayParameters] = MappingProxyType(
    {
        "A": RelayParameters(name="A"),
        "B": RelayParameters(
            name="B",
            g2=0.0205,
            provenance=MappingProxyType({**_PROVENANCE, "g2": "[R3] published value of the group's source"}),
        ),
        "C": RelayParameters(name="C", g2=0.005, overlap=0.97),
    }
)


def preset(name: str) -> RelayParameters:
    """Return preset "A", "B" or "C" of physics.md section 6, at 50 km in total."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"preset {name!r} does not exist; give one of {', '.join(PRESETS)}") from None
