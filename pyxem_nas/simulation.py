"""Kinematical simulation of diffraction spots.

Owns the way from a phase to its reflections and from an orientation to its spots: excitation error,
precession and rocking curve. Structure factors and constants come from diffsims. Images, noise and
the random cameras that networks are trained on belong to `camera`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

import numba
import numpy as np

from pyxem_nas.orientation import quaternions_to_matrices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orix.crystal_map import Phase

#: Rocking curves: the numbers that the compiled code knows them by.
ROCKING_CURVES = {"lorentzian": 0, "gaussian": 1, "two-beam": 2}
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
_N_BEAM_TILTS = 8  # beam tilts over half a precession circle; the other half mirrors them


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
        If the beam energy is not positive or the precession angle is negative or above 10 degrees.

    Examples
    --------
    >>> round(Acquisition(beam_energy=200).wavelength, 5)
    0.02508
    """

    beam_energy: float = 200.0
    precession_angle: float = 0.0

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class Reflections:
    """Reflections of one or more phases, one table.

    Parameters
    ----------
    hkl
        Miller indices, shape (n, 3).
    vectors
        Reciprocal lattice vectors in each crystal's Cartesian frame in 1/angstrom, shape (n, 3),
        by increasing length within a phase.
    intensities
        Squared moduli of the structure factors in angstrom squared, shape (n,).
    extinction
        Inverse extinction distances in 1/angstrom at 200 kV, without absorption, shape (n,).
    bounds
        Phase k owns rows ``bounds[k]:bounds[k + 1]``.
    """

    hkl: np.ndarray = field(repr=False)
    vectors: np.ndarray = field(repr=False)
    intensities: np.ndarray = field(repr=False)
    extinction: np.ndarray = field(repr=False)
    bounds: tuple[int, ...]

    @property
    def n_phases(self) -> int:
        """Number of phases in the table."""
        return len(self.bounds) - 1


def get_reflections(
    phases: Sequence[Phase], *, reciprocal_radius: float = 1.85, minimum_intensity: float = 1e-5
) -> Reflections:
    """Return all reflections of phases inside a sphere.

    Parameters
    ----------
    phases
        Phases with a space group and a structure with atoms.
    reciprocal_radius
        Radius of the sphere in 1/angstrom.
    minimum_intensity
        Reflections weaker than this share of a phase's strongest are left out.

    Returns
    -------
    reflections
        One table for all phases.

    Raises
    ------
    ValueError
        If a phase has no atoms, or no reflection inside the sphere.
    """
    from diffsims.crystallography._diffracting_vector import DiffractingVector
    from diffsims.utils.sim_utils import get_electron_wavelength, get_kinematical_intensities

    parts, bounds = [], [0]
    for phase in phases:
        if len(phase.structure) == 0:
            raise ValueError(
                f"phase {phase.name!r} has no atoms; load it with Phase.from_cif or set its "
                "structure's atoms"
            )
        recip = DiffractingVector.from_min_dspacing(
            phase, min_dspacing=1 / reciprocal_radius, include_zero_vector=False
        )
        spacing = np.atleast_1d(recip.gspacing).ravel()
        hkl = np.round(recip.hkl.reshape(-1, 3)).astype(np.int64)
        intensity = np.atleast_1d(
            get_kinematical_intensities(phase.structure, hkl, spacing, prefactor=1)
        ).real
        keep = intensity > minimum_intensity * intensity.max(initial=0)
        if not keep.any():
            raise ValueError(
                f"phase {phase.name!r} has no reflection within {reciprocal_radius!r} 1/angstrom"
            )
        order = np.argsort(spacing[keep], kind="stable")
        # Williams and Carter eq. 13.4, with the relativistic mass at 200 kV
        volume = phase.structure.lattice.volume
        scale = 1.391 * get_electron_wavelength(200) / (np.pi * volume)
        part = (hkl, recip.data.reshape(-1, 3), intensity, scale * np.sqrt(np.abs(intensity)))
        parts.append([values[keep][order] for values in part])
        bounds.append(bounds[-1] + int(keep.sum()))
    hkl, vectors, intensities, extinction = (
        np.ascontiguousarray(np.concatenate(columns)) for columns in zip(*parts, strict=True)
    )
    return Reflections(hkl, vectors, intensities, extinction, tuple(bounds))


