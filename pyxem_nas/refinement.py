"""Refinement of orientations by direct search on the kinematical correlation score.

Owns the score of an orientation against a polar pattern and its maximisation in continuous
orientation space. Works on candidates from anywhere: network, template matching, another program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numba
import numpy as np

from pyxem_nas.descriptors import DescriptorSpec
from pyxem_nas.simulation import Reflections

_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
_MAX_REFLECTIONS = 1024

#: Polar pattern that refinement correlates with: finer than the networks' descriptor.
REFINEMENT_SPEC = DescriptorSpec(n_radial=72, n_azimuthal=360)


def get_refinement_spec(spec: DescriptorSpec) -> DescriptorSpec:
    """Return the finer polar pattern that goes with a descriptor: same radii, same blur."""
    return replace(REFINEMENT_SPEC, radial_range=spec.radial_range, blur=spec.blur)


@dataclass(frozen=True)
class RefinementSettings:
    """How orientations are refined.

    Parameters
    ----------
    rod_width
        Standard deviation of the rocking curve in 1/angstrom. Gaussian: without tails, reflections
        that are not excited do not count.
    initial_step
        First step of the search in degrees, about half a cell.
    final_step
        Step at which the search stops, in degrees.
    intensity_exponent
        Spots are weighed by the structure factor's modulus squared to this power.
    """

    rod_width: float = 0.01
    initial_step: float = 1.2
    final_step: float = 0.05
    intensity_exponent: float = 0.4


def refine_candidates(
    polar: np.ndarray,
    quaternions: np.ndarray,
    reflections: Reflections,
    phase_id: int,
    *,
    spec: DescriptorSpec = REFINEMENT_SPEC,
    wavelength: float,
    precession_angle: float,
    settings: RefinementSettings | None = None,
    refine: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Refine candidate orientations against polar patterns.

    Parameters
    ----------
    polar
        Polar patterns as descriptors of `spec`, shape (n, n_radial, n_azimuthal), float32.
    quaternions
        Candidates of shape (n, k, 4), lab2crystal, scalar first. All-zero rows are skipped.
    reflections
        From `simulation.get_reflections`.
    phase_id
        Phase of all rows.
    spec
        Grid of `polar`.
    wavelength
        Electron wavelength in angstrom.
    precession_angle
        Degrees.
    settings
        None: the defaults.
    refine
        Without, only the score of the candidates as they are.

    Returns
    -------
    quaternions
        Refined candidates in the same order, shape (n, k, 4).
    correlation
        Their scores, shape (n, k), in 0 to 1.

    Notes
    -----
    The score is the cosine between two lists of spot heights: of the template's spots, weighed by
    structure factor and rocking curve, the pattern's value at each; and the pattern's own peaks
    (local maxima). It does not depend on the spots' width. The search is a compass search over
    three small rotations, about x, y and z of the laboratory.
    """
    settings = settings or RefinementSettings()
    rows = slice(*reflections.bounds[phase_id : phase_id + 2])
    intensity = reflections.intensities[rows]
    amplitude = (intensity / intensity.max()) ** settings.intensity_exponent
    return _refine(
        np.ascontiguousarray(polar),
        np.ascontiguousarray(quaternions, np.float64),
        reflections.vectors[rows],
        amplitude,
        1 / wavelength,
        math.radians(precession_angle),
        settings.rod_width,
        math.radians(settings.initial_step) if refine else 0.0,
        math.radians(settings.final_step),
        spec.radial_range[0],
        spec.radial_step,
    )


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _peak_norm(polar):
    """Return the root of the summed squares of a polar pattern's local maxima."""
    n_radial, n_azimuthal = polar.shape
    total = 0.0
    for r in range(n_radial):
        for a in range(n_azimuthal):
            value = polar[r, a]
            if value <= 0:
                continue
            left = polar[r, a - 1]
            right = polar[r, a + 1 if a + 1 < n_azimuthal else 0]
            if value < left or value <= right:
                continue
            peak = True
            for step in (-1, 1):
                ring = r + step
                if 0 <= ring < n_radial:
                    for turn in (-1, 0, 1):
                        other = polar[ring, (a + turn) % n_azimuthal]
                        if other > value or (other == value and step == 1):
                            peak = False
            if peak:
                total += value * value
    return np.sqrt(total)


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _matrix(w, x, y, z, out):
    out[0, 0], out[0, 1], out[0, 2] = (
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
    )
    out[1, 0], out[1, 1], out[1, 2] = (
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
    )
    out[2, 0], out[2, 1], out[2, 2] = (
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    )


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _score(polar, matrix, near, amplitude, n_near, wavenumber, precession, width, inner, step):
    """Return sum(w p) / sqrt(sum(w^2)) over the spots of one orientation."""
    n_radial, n_azimuthal = polar.shape
    per_radian = n_azimuthal / (2 * np.pi)
    product, power = 0.0, 0.0
    for j in range(n_near):
        gx, gy, gz = near[j, 0], near[j, 1], near[j, 2]
        z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
        x = gx * matrix[0, 0] + gy * matrix[1, 0] + gz * matrix[2, 0]
        y = gx * matrix[0, 1] + gy * matrix[1, 1] + gz * matrix[2, 1]
        radius2 = x * x + y * y
        # the sphere to fourth order: better than 1e-5 1/angstrom here
        ratio = radius2 / (wavenumber * wavenumber)
        error = 0.5 * wavenumber * ratio * (1 + 0.25 * ratio) - z
        # precession sweeps the error by +- radius * angle; its mean square joins the width
        variance = width * width + 0.5 * radius2 * precession * precession
        exponent = error * error / variance
        if exponent > 12:
            continue
        weight = amplitude[j] * np.exp(-0.5 * exponent) * np.sqrt(width / np.sqrt(variance))
        radius = np.sqrt(radius2)
        ring = (radius - inner) / step - 0.5
        if ring < 0 or ring >= n_radial - 1:
            continue
        turn = np.arctan2(y, x) * per_radian
        if turn < 0:
            turn += n_azimuthal
        r0 = int(ring)
        a0 = int(turn)
        fr, fa = ring - r0, turn - a0
        a0 = a0 if a0 < n_azimuthal else a0 - n_azimuthal
        a1 = a0 + 1 if a0 + 1 < n_azimuthal else 0
        low = polar[r0, a0] + fa * (polar[r0, a1] - polar[r0, a0])
        high = polar[r0 + 1, a0] + fa * (polar[r0 + 1, a1] - polar[r0 + 1, a0])
        product += weight * (low + fr * (high - low))
        power += weight * weight
    return product / np.sqrt(power) if power > 0 else 0.0


