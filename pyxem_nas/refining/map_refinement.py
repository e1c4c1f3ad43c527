"""Refinement of whole crystal maps, of this package or any other program.

Owns `refine_orientations`: the dask map over the blocks of a scan, and the new map. The patterns
and their orientations come from `scan_refinement`, the search is `refinement`'s, the correction of
centre and distortion `distortion_fit`'s.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition, multiply_quaternions
from pyxem_nas.indexing import (
    SCORES,
    RefinementPlan,
    ScanPatterns,
    correct_scan,
    fit_sample,
    refine_block,
)
from pyxem_nas.maps import NOT_INDEXED, all_positions
from pyxem_nas.refining.distortion_fit import draw_sample
from pyxem_nas.refining.scan_refinement import about_beam, open_scan
from pyxem_nas.signals import compute_with_progress, get_blocks

if TYPE_CHECKING:
    import dask.array as da
    from orix.crystal_map import CrystalMap
    from pyxem.signals import ElectronDiffraction2D

_logger = logging.getLogger(__name__)


def refine_orientations(
    s: ElectronDiffraction2D,
    xmap: CrystalMap,
    bundle: ModelBundle | Path | str | None,
    *,
    center: Any = None,
    mask: np.ndarray | None = None,
    detector_flip: str | None = None,
    scan_rotation: float = 0.0,
    acquisition: Acquisition | None = None,
    fit_center: bool = False,
    fit_distortion: bool = False,
    distortion: np.ndarray | None = None,
    show_progressbar: bool | None = None,
) -> CrystalMap:
    """Refine the orientations of a crystal map against its patterns.

    Parameters
    ----------
    s
        Scan of the map's shape, eager or lazy.
    xmap
        Map of this package, pyxem, ASTAR or another program, one or more rotations per position,
        lab2crystal in the frame of `index_phase_orientation`. Orientations must be right within
        about 2 degrees.
    bundle
        Bundle, path or name that has the map's phases, by name; only their structures are used.
        ``ModelBundle.from_phases(phase_list, acquisition)`` makes one.
    center, mask, detector_flip, scan_rotation, acquisition
        As in `index_phase_orientation`, and the same as there.
    fit_center
        Correct the beam centre by the offset that the patterns tell, one for the whole map.
    fit_distortion
        Correct scale and ellipticity by what the patterns tell, one for the whole map.
    distortion
        Known distortion, shape (2, 2), as in `index_phase_orientation`; a fit starts from it.
    show_progressbar
        None: HyperSpy's preference.

    Returns
    -------
    xmap
        A new map. All rotations are refined and keep their order; phases, coordinates and
        properties are kept, but for `correlation` (of the first rotation), `twin_reliability` and,
        where there are several rotations, `reliability`, which are computed anew as
        `index_phase_orientation` defines them; spots that the detector does not show are left out
        of account. Positions that are not indexed, not in the data or empty stay as they were.

    Raises
    ------
    ValueError
        If the map does not fit the scan, has a phase that the bundle does not have, or, for a fit,
        too few spots are found.

    See Also
    --------
    pyxem_nas.fit_distortion : The fit alone, with its figures; they are logged here.

    Examples
    --------
    >>> better = pyxem_nas.refine_orientations(s, xmap, "steel")  # doctest: +SKIP
    """
    scan = open_scan(
        s, xmap, bundle, center, mask, detector_flip, scan_rotation, acquisition, distortion
    )
    if fit_center or fit_distortion:
        sample = draw_sample(scan, 200)
        fit = fit_sample(sample, fit_center=fit_center, fit_matrix=fit_distortion)
        _logger.info("%r", fit)
        scan = correct_scan(scan, fit.distortion, np.array(fit.center_shift))
    rows = _refine_lazily(s, scan)
    found = compute_with_progress(rows, show_progressbar).reshape(len(scan.centers), -1)
    return _replace(xmap, scan, found, scan_rotation)


def _refine_lazily(s: ElectronDiffraction2D, scan: ScanPatterns) -> da.Array:
    """Return rows (..., 4 n_best + 3) of refined orientations and their scores."""
    import dask.array as da
    from dask import delayed

    patterns = get_blocks(s)
    n_best = scan.quaternions.shape[1]
    what = np.concatenate(
        [scan.centers, scan.phase_id[:, None], scan.quaternions.reshape(len(scan.centers), -1)],
        axis=1,
    )
    nav_chunks = patterns.chunks[:-2]
    what = what.reshape(*patterns.shape[:-2], -1, 1)
    return da.map_blocks(
        _refine_chunk,
        patterns,
        da.from_array(what, chunks=(*nav_chunks, what.shape[-2], 1)),
        dtype=np.float64,
        chunks=(*nav_chunks, (4 * n_best + len(SCORES),)),
        drop_axis=patterns.ndim - 1,
        meta=np.empty((0,) * (len(nav_chunks) + 1)),
        plan=delayed(scan.plan, traverse=False),
    )


def _refine_chunk(patterns: np.ndarray, what: np.ndarray, *, plan: RefinementPlan) -> np.ndarray:
    stack = patterns.reshape(-1, *patterns.shape[-2:])
    what = what.reshape(len(stack), -1)
    quaternions = what[:, 3:].reshape(len(stack), -1, 4)
    refined, scores = refine_block(stack, what[:, :2], what[:, 2].astype(int), quaternions, plan)
    rows = np.concatenate([refined.reshape(len(stack), -1), scores], axis=1)
    return rows.reshape(*patterns.shape[:-2], -1)


def _replace(
    xmap: CrystalMap, scan: ScanPatterns, found: np.ndarray, scan_rotation: float
) -> CrystalMap:
    """Return the map with other rotations and scores."""
    from orix.crystal_map import CrystalMap
    from orix.quaternion import Rotation

    n, n_best = scan.quaternions.shape[:2]
    refined, scores = found[:, :-3].reshape(n, n_best, 4), found[:, -3:]
    # an empty pattern correlates with nothing: what the map said of it is all there is
    done = (scan.phase_id >= 0) & (scores[:, 0] > 0)
    quaternions = np.tile([1.0, 0, 0, 0], (n, n_best, 1))
    inside = xmap.is_in_data
    quaternions[inside] = xmap.rotations.data.reshape(-1, n_best, 4)
    quaternions[done] = multiply_quaternions(refined[done], about_beam(scan_rotation))
    phase_id = np.full(n, NOT_INDEXED)
    phase_id[inside] = xmap.phase_id
    prop = {}
    for name in xmap.prop:
        values = np.asarray(xmap.prop[name])
        prop[name] = np.zeros((n, *values.shape[1:]), values.dtype)
        prop[name][inside] = values
    for column, name in enumerate(SCORES):
        if name == "reliability" and n_best == 1:
            continue  # a map of one solution does not tell the second best
        old = prop.get(name)
        new = np.full(n, np.nan) if old is None else np.asarray(old, float).reshape(n, -1)[:, 0]
        prop[name] = np.where(done, scores[:, column], new)
    x, y = all_positions(xmap)
    refined_map = CrystalMap(
        rotations=Rotation(quaternions[:, 0] if n_best == 1 else quaternions),
        phase_id=phase_id,
        x=x,
        y=y if np.ptp(y) > 0 else None,
        phase_list=xmap.phases.deepcopy(),
        prop=prop,
        scan_unit=xmap.scan_unit,
        is_in_data=inside.copy(),
    )
    # CrystalMap drops phases that no position has and numbers the others anew
    refined_map._phase_id = phase_id
    refined_map.phases = xmap.phases.deepcopy()
    return refined_map