def simulate_spots(
    reflections: Reflections,
    quaternions: np.ndarray,
    acquisition: Acquisition,
    *,
    phase_id: int = 0,
    max_excitation_error: float = 0.01,
    rocking_width: float | None = None,
    rocking_curve: Literal["lorentzian", "gaussian"] = "lorentzian",
    reciprocal_radius: float = 1.8,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Simulate the kinematical spots of one phase in given orientations.

    Parameters
    ----------
    reflections
        From `get_reflections`.
    quaternions
        Orientations of shape (n, 4), lab2crystal, scalar first.
    acquisition
        Beam energy and precession.
    phase_id
        Which phase of the table.
    max_excitation_error
        Spots farther from the Ewald sphere (anywhere on the precession circle) are left out,
        1/angstrom.
    rocking_width
        Width of the rocking curve in 1/angstrom; None is `max_excitation_error`.
    rocking_curve
        "lorentzian" as in diffsims, or "gaussian" (standard deviation `rocking_width`), which has
        no tails.
    reciprocal_radius
        Spots farther from the beam are left out, 1/angstrom.

    Returns
    -------
    spots
        For each orientation ``(positions, intensities, hkl)``: positions (m, 2) in 1/angstrom, x to
        the right and y up; intensities (m,); Miller indices (m, 3).

    References
    ----------
    Palatinus, L. et al. (2019) Acta Cryst. B75, 512, doi:10.1107/S2052520619007534, eqs. 6 and 10:
    rocking curve with and without precession.
    """
    width = max_excitation_error if rocking_width is None else rocking_width
    rows = slice(*reflections.bounds[phase_id : phase_id + 2])
    matrices = quaternions_to_matrices(np.atleast_2d(np.asarray(quaternions, np.float64)))
    found = []
    for matrix in matrices:
        lab = reflections.vectors[rows] @ matrix  # the inverse rotation of each vector
        factor = _rocking_factors(
            lab,
            acquisition.wavelength,
            np.deg2rad(acquisition.precession_angle),
            max_excitation_error,
            width,
            ROCKING_CURVES[rocking_curve],
            reciprocal_radius,
        )
        seen = factor > 0
        intensities = factor[seen] * reflections.intensities[rows][seen]
        found.append((lab[seen, :2], intensities, reflections.hkl[rows][seen]))
    return found


@numba.njit(cache=True)
def excitation_error(x, y, z, wavenumber):
    """Return the distance along z from a reflection to the Ewald sphere, in 1/angstrom."""
    return wavenumber - np.sqrt(wavenumber * wavenumber - x * x - y * y) - z


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def rocking_factor(error, radius, precession, width, curve, inverse_extinction, thickness):
    """Return the share of a reflection's full intensity at an excitation error.

    Lengths in 1/angstrom, `precession` in radians, `thickness` in angstrom (two-beam only).
    """
    swing = radius * precession
    if curve == 0:
        sigma = np.pi / width
        if precession == 0:
            return 1 / (1 + (sigma * error) ** 2)
        u = sigma * sigma * (swing * swing - error * error) + 1
        z2 = u * u + 4 * sigma * sigma * error * error
        return sigma / np.pi * np.sqrt(2 * (u + np.sqrt(z2)) / z2)
    n_tilts = 1 if swing < 0.25 * width else _N_BEAM_TILTS
    total = 0.0
    for k in range(n_tilts):
        s = error if n_tilts == 1 else error + swing * np.cos(np.pi * (k + 0.5) / n_tilts)
        if curve == 1:
            total += np.exp(-0.5 * (s / width) ** 2)
        else:
            effective = np.sqrt(s * s + inverse_extinction * inverse_extinction)
            phase = np.pi * thickness * effective
            total += (np.sin(phase) / max(phase, 1e-9)) ** 2
    return total / n_tilts


@numba.njit(cache=True)
def _rocking_factors(lab, wavelength, precession, max_error, width, curve, max_radius):
    """Return the rocking factor of each vector, 0 where it is not excited."""
    wavenumber = 1 / wavelength
    tilt = wavenumber * np.sin(precession)
    height = wavenumber * np.cos(precession)
    factors = np.zeros(len(lab))
    for i in range(len(lab)):
        x, y, z = lab[i]
        radius = np.sqrt(x * x + y * y)
        if radius > max_radius:
            continue
        error = excitation_error(x, y, z, wavenumber)
        if precession == 0:
            if abs(error) >= max_error:
                continue
        else:
            # the sphere's highest and lowest point over the precession circle
            upper = height - np.sqrt(wavenumber**2 - (radius + tilt) ** 2)
            lower = height - np.sqrt(wavenumber**2 - (radius - tilt) ** 2)
            if z - max_error > upper or z + max_error < lower:
                continue
        factors[i] = rocking_factor(error, radius, precession, width, curve, 0.0, 0.0)
    return factors