@numba.njit(cache=True, fastmath=_FASTMATH, error_model="numpy")
def _search(
    polar, q, vectors, amplitude, wavenumber, precession, width, first_step, last_step, inner, step,
    near, near_amplitude, matrix,
):  # fmt: skip
    """Maximise the score from orientation q, in place; return the score."""
    _matrix(q[0], q[1], q[2], q[3], matrix)
    # reflections that any orientation of the search can bring near the Ewald sphere
    margin_angle = 3 * first_step + precession
    n_near = 0
    for j in range(len(vectors)):
        gx, gy, gz = vectors[j, 0], vectors[j, 1], vectors[j, 2]
        length2 = gx * gx + gy * gy + gz * gz
        z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
        error = 0.5 * length2 / wavenumber - z
        if abs(error) < 3.5 * width + np.sqrt(length2) * margin_angle and n_near < len(near):
            near[n_near] = vectors[j]
            near_amplitude[n_near] = amplitude[j]
            n_near += 1
    best = _score(
        polar, matrix, near, near_amplitude, n_near, wavenumber, precession, width, inner, step
    )
    angle = first_step
    w, x, y, z = q[0], q[1], q[2], q[3]
    while angle > last_step:
        improved = False
        for axis in range(3):
            for sign in (-1.0, 1.0):
                half = 0.5 * angle * sign
                c, s = np.cos(half), np.sin(half)
                # turn the crystal about an axis of the laboratory: right-multiply
                if axis == 0:
                    tw, tx, ty, tz = w * c - x * s, x * c + w * s, y * c + z * s, z * c - y * s
                elif axis == 1:
                    tw, tx, ty, tz = w * c - y * s, x * c - z * s, y * c + w * s, z * c + x * s
                else:
                    tw, tx, ty, tz = w * c - z * s, x * c + y * s, y * c - x * s, z * c + w * s
                _matrix(tw, tx, ty, tz, matrix)
                value = _score(
                    polar, matrix, near, near_amplitude, n_near, wavenumber, precession, width,
                    inner, step,
                )  # fmt: skip
                if value > best:
                    best = value
                    w, x, y, z = tw, tx, ty, tz
                    improved = True
                    break
        if not improved:
            angle *= 0.5
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    q[0], q[1], q[2], q[3] = w / norm, x / norm, y / norm, z / norm
    return best


@numba.njit(cache=True, parallel=True, error_model="numpy")
def _refine(
    polar, quaternions, vectors, amplitude, wavenumber, precession, width, first_step, last_step,
    inner, step,
):  # fmt: skip
    n, k = quaternions.shape[:2]
    refined = quaternions.copy()
    scores = np.zeros((n, k), np.float64)
    for i in numba.prange(n):
        near = np.empty((_MAX_REFLECTIONS, 3), np.float64)
        near_amplitude = np.empty(_MAX_REFLECTIONS, np.float64)
        matrix = np.empty((3, 3), np.float64)
        norm = _peak_norm(polar[i])
        if norm <= 0:
            continue
        for j in range(k):
            q = refined[i, j]
            if q[0] == 0 and q[1] == 0 and q[2] == 0 and q[3] == 0:
                continue
            score = _search(
                polar[i], q, vectors, amplitude, wavenumber, precession, width, first_step,
                last_step, inner, step, near, near_amplitude, matrix,
            )  # fmt: skip
            scores[i, j] = min(max(score / norm, 0.0), 1.0)
    return refined, scores
