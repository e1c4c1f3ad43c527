"""Beam centre, scale and ellipticity of a scan, from its own patterns.

Owns `fit_distortion` and which patterns are looked at. The fit to a sample is `indexing`'s, which
calibrates by itself with it; finding spots and robust least squares are `patterns.distortion`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.indexing import ScanPatterns, fit_sample, refine_sample
from pyxem_nas.patterns import CalibrationFit, to_native
from pyxem_nas.refining.scan_refinement import open_scan

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

_N_RUNS = 32  # stretches of neighbouring positions that a sample of a scan is made of


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
    refined, scores = refine_sample(part)
    best = np.sort(np.argsort(-scores, kind="stable")[:n_patterns])
    best = best[scores[best] > 0]
    if best.size == 0:
        raise ValueError("no pattern correlates with its orientation; a fit needs right ones")
    return ScanPatterns(
        patterns[best], part.centers[best], part.phase_id[best], refined[best], scan.detector,
        scan.plan,
    )  # fmt: skip
