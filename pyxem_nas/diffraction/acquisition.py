"""The microscope: what a simulation must know of it.

Owns `Acquisition` and its limits. How it is read from a signal's metadata belongs to
`patterns.calibration`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from numbers import Real


@dataclass(frozen=True)
class Acquisition:
    """What a simulation must know of the microscope.

    Parameters
    ----------
    beam_energy
        Beam energy in kV.
    precession_angle
        Precession angle in degrees, 0 without precession.

    Raises
    ------
    ValueError
        If one of the two is no number, the beam energy is not in 1 to 5000 kV, or the precession
        angle is negative or above 10 degrees.

    Examples
    --------
    >>> round(Acquisition(beam_energy=200).wavelength, 5)
    0.02508
    """

    beam_energy: float = 200.0
    precession_angle: float = 0.0

    def __post_init__(self) -> None:
        for name, unit in (("beam_energy", "kV"), ("precession_angle", "degrees")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                raise ValueError(f"{name} must be a number in {unit}, got {value!r}")
        if not 1 <= self.beam_energy <= 5000:
            raise ValueError(f"beam_energy must be in kV (1 to 5000), got {self.beam_energy!r}")
        if not 0 <= self.precession_angle <= 10:
            raise ValueError(
                f"precession_angle must be in degrees (0 to 10), got {self.precession_angle!r}; "
                "HyperSpy keeps it in mrad: divide by 17.45"
            )

    @property
    def wavelength(self) -> float:
        """Relativistic electron wavelength in angstrom."""
        from diffsims.utils.sim_utils import get_electron_wavelength

        return float(get_electron_wavelength(self.beam_energy))

    def to_dict(self) -> dict[str, float]:
        """Return the fields as plain values for JSON."""
        return asdict(self)
