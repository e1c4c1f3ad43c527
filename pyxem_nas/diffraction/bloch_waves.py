"""Bloch waves in a crystal: its potential, and the intensities behind a slab of it.

Owns the structure matrix and its solution for one orientation and precession angle, averaged over
the tilts of the beam. Which orientations and thicknesses are computed belongs to `dynamical`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction.reflections import list_reciprocal_lattice, structure_factors
from pyxem_nas.diffraction.unit_cell import UnitCell, get_unit_cell

if TYPE_CHECKING:
    from orix.crystal_map import Phase

    from pyxem_nas.diffraction.acquisition import Acquisition

_REST_ENERGY = 510.99895  # keV
_MAX_SPOTS = 512
_FAINT = 1e-7  # of the incident beam: spots fainter than this are left out


@dataclass(frozen=True)
class CrystalPotential:
    """What Bloch waves need of a crystal at one beam energy; made by `get_potential`.

    Parameters
    ----------
    hkl, vectors
        Reflections as indices (n, 3) and in 1/angstrom (n, 3).
    table
        U_g / 2k in 1/angstrom by differences of indices, 0 at its centre; real where the origin is
        a centre of inversion.
    wavelength
        Angstrom.
    """

    hkl: np.ndarray = field(repr=False)
    vectors: np.ndarray = field(repr=False)
    table: np.ndarray = field(repr=False)
    wavelength: float

    @property
    def arguments(self) -> tuple:
        """What the compiled solution takes."""
        centre = (np.array(self.table.shape) - 1) // 2
        return self.hkl, self.vectors, self.table, centre, 1 / self.wavelength


def get_potential(
    phase: Phase,
    acquisition: Acquisition,
    *,
    debye_waller: float = 0.4,
    reciprocal_radius: float = 1.8,
) -> CrystalPotential:
    """Return the potential of a phase for Bloch waves.

    Parameters
    ----------
    phase
        Phase with atoms.
    acquisition
        Beam energy.
    debye_waller
        Isotropic B in angstrom squared of atoms that state none.
    reciprocal_radius
        Beams farther from the direct beam are left out, 1/angstrom.

    Returns
    -------
    potential
        Ready for the solution.

    Raises
    ------
    ValueError
        If the phase has no atoms.
    """
    cell = get_unit_cell(phase)
    if not len(cell):
        raise ValueError(
            f"phase {phase.name!r} has no atoms; read its CIF file with pyxem_nas.read_phases"
        )
    hkl, vectors = list_reciprocal_lattice(cell.base, reciprocal_radius)
    # what no centring of the lattice extinguishes: indices of the primitive reciprocal lattice
    primitive = cell.symmetry.primitive_base @ vectors.T
    allowed = np.all(np.abs(primitive - np.rint(primitive)) < 1e-3, axis=0)
    hkl, vectors = hkl[allowed], np.ascontiguousarray(vectors[allowed])
    table = _potential_table(cell, hkl, acquisition, debye_waller)
    if np.abs(table.imag).max() < 1e-6 * np.abs(table.real).max():
        table = np.ascontiguousarray(table.real)
    return CrystalPotential(hkl, vectors, table, acquisition.wavelength)


def _potential_table(
    cell: UnitCell, hkl: np.ndarray, acquisition: Acquisition, debye_waller: float
) -> np.ndarray:
    """Return U_g / 2k in 1/angstrom for all differences of the indices, complex; 0 at its centre.

    The table has shape (4 h_max + 1, 4 k_max + 1, 4 l_max + 1).
    """
    limit = 2 * np.abs(hkl).max(axis=0)
    grid = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in limit], indexing="ij"), -1)
    indices = grid.reshape(-1, 3)
    length = np.linalg.norm(indices @ np.linalg.inv(cell.base).T, axis=1)
    total = structure_factors(cell, indices, length, displacement=debye_waller)
    mass = 1 + acquisition.beam_energy / _REST_ENERGY
    table = total * (mass * acquisition.wavelength / (2 * np.pi * cell.volume))
    table[len(table) // 2] = 0.0
    return table.reshape(grid.shape[:3])


@numba.njit(cache=True, error_model="numpy")
def _select_beams(
    hkl, vectors, matrix, tilt_x, tilt_y, wavenumber, limit, potential, centre, weight, beams,
    errors,
):  # fmt: skip
    """Fill `beams` and `errors` with reflections near the sphere of one tilt; return their number.

    The first is the direct beam, -1. Strong reflections count as nearer.
    """
    n_max = len(beams)
    along = np.sqrt(max(wavenumber * wavenumber - tilt_x * tilt_x - tilt_y * tilt_y, 0.0))
    n = 1
    beams[0], errors[0], weight[0] = -1, 0.0, -1.0
    for j in range(len(vectors)):
        gx, gy, gz = vectors[j, 0], vectors[j, 1], vectors[j, 2]
        z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
        length2 = gx * gx + gy * gy + gz * gz
        near = 0.5 * length2 / wavenumber - z
        if abs(near) > limit + np.sqrt(length2) * 0.05:
            continue
        x = gx * matrix[0, 0] + gy * matrix[1, 0] + gz * matrix[2, 0]
        y = gx * matrix[0, 1] + gy * matrix[1, 1] + gz * matrix[2, 1]
        s = (along * z - tilt_x * x - tilt_y * y - 0.5 * length2) / wavenumber
        if abs(s) > limit:
            continue
        u = abs(potential[centre[0] + hkl[j, 0], centre[1] + hkl[j, 1], centre[2] + hkl[j, 2]])
        rank = abs(s) / (u + 1e-4)
        if n == n_max:
            if rank >= weight[n - 1]:
                continue
            n -= 1
        place = n
        while place > 1 and weight[place - 1] > rank:
            weight[place] = weight[place - 1]
            beams[place] = beams[place - 1]
            errors[place] = errors[place - 1]
            place -= 1
        weight[place], beams[place], errors[place] = rank, j, s
        n += 1
    return n


@numba.njit(cache=True, error_model="numpy")
def _diffract(
    matrix, thickness, precession, hkl, vectors, potential, centre, wavenumber, limit, max_beams,
    n_tilts, index, sums,
):  # fmt: skip
    """Fill reflections and intensities (n_spots, n_thicknesses); return the number of spots."""
    beams = np.empty(max_beams, np.int64)
    errors = np.empty(max_beams)
    weight = np.empty(max_beams)
    place = np.full(len(vectors), -1, np.int64)
    n_found = 0
    tilts = n_tilts if precession > 0 else 1
    tilt = wavenumber * np.sin(precession)
    for t in range(tilts):
        angle = 2 * np.pi * t / tilts
        m = _select_beams(
            hkl, vectors, matrix, tilt * np.cos(angle), tilt * np.sin(angle), wavenumber, limit,
            potential, centre, weight, beams, errors,
        )  # fmt: skip
        system = np.zeros((m, m), potential.dtype)
        for a in range(m):
            system[a, a] = errors[a]
            for b in range(a):
                d0, d1, d2 = hkl[beams[a], 0], hkl[beams[a], 1], hkl[beams[a], 2]
                if b > 0:
                    d0 -= hkl[beams[b], 0]
                    d1 -= hkl[beams[b], 1]
                    d2 -= hkl[beams[b], 2]
                value = potential[centre[0] + d0, centre[1] + d1, centre[2] + d2]
                system[a, b] = value
                system[b, a] = np.conj(value)
        gamma, waves = np.linalg.eigh(system)
        for k in range(len(thickness)):
            excited = np.exp(2j * np.pi * gamma * thickness[k]) * np.conj(waves[0])
            for a in range(1, m):
                amplitude = 0j
                for j in range(m):
                    amplitude += waves[a, j] * excited[j]
                row = place[beams[a]]
                if row < 0:
                    if n_found == len(index):
                        continue
                    row = n_found
                    place[beams[a]] = row
                    index[row] = beams[a]
                    sums[row] = 0.0
                    n_found += 1
                sums[row, k] += (amplitude.real**2 + amplitude.imag**2) / tilts
    return n_found


def solve(
    matrices: np.ndarray, thickness: np.ndarray, *arguments: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spots (n, 512, 2), intensities (n, 512, n_thicknesses) and the number of spots."""
    n, n_thick = thickness.shape
    positions = np.zeros((n, _MAX_SPOTS, 2), np.float32)
    intensities = np.zeros((n, _MAX_SPOTS, n_thick), np.float32)
    counts = np.zeros(n, np.int64)
    run_rows(_solve, n, matrices, thickness, *arguments, positions, intensities, counts)
    return positions, intensities, counts


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve(
    start, stop, matrices, thickness, precession, hkl, vectors, potential, centre, wavenumber,
    limit, max_beams, n_tilts, positions, intensities, counts,
):  # fmt: skip
    n_thick = thickness.shape[1]
    for i in range(start, stop):
        matrix = matrices[i]
        index = np.empty(_MAX_SPOTS, np.int64)
        sums = np.empty((_MAX_SPOTS, n_thick))
        n_found = _diffract(
            matrix, thickness[i], precession[i], hkl, vectors, potential, centre, wavenumber,
            limit, max_beams, n_tilts, index, sums,
        )  # fmt: skip
        kept = 0
        for row in range(n_found):
            if sums[row].max() < _FAINT:
                continue
            g = vectors[index[row]]
            for axis in range(2):
                positions[i, kept, axis] = (
                    g[0] * matrix[0, axis] + g[1] * matrix[1, axis] + g[2] * matrix[2, axis]
                )
            for k in range(n_thick):
                intensities[i, kept, k] = sums[row, k]
            kept += 1
        counts[i] = kept
