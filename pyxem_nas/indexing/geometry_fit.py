"""Beam centre, scale and ellipticity fitted to a sample of patterns of known orientation.

Owns the turns of refining orientations and fitting the geometry, and how spots' places are compared
with where they should be. Finding spots and robust least squares belong to `patterns.distortion`.
"""

from __future__ import annotations

import numpy as np

from pyxem_nas.diffraction import simulate_spots
from pyxem_nas.indexing.block import KERNEL_LOCK
from pyxem_nas.indexing.refinement import RefinementSettings
from pyxem_nas.indexing.scan_sample import ScanPatterns, correct_scan, refine_sample
from pyxem_nas.patterns import (
    CalibrationFit,
    Detector,
    describe_matrix,
    fit_displacements,
    measure_spots,
)

__all__ = ["NothingToFit", "fit_sample", "measure_offsets"]

_N_ROUNDS = 10  # of refining orientations and fitting the distortion, at most
_SETTLED = 1e-3  # a step below ends it, of the matrix and, in 1/angstrom, of the centre
_WEAK = 0.15  # spots are looked for whose square root of intensity is this share of the strongest
_SPREAD = 0.006, 0.0035  # 1/angstrom: of sharp spots, and more over the weight of faint ones
_LARGEST_SPREAD = 0.022  # from 0.023 on, spots lie anywhere in the window
_LEAST_SPOTS = 40  # for five parameters, with room to tell outliers


class NothingToFit(ValueError):
    """The patterns do not show what the fit needs."""


def fit_sample(sample: ScanPatterns, *, fit_center: bool, fit_matrix: bool) -> CalibrationFit:
    """Fit the calibration to a sample: orientations and geometry in turn.

    The spots' places decide, not the correlations: those of a sample that was chosen by them are
    highest with the calibration it was chosen with.
    """
    given = sample.detector.distortion
    given = np.eye(2) if given is None else np.asarray(given, float)
    refined, scores = refine_sample(sample)
    before = scores.mean() if len(scores) else 0.0
    matrix, shift, part, n_used = given, np.zeros(2), sample, 0
    for _ in range(_N_ROUNDS):
        positions, displacement, weight, owner = _compare_spots(part, refined)
        n_spots = int((weight > 0).sum())
        if n_spots < _LEAST_SPOTS:
            raise NothingToFit(
                f"{n_spots} spots in {len(part.patterns)} patterns lie near where they should, "
                f"needed are {_LEAST_SPOTS}; check centre, scale, detector_flip and orientations"
            )
        step, offset, n_used = fit_displacements(positions, displacement, weight, owner)
        step = 0.5 * (step + step.T) if fit_matrix else np.zeros((2, 2))
        # displacements are of shown positions: the step acts on what the matrix shows
        matrix = (np.eye(2) + step) @ matrix
        if fit_center:
            shift = shift + _to_pixels(part.detector, offset)
        part = correct_scan(sample, matrix, shift)
        refined, scores = refine_sample(part)
        if max(np.abs(step).max(), np.abs(offset).max() * fit_center) < _SETTLED:
            break
    return CalibrationFit(
        (float(shift[0]), float(shift[1])), *describe_matrix(matrix), matrix, float(before),
        float(scores.mean()), len(sample.patterns), n_used, *_measure_spread(part, refined),
    )  # fmt: skip


def _measure_spread(part: ScanPatterns, quaternions: np.ndarray) -> tuple[float, float]:
    """Return how far spots lie from where they should, and how far those of a right crystal may.

    Both in 1/angstrom. Each pattern's own offset is taken off. A spot's place is uncertain by as
    much as its contrast is low; of a crystal that is not there, spots lie anywhere in the window.
    """
    _, displacement, weight, owner = _compare_spots(part, quaternions)
    seen = weight > 0
    if not seen.any():
        return np.nan, 0.0
    displacement, weight, owner = displacement[seen], weight[seen], owner[seen]
    away = np.concatenate(
        [
            np.linalg.norm(d - np.median(d, axis=0), axis=1)
            for d in (displacement[owner == k] for k in np.unique(owner))
        ]
    )
    levels = np.median(part.patterns, axis=(1, 2))
    noise = np.median(np.abs(part.patterns - levels[:, None, None]), axis=(1, 2))
    limit = _SPREAD[0] + _SPREAD[1] / np.median(weight)
    if np.median(noise) == 0:  # single electrons, or a background cut off: contrast says nothing
        limit = _LARGEST_SPREAD
    # the median length of a two-dimensional normal deviate is 1.18 standard deviations
    return float(np.median(away) / 1.18), float(min(limit, _LARGEST_SPREAD))


def measure_offsets(sample: ScanPatterns) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each pattern's centre is off, in pixels, and how many spots say so.

    Offsets are (column, row), shape (n, 2), NaN where fewer than four spots are seen; numbers (n,).
    """
    refined, _ = refine_sample(sample)
    _, displacement, weight, owner = _compare_spots(sample, refined)
    offsets = np.full((len(sample.patterns), 2), np.nan)
    counts = np.zeros(len(sample.patterns), int)
    for k in np.unique(owner[weight > 0]):
        spots = (owner == k) & (weight > 0)
        counts[k] = spots.sum()
        if counts[k] >= 4:
            offsets[k] = _to_pixels(sample.detector, np.median(displacement[spots], axis=0))
    return offsets, counts


def _compare_spots(part: ScanPatterns, quaternions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return where spots should be and how far from there they are, as the detector shows them.

    Both (m, 2), x and y in 1/angstrom; then weight and pattern of each, (m,).
    """
    matrix = part.detector.matrix
    shown = np.eye(2) if part.detector.distortion is None else part.detector.distortion
    width = RefinementSettings().rod_width
    positions, pixels, owner = [], [], []
    for k in np.unique(part.phase_id):
        rows = np.flatnonzero(part.phase_id == k)
        spots = simulate_spots(
            part.plan.reflections, quaternions[rows, 0], part.plan.acquisition, phase_id=int(k),
            max_excitation_error=2 * width, rocking_width=width, rocking_curve="gaussian",
        )  # fmt: skip
        for row, (xy, intensity, _) in zip(rows, spots, strict=True):
            strong = np.sqrt(intensity) > _WEAK * np.sqrt(intensity.max(initial=0))
            strong &= np.linalg.norm(xy, axis=1) > part.plan.spec.radial_range[0]
            positions.append(xy[strong] @ np.asarray(shown).T)
            pixels.append(part.centers[row] + xy[strong] @ matrix.T)
            owner.append(np.full(strong.sum(), row))
    positions, pixels, owner = (np.concatenate(parts) for parts in (positions, pixels, owner))
    with KERNEL_LOCK:
        displacement, weight = measure_spots(
            part.patterns, owner, pixels, part.detector.scale, part.detector.mask
        )
    # from pixels to 1/angstrom, y up, as the undistorted detector would have it
    to_pixels = matrix @ np.linalg.inv(shown)
    return positions, displacement @ np.linalg.inv(to_pixels).T, weight, owner


def _to_pixels(detector: Detector, offset: np.ndarray) -> np.ndarray:
    """Return an offset (x, y) in 1/angstrom, as shown, as (column, row) in pixels."""
    shown = np.eye(2) if detector.distortion is None else detector.distortion
    return detector.matrix @ np.linalg.inv(shown) @ offset
