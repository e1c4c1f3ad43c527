"""Reflections of phases: one table of Miller indices, vectors and structure factors.

Owns `Reflections` and how the table is made of phases; scattering factors and constants come from
diffsims. Which of them an orientation excites belongs to `kinematical` and `dynamical`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orix.crystal_map import Phase


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
