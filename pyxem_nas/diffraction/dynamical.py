"""Dynamical simulation of diffraction spots by Bloch waves.

Owns the structure matrix of a crystal and the intensities behind a slab of it, as kinematical
simulation (`kinematical`) cannot give them: a library of dynamical spots, computed once, is what
networks are trained and judged on beside kinematical patterns. Images belong to `scans`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numba
import numpy as np

from pyxem_nas.diffraction.quaternions import (
    multiply_quaternions,
    quaternions_to_matrices,
    random_quaternions,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from orix.crystal_map import Phase

    from pyxem_nas.diffraction.acquisition import Acquisition

_REST_ENERGY = 510.99895  # keV
_MAX_SPOTS = 512
_CHUNK = 512
_FAINT = 1e-7  # of the incident beam: spots fainter than this are left out


@dataclass(frozen=True)
class DynamicalSpots:
    """Spots of one phase in many orientations, each at several thicknesses.

    Parameters
    ----------
    quaternions
        Orientations of shape (n, 4), lab2crystal, scalar first.
    precession_angle
        Degrees, shape (n,).
    thickness
        Thicknesses in angstrom, shape (n, n_thicknesses).
    positions
        x to the right and y up in 1/angstrom, shape (n_spots, 2), float32; the direct beam is left
        out.
    intensities
        Shares of the incident beam, shape (n_spots, n_thicknesses), float32.
    bounds
        Orientation i owns spots ``bounds[i]:bounds[i + 1]``.
    """

    quaternions: np.ndarray = field(repr=False)
    precession_angle: np.ndarray = field(repr=False)
    thickness: np.ndarray = field(repr=False)
    positions: np.ndarray = field(repr=False)
    intensities: np.ndarray = field(repr=False)
    bounds: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.quaternions)

    def to_bytes(self) -> bytes:
        """Return the content of an .npz file."""
        buffer = io.BytesIO()
        np.savez(buffer, **{f.name: getattr(self, f.name) for f in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> DynamicalSpots:
        """Return what `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return cls(**{f.name: file[f.name] for f in fields(cls)})


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
    def _arguments(self) -> tuple:
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
        Phase with a space group and atoms.
    acquisition
        Beam energy.
    debye_waller
        Isotropic B in angstrom squared, of all atoms.
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
    if len(phase.structure) == 0:
        raise ValueError(f"phase {phase.name!r} has no atoms; load it with Phase.from_cif")
    hkl, vectors = _reciprocal_lattice(phase, reciprocal_radius)
    table = _potential_table(phase, hkl, acquisition, debye_waller)
    if np.abs(table.imag).max() < 1e-6 * np.abs(table.real).max():
        table = np.ascontiguousarray(table.real)
    return CrystalPotential(hkl, vectors, table, acquisition.wavelength)


@dataclass(frozen=True)
class DynamicalDraw:
    """Which spots of a library each pattern of a batch takes.

    Parameters
    ----------
    positions, intensities
        All spots of the library, as in `DynamicalSpots`.
    rows
        First and last-but-one row and thickness of both crystals of each pattern, shape
        (n, 2, 3); the first is -1 where a crystal is left to kinematical theory.
    turns
        Angles by which the spots are turned about the beam, radians, shape (n, 2).
    """

    positions: np.ndarray = field(repr=False)
    intensities: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    turns: np.ndarray = field(repr=False)

    @classmethod
    def nothing(cls, n: int) -> DynamicalDraw:
        """Return the draw that leaves n patterns to kinematical theory."""
        return cls(
            np.zeros((0, 2), np.float32),
            np.zeros((0, 1), np.float32),
            np.full((n, 2, 3), -1, np.int64),
            np.zeros((n, 2)),
        )


class SpotLibrary:
    """Dynamical spots of several phases, to draw from.

    Parameters
    ----------
    phases
        Spots of each phase, None for one that has none; all with the same number of thicknesses.

    Raises
    ------
    ValueError
        If the phases differ in the number of thicknesses.
    """

    def __init__(self, phases: list[DynamicalSpots | None]) -> None:
        known = [spots for spots in phases if spots is not None]
        if len({spots.intensities.shape[1] for spots in known}) > 1:
            raise ValueError("all phases of a library need the same number of thicknesses")
        self.phases = list(phases)
        self.positions = np.concatenate([spots.positions for spots in known])
        self.intensities = np.concatenate([spots.intensities for spots in known])
        sizes = [0 if spots is None else len(spots.positions) for spots in phases]
        self._first = np.concatenate([[0], np.cumsum(sizes)])

    def draw(
        self,
        phase_id: np.ndarray,
        quaternions: np.ndarray,
        wanted: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[DynamicalDraw, np.ndarray]:
        """Draw orientations of the library for crystals of a batch, turned about the beam.

        Parameters
        ----------
        phase_id
            Phases of both crystals, shape (n, 2).
        quaternions
            Their orientations, shape (n, 2, 4).
        wanted
            Which patterns shall be dynamical where their phase is in the library, shape (n,).
        rng
            Source of randomness.

        Returns
        -------
        draw
            What `scans.simulate_descriptors` takes.
        quaternions
            The orientations, replaced by those drawn.
        """
        n = len(phase_id)
        draw = DynamicalDraw(
            self.positions, self.intensities, np.full((n, 2, 3), -1, np.int64), np.zeros((n, 2))
        )
        quaternions = quaternions.copy()
        uniform = rng.random((n, 2, 2))
        draw.turns[:] = rng.uniform(0, 2 * np.pi, (n, 2))
        for k, spots in enumerate(self.phases):
            if spots is None:
                continue
            i, crystal = np.nonzero((phase_id == k) & (np.asarray(wanted)[:, None] > 0))
            entry = (uniform[i, crystal, 0] * len(spots)).astype(np.int64)
            column = (uniform[i, crystal, 1] * spots.intensities.shape[1]).astype(np.int64)
            first = self._first[k] + spots.bounds[entry]
            last = self._first[k] + spots.bounds[entry + 1]
            draw.rows[i, crystal] = np.stack([first, last, column], axis=1)
            # a turn of the pattern by a is a rotation of the crystal's lab frame by -a
            half = -0.5 * draw.turns[i, crystal]
            turn = np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=1)
            quaternions[i, crystal] = multiply_quaternions(spots.quaternions[entry], turn)
        return draw, quaternions


def simulate_dynamical_spots(
    phase: Phase,
    quaternions: np.ndarray,
    acquisition: Acquisition,
    *,
    thickness: np.ndarray,
    precession_angle: np.ndarray,
    debye_waller: float = 0.4,
    reciprocal_radius: float = 1.8,
    max_excitation_error: float = 0.025,
    max_beams: int = 64,
    n_tilts: int = 10,
    report: Callable[[int], None] | None = None,
) -> DynamicalSpots:
    """Simulate the spots of a parallel-sided slab by Bloch waves.

    Parameters
    ----------
    phase
        Phase with a space group and atoms.
    quaternions
        Orientations of shape (n, 4), lab2crystal, scalar first.
    acquisition
        Beam energy; its precession angle is not used.
    thickness
        Angstrom, shape (n, n_thicknesses).
    precession_angle
        Degrees, shape (n,).
    debye_waller
        Isotropic B in angstrom squared, of all atoms.
    reciprocal_radius
        Spots farther from the beam are left out, 1/angstrom.
    max_excitation_error
        Beams farther from the Ewald sphere are left out of the structure matrix, 1/angstrom.
    max_beams
        Most beams in the matrix: those nearest to the sphere, weighed by their strength.
    n_tilts
        Beam tilts over a precession circle, whose intensities are averaged.
    report
        Called with the number of orientations done, now and then.

    Returns
    -------
    spots
        One entry per orientation.

    Raises
    ------
    ValueError
        If the phase has no atoms.

    Notes
    -----
    Elastic scattering in projection without absorption; all beams leave the crystal where they
    entered it (column approximation), with spots where kinematical theory puts them.

    References
    ----------
    De Graef, M. (2003) Introduction to Conventional TEM, doi:10.1017/CBO9780511615092, chapter 5:
    Bloch waves as an eigenvalue problem.
    """
    potential = get_potential(
        phase, acquisition, debye_waller=debye_waller, reciprocal_radius=reciprocal_radius
    )
    matrices = quaternions_to_matrices(np.atleast_2d(np.asarray(quaternions, np.float64)))
    thickness = np.ascontiguousarray(np.atleast_2d(thickness), np.float64)
    precession = np.deg2rad(np.asarray(precession_angle, np.float64))
    positions, intensities, counts = [], [], []
    for start in range(0, len(matrices), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        with _single_threaded_blas():
            spots, values, n_spots = _solve(
                matrices[chunk],
                thickness[chunk],
                precession[chunk],
                *potential._arguments,
                max_excitation_error,
                max_beams,
                n_tilts,
            )
        for i, n in enumerate(n_spots):
            positions.append(spots[i, :n])
            intensities.append(values[i, :n])
        counts.extend(n_spots)
        if report is not None:
            report(min(start + _CHUNK, len(matrices)))
    return DynamicalSpots(
        np.atleast_2d(quaternions),
        np.asarray(precession_angle, np.float64),
        thickness,
        np.concatenate(positions),
        np.concatenate(intensities),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def draw_dynamical_spots(
    phase: Phase,
    n: int,
    acquisition: Acquisition,
    rng: np.random.Generator,
    *,
    thickness: tuple[float, float] = (80.0, 1000.0),
    precession_angle: tuple[float, float] = (0.0, 1.0),
    n_thicknesses: int = 4,
    debye_waller: float = 0.4,
    report: Callable[[int], None] | None = None,
) -> DynamicalSpots:
    """Simulate random orientations, thicknesses and precession angles.

    Parameters
    ----------
    phase
        Phase with a space group and atoms.
    n
        Number of orientations.
    acquisition
        Beam energy.
    rng
        Source of randomness.
    thickness, precession_angle
        Ranges in angstrom and degrees, drawn uniformly; where the range of the precession begins
        at 0, a quarter of the orientations have none.
    n_thicknesses
        Thicknesses of each orientation.
    debye_waller
        Isotropic B in angstrom squared.
    report
        Called with the number of orientations done.

    Returns
    -------
    spots
        One entry per orientation.
    """
    angle = rng.uniform(*precession_angle, n)
    if precession_angle[0] == 0:
        angle[rng.random(n) < 0.25] = 0.0
    return simulate_dynamical_spots(
        phase,
        random_quaternions(n, rng),
        acquisition,
        thickness=rng.uniform(*thickness, (n, n_thicknesses)),
        precession_angle=angle,
        debye_waller=debye_waller,
        report=report,
    )


def _reciprocal_lattice(phase: Phase, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the Miller indices and vectors within a radius that the lattice's centring allows."""
    from diffsims.crystallography._diffracting_vector import DiffractingVector

    vectors = DiffractingVector.from_min_dspacing(
        phase, min_dspacing=1 / radius, include_zero_vector=False
    )
    hkl = np.round(vectors.hkl.reshape(-1, 3)).astype(np.int64)
    h, k, l = hkl.T  # noqa: E741
    allowed = {
        "I": (h + k + l) % 2 == 0,
        "F": ((h + k) % 2 == 0) & ((k + l) % 2 == 0),
        "A": (k + l) % 2 == 0,
        "B": (h + l) % 2 == 0,
        "C": (h + k) % 2 == 0,
        "R": (-h + k + l) % 3 == 0,
    }.get(phase.space_group.short_name[0], np.ones(len(hkl), bool))
    return np.ascontiguousarray(hkl[allowed]), np.ascontiguousarray(
        vectors.data.reshape(-1, 3)[allowed]
    )


def _potential_table(phase, hkl, acquisition, debye_waller) -> np.ndarray:
    """Return U_g / 2k in 1/angstrom for all differences of the indices, complex; 0 at its centre.

    The table has shape (4 h_max + 1, 4 k_max + 1, 4 l_max + 1).
    """
    from diffsims.utils.sim_utils import (
        get_atomic_scattering_factors,
        get_vectorized_list_for_atomic_scattering_factors,
    )

    limit = 2 * np.abs(hkl).max(axis=0)
    grid = np.stack(np.meshgrid(*[np.arange(-m, m + 1) for m in limit], indexing="ij"), -1)
    indices = grid.reshape(-1, 3)
    lattice = phase.structure.lattice
    g2 = np.square(indices @ lattice.recbase.T).sum(axis=1)
    coefficients, coordinates, occupancy, _ = get_vectorized_list_for_atomic_scattering_factors(
        phase.structure, {}, "lobato"
    )
    total = np.zeros(len(indices), complex)
    for c, xyz, share in zip(coefficients, coordinates, occupancy, strict=True):
        factor = get_atomic_scattering_factors(g2, c[None], "lobato")
        total += share * np.ravel(factor) * np.exp(2j * np.pi * (indices @ xyz))
    total *= np.exp(-0.25 * debye_waller * g2)
    mass = 1 + acquisition.beam_energy / _REST_ENERGY
    table = total * (mass * acquisition.wavelength / (2 * np.pi * lattice.volume))
    table[len(table) // 2] = 0.0
    return table.reshape(grid.shape[:3])


def _single_threaded_blas():
    """Return a context in which LAPACK leaves the cores to the loop over orientations."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


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


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _solve(
    matrices, thickness, precession, hkl, vectors, potential, centre, wavenumber, limit, max_beams,
    n_tilts,
):  # fmt: skip
    n, n_thick = thickness.shape
    positions = np.zeros((n, _MAX_SPOTS, 2), np.float32)
    intensities = np.zeros((n, _MAX_SPOTS, n_thick), np.float32)
    counts = np.zeros(n, np.int64)
    for i in numba.prange(n):
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
    return positions, intensities, counts
