"""Kinematical simulation of diffraction spots.

Owns the way from an orientation to its spots: excitation error, precession and rocking curve. The
table of reflections belongs to `reflections`; images, noise and the random cameras that networks
are trained on belong to `scans.randomization`.
"""

from __future__ import annotations

from typing import Literal

import numba
import numpy as np

from pyxem_nas.diffraction.acquisition import Acquisition
from pyxem_nas.diffraction.quaternions import quaternions_to_matrices
from pyxem_nas.diffraction.reflections import Reflections

#: Rocking curves: the numbers that the compiled code knows them by.
ROCKING_CURVES = {"lorentzian": 0, "gaussian": 1, "two-beam": 2}
_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
_N_BEAM_TILTS = 8  # beam tilts over half a precession circle; the other half mirrors them


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


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
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
