"""What is compiled at the first use of an installed package, compiled beforehand.

Owns the walk through the package that brings its kernels into numba's cache: for images of
containers and for clusters, whose workers would each begin by compiling.
"""

from __future__ import annotations

import time

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import Acquisition
from pyxem_nas.scans import example_phases, simulate_scan

__all__ = ["compile_kernels"]

_DTYPES = (np.uint8, np.uint16, np.float32)  # all else is converted to the last


def compile_kernels() -> float:
    """Compile what indexing needs on this machine, so that the first index does not wait for it.

    Returns
    -------
    seconds
        How long it took; a second call finds all in the cache.

    Notes
    -----
    numba keeps what it compiles in the folder that the variable NUMBA_CACHE_DIR names, else beside
    the package, or, where that cannot be written, in the user's cache. It is used again by
    processors of the same kind; for others set NUMBA_CPU_NAME="generic" when compiling and when
    indexing, which costs speed.

    Examples
    --------
    >>> seconds = pyxem_nas.compile_kernels()  # doctest: +SKIP
    """
    started = time.perf_counter()
    bundle = ModelBundle.load("steel")
    phases = example_phases("steel")
    scan, _ = simulate_scan(phases, (2, 3), Acquisition(beam_energy=200), seed=0)
    settings = {"center": "auto", "min_confidence": 0.0, "show_progressbar": False}
    for dtype in _DTYPES:
        patterns = scan.deepcopy()
        patterns.change_dtype(dtype)
        patterns.index_phase_orientation(bundle, regularize=True, n_overlaps=2, **settings)
    scan.index_phase_orientation(phases, **settings)
    scan.index_phase_orientation(bundle, method="template", **settings)
    return time.perf_counter() - started
