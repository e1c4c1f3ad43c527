"""Dynamical simulation of diffraction spots.

Owns the spots of many orientations by Bloch waves (`bloch_waves`), as kinematical simulation
(`kinematical`) cannot give them: a library of them (`spot_library`), computed once, is what
networks are trained and judged on beside kinematical patterns. Images belong to `scans`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.diffraction.bloch_waves import get_potential, solve
from pyxem_nas.diffraction.quaternions import quaternions_to_matrices, random_quaternions
from pyxem_nas.diffraction.spot_library import DynamicalSpots

if TYPE_CHECKING:
    from collections.abc import Callable

    from orix.crystal_map import Phase

    from pyxem_nas.diffraction.acquisition import Acquisition

_CHUNK = 512


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
        Phase with atoms.
    quaternions
        Orientations of shape (n, 4), lab2crystal, scalar first.
    acquisition
        Beam energy; its precession angle is not used.
    thickness
        Angstrom, shape (n, n_thicknesses).
    precession_angle
        Degrees, shape (n,).
    debye_waller
        Isotropic B in angstrom squared of atoms that state none.
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
            spots, values, n_spots = solve(
                matrices[chunk],
                thickness[chunk],
                precession[chunk],
                *potential.arguments,
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
        Phase with atoms.
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
        Isotropic B in angstrom squared of atoms that state none.
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


def _single_threaded_blas():
    """Return a context in which LAPACK leaves the cores to the loop over orientations."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")
