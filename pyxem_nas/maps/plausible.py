"""Plausible orientations: how many answers a position needs, and which.

Owns what is read out of a map's `n_plausible`. How many are needed is decided when the map is made
(`bundles.SetJudge.count_plausible`).
"""

from __future__ import annotations

import warnings

import numpy as np
from orix.crystal_map import CrystalMap
from orix.quaternion import Rotation


def plausible_orientations(xmap: CrystalMap) -> tuple[Rotation, np.ndarray]:
    """Return the orientations that hold the right one at 9 of 10 positions that found it at all.

    Parameters
    ----------
    xmap
        Map of n positions with the property `n_plausible`, made with ``n_best`` solutions.

    Returns
    -------
    rotations
        lab2crystal, shape (n, n_best), the likeliest first.
    plausible
        Which of them are among the plausible ones, boolean, shape (n, n_best); of a position that
        is not indexed none is.

    Raises
    ------
    ValueError
        If the map has no `n_plausible`.

    Warns
    -----
    UserWarning
        Where more are plausible than the map holds.

    Notes
    -----
    The share is that of simulated patterns of each difficulty, of crystals that the judge was not
    fitted to: conformal prediction (Romano et al. 2020, arXiv:2006.02544). 180-degree twins about
    the beam and pseudo-symmetric variants count apart.

    Examples
    --------
    >>> import pyxem_nas
    >>> phases, acquisition = pyxem_nas.example_phases("silver"), pyxem_nas.Acquisition()
    >>> s, truth = pyxem_nas.simulate_scan(phases, (2, 3), acquisition, seed=1)
    >>> options = {"n_best": 12, "min_confidence": 0, "show_progressbar": False}
    >>> xmap = s.index_phase_orientation(phases, acquisition=acquisition, **options)
    >>> rotations, plausible = pyxem_nas.plausible_orientations(xmap)
    >>> rotations.shape, plausible.shape
    ((6, 12), (6, 12))
    """
    if "n_plausible" not in xmap.prop:
        raise ValueError(
            "the map has no 'n_plausible', which maps of older versions lack; it has "
            f"{sorted(xmap.prop)}; index the scan again"
        )
    rotations = xmap.rotations.reshape(xmap.size, -1)
    number = np.where(xmap.is_indexed, xmap.prop["n_plausible"], 0)
    lacking = int((number > rotations.shape[1]).sum())
    if lacking:
        warnings.warn(
            f"at {lacking} of {xmap.size} positions more orientations are plausible than the map's "
            f"{rotations.shape[1]}; index with n_best={number.max()} to have them all",
            stacklevel=2,
        )
    return rotations, np.arange(rotations.shape[1]) < number[:, None]
