"""Reflections of phases: one table of Miller indices, vectors and structure factors.

Owns `Reflections` and how the table is made of phases, complete within its radius for every cell;
the tables of atomic scattering factors are diffsims'. Which of them an orientation excites belongs
to `kinematical` and `dynamical`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.unit_cell import UnitCell, get_unit_cell, scattering_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orix.crystal_map import Phase

_WAVELENGTH_200_KV = 0.02507934  # angstrom
_ROWS = 8192  # reflections at a time


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
    parts, bounds = [], [0]
    for phase in phases:
        cell = get_unit_cell(phase)
        if not len(cell):
            raise ValueError(
                f"phase {phase.name!r} has no atoms; read its CIF file with pyxem_nas.read_phases "
                "or set its structure's atoms"
            )
        hkl, vectors = list_reciprocal_lattice(cell.base, reciprocal_radius)
        length = np.linalg.norm(vectors, axis=1)
        intensity = np.abs(structure_factors(cell, hkl, length)) ** 2
        keep = intensity > minimum_intensity * intensity.max(initial=0)
        if not keep.any():
            raise ValueError(
                f"phase {phase.name!r} has no reflection within {reciprocal_radius!r} 1/angstrom"
            )
        order = np.argsort(length[keep].round(9), kind="stable")
        # Williams and Carter eq. 13.4, with the relativistic mass at 200 kV
        scale = 1.391 * _WAVELENGTH_200_KV / (np.pi * cell.volume)
        part = (hkl, vectors, intensity, scale * np.sqrt(intensity))
        parts.append([values[keep][order] for values in part])
        bounds.append(bounds[-1] + int(keep.sum()))
    hkl, vectors, intensities, extinction = (
        np.ascontiguousarray(np.concatenate(columns)) for columns in zip(*parts, strict=True)
    )
    return Reflections(hkl, vectors, intensities, extinction, tuple(bounds))


def list_reciprocal_lattice(base: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return all points of a reciprocal lattice within a radius but the origin.

    Parameters
    ----------
    base
        Rows a, b, c of the direct lattice, angstrom, shape (3, 3).
    radius
        1/angstrom.

    Returns
    -------
    hkl, vectors
        Miller indices, shape (n, 3), int64, and vectors in 1/angstrom, shape (n, 3).
    """
    # h = g . a: no index exceeds the radius times the length of its axis
    limits = np.floor(radius * np.linalg.norm(base, axis=1) + 1e-9).astype(int)
    grid = np.meshgrid(*[np.arange(-limit, limit + 1) for limit in limits], indexing="ij")
    hkl = np.stack(grid, axis=-1).reshape(-1, 3).astype(np.int64)
    vectors = hkl @ np.linalg.inv(base).T
    inside = (np.square(vectors).sum(axis=1) <= radius**2) & hkl.any(axis=1)
    return hkl[inside], np.ascontiguousarray(vectors[inside])


def structure_factors(
    cell: UnitCell, hkl: np.ndarray, length: np.ndarray, *, displacement: float = 0.0
) -> np.ndarray:
    """Return the structure factors of electron scattering.

    Parameters
    ----------
    cell
        Atoms.
    hkl, length
        Miller indices, shape (n, 3), and lengths of their vectors in 1/angstrom, shape (n,).
    displacement
        Isotropic B in angstrom squared of atoms that state none.

    Returns
    -------
    factors
        Complex, angstrom, shape (n,), of neutral atoms.

    References
    ----------
    Lobato, I. & Van Dyck, D. (2014) Acta Cryst. A70, 636, doi:10.1107/S205327331401643X, eq. 16.
    """
    stated = np.where(cell.displacement > 0, cell.displacement, displacement)
    kinds = zip(cell.elements, cell.occupancy.tolist(), stated.tolist(), strict=True)
    atoms: dict[tuple[str, float, float], list[int]] = {}
    for i, kind in enumerate(kinds):
        atoms.setdefault(kind, []).append(i)
    factors = np.zeros(len(hkl), complex)
    for start in range(0, len(hkl), _ROWS):  # a large cell's phases would fill the memory
        part = slice(start, start + _ROWS)
        g2 = np.square(length[part])
        for (element, occupancy, b), rows in atoms.items():
            a, scale = np.asarray(scattering_tables()[element]).T
            scaled = g2[:, None] * scale
            atomic = (a * (2 + scaled) / np.square(1 + scaled)).sum(axis=1)
            phases = np.exp(2j * np.pi * (hkl[part] @ cell.positions[rows].T)).sum(axis=1)
            factors[part] += occupancy * np.exp(-0.25 * b * g2) * atomic * phases
    return factors
