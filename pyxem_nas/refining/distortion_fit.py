"""Beam centre, scale and ellipticity of a scan, from its own patterns.

Owns `fit_distortion`: which patterns are looked at, and the turns of refining orientations and
fitting the geometry. Finding spots and the robust fit belong to `distortion`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition, simulate_spots
from pyxem_nas.indexing import KERNEL_LOCK, RefinementSettings
from pyxem_nas.patterns import (
    CalibrationFit,
    Detector,
    describe_matrix,
    fit_displacements,
    measure_spots,
    to_native,
)
from pyxem_nas.refining.scan_refinement import ScanPatterns, correct_scan, open_scan, refine_block

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

_N_RUNS = 32  # stretches of neighbouring positions that a sample of a scan is made of
_N_ROUNDS = 10  # of refining orientations and fitting the distortion, at most
_SETTLED = 1e-3  # a step below ends it, of the matrix and, in 1/angstrom, of the centre
_WEAK = 0.15  # spots are looked for whose square root of intensity is this share of the strongest
_LEAST_SPOTS = 40  # for five parameters, with room to tell outliers


def fit_distortion(
    s: ElectronDiffraction2D,
    xmap: CrystalMap,
    bundle: ModelBundle | Path | str | None,
    *,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: str | None = None,
    scan_rotation: float = 0.0,
    acquisition: Acquisition | None = None,
    distortion: np.ndarray | None = None,
    n_patterns: int = 200,
) -> CalibrationFit:
    """Fit beam centre, scale and ellipticity to the patterns of an indexed scan.

    Parameters
    ----------
    s, xmap, bundle, center, mask, detector_flip, scan_rotation, acquisition
        As in `refine_orientations`.
    distortion
        What is known already, shape (2, 2); the fit starts there. Errors of scale and shape up to
        about 5 % are found without.
    n_patterns
        How many patterns to look at: those of the highest correlation among four times as many,
        spread over the scan.

    Returns
    -------
    fit
        Its `distortion` is an argument of `index_phase_orientation` and `refine_orientations`.

    Raises
    ------
    ValueError
        As `refine_orientations`.

    Notes
    -----
    Orientations are refined, strong spots are sought near where they should be, and centre and
    matrix are fitted to the displacements by robust least squares, until both settle. The
    turn about the beam belongs to the orientations, so the matrix is symmetric. Where the mean
    correlation does not rise the fit is given up, and what was given comes back. Of spots so broad
    that they overlap (0.07 1/angstrom) a scale error is found only in part.

    Examples
    --------
    >>> fit = pyxem_nas.fit_distortion(s, xmap, "steel")  # doctest: +SKIP
    >>> xmap = s.index_phase_orientation("steel", distortion=fit.distortion)  # doctest: +SKIP
    """
    scan = open_scan(
        s, xmap, bundle, center, mask, detector_flip, scan_rotation, acquisition, distortion
    )
    return fit_sample(draw_sample(scan, n_patterns), fit_center=True, fit_matrix=True)


def draw_sample(scan: ScanPatterns, n_patterns: int) -> ScanPatterns:
    """Return the patterns of highest correlation among four times as many, in memory."""
    rows = np.flatnonzero(scan.phase_id >= 0)
    if rows.size == 0:
        raise ValueError("the map has no indexed position; a fit needs orientations")
    if rows.size > 4 * n_patterns:
        # runs of neighbours, so that a lazy scan is not read whole
        length = -(-4 * n_patterns // _N_RUNS)
        starts = np.linspace(0, rows.size - length, _N_RUNS).astype(int)
        rows = rows[np.unique((starts[:, None] + np.arange(length)).ravel())]
    nav_shape = scan.patterns.shape[:-2]
    index = np.unravel_index(rows, nav_shape)
    if isinstance(scan.patterns, np.ndarray):
        patterns = scan.patterns[index]
    else:
        patterns = scan.patterns.vindex[index].compute()
    patterns = to_native(patterns)
    if patterns.dtype.kind == "f":
        patterns = np.nan_to_num(patterns, posinf=0, neginf=0)
    first = scan.quaternions[rows, :1]
    part = ScanPatterns(
        patterns, scan.centers[rows], scan.phase_id[rows], first, scan.detector, scan.plan
    )
    refined, scores = _refine_part(part)
    best = np.sort(np.argsort(-scores, kind="stable")[:n_patterns])
    best = best[scores[best] > 0]
    if best.size == 0:
        raise ValueError("no pattern correlates with its orientation; a fit needs right ones")
    return ScanPatterns(
        patterns[best], part.centers[best], part.phase_id[best], refined[best], scan.detector,
        scan.plan,
    )  # fmt: skip


def _refine_part(part: ScanPatterns) -> tuple[np.ndarray, np.ndarray]:
    """Return refined orientations (n, 1, 4) and correlations (n,) of a sample."""
    refined, scores = refine_block(
        part.patterns, part.centers, part.phase_id, part.quaternions, part.plan
    )
    return refined, np.nan_to_num(scores[:, 0])


def fit_sample(sample: ScanPatterns, *, fit_center: bool, fit_matrix: bool) -> CalibrationFit:
    """Fit the calibration to a sample: orientations and geometry in turn."""
    given = sample.detector.distortion
    given = np.eye(2) if given is None else np.asarray(given, float)
    refined, scores = _refine_part(sample)
    before = best = scores.mean() if len(scores) else 0.0
    chosen, shift, n_used = (given, np.zeros(2)), np.zeros(2), 0
    matrix, part = given, sample
    for _ in range(_N_ROUNDS):
        positions, displacement, weight, owner = _compare_spots(part, refined)
        n_spots = int((weight > 0).sum())
        if n_spots < _LEAST_SPOTS:
            raise ValueError(
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
        refined, scores = _refine_part(part)
        if scores.mean() > best:
            best, chosen = scores.mean(), (matrix, shift)
        if max(np.abs(step).max(), np.abs(offset).max() * fit_center) < _SETTLED:
            break
    matrix, shift = chosen
    return CalibrationFit(
        (float(shift[0]), float(shift[1])), *describe_matrix(matrix), matrix, float(before),
        float(best), len(sample.patterns), n_used,
    )  # fmt: skip


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
