"""Whether the calibrated patterns of a scan can be patterns of the phases at all.

Owns the warning about a scale that is off by a power of ten, the commonest mistake of units. Finer
errors of the calibration are not seen here.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.patterns.kernel import compute_descriptors, to_native
from pyxem_nas.patterns.sampler import make_sampler
from pyxem_nas.patterns.spec import DescriptorSpec, Detector

if TYPE_CHECKING:
    import dask.array as da

    from pyxem_nas.diffraction import Reflections

__all__ = ["warn_of_wrong_scale"]

_FACTORS = (0.1, 1.0, 10.0)
_N_PLACES, _N_PER_PLACE = 6, 12  # runs of neighbours: few blocks are read
_FITS = 0.5  # correlation of ring profiles
_MARGIN = 0.2
_ENOUGH_PIXELS = 512  # along a side; the blur of larger patterns would take minutes


def warn_of_wrong_scale(
    patterns: da.Array, centers: np.ndarray, detector: Detector, reflections: Reflections
) -> None:
    """Warn if the rings of a sample of patterns fit the phases at another power of ten only.

    Parameters
    ----------
    patterns
        Scan of shape (..., ny, nx), whole patterns per chunk, counts.
    centers
        Direct-beam positions (column, row) in pixels, shape (..., 2).
    detector
        Its calibration.
    reflections
        Of the phases.
    """
    spec = DescriptorSpec()
    first_ring = float(np.linalg.norm(reflections.vectors, axis=1).min())
    reach = _reach(centers, detector)
    if reach < first_ring:
        warnings.warn(
            f"the detector reaches to {reach:.2g} 1/angstrom only, the first ring of the phases is "
            f"at {first_ring:.2g}: check the scale, {max(detector.scale):.3g} 1/angstrom per pixel",
            stacklevel=3,
        )
        return
    if max(detector.scale) > first_ring:
        warnings.warn(
            f"a pixel is {max(detector.scale):.3g} 1/angstrom wide, the first ring of the phases "
            f"lies within it, at {first_ring:.2g}: check the scale",
            stacklevel=3,
        )
        return
    sample, where, binned = _bin_pixels(*_take_sample(patterns, centers), detector)
    expected = [_expected_profile(reflections, k, spec) for k in range(reflections.n_phases)]
    fits = []
    for factor in _FACTORS:
        scale = (binned.scale[0] * factor, binned.scale[1] * factor)
        sampler = make_sampler(dataclasses.replace(binned, scale=scale), spec)
        (descriptors,) = compute_descriptors(sample, where, sampler)
        profile = np.sqrt(np.square(descriptors).mean(axis=(0, 2)))
        fits.append(max(_correlate(profile, ring_profile) for ring_profile in expected))
    best = int(np.argmax(fits))
    right = _FACTORS.index(1.0)
    if best != right and fits[best] > max(_FITS, fits[right] + _MARGIN):
        warnings.warn(
            f"the rings of the patterns fit no phase; they would with a scale of "
            f"{max(detector.scale) * _FACTORS[best]:.3g} instead of {max(detector.scale):.3g} "
            "1/angstrom per pixel: check scale and units",
            stacklevel=3,
        )


def _reach(centers: np.ndarray, detector: Detector) -> float:
    """Return the largest distance of a pixel from the beam in 1/angstrom."""
    ny, nx = detector.shape
    center = centers.reshape(-1, 2).mean(axis=0, dtype=np.float64)
    x = max(center[0], nx - 1 - center[0]) * detector.scale[1]
    y = max(center[1], ny - 1 - center[1]) * detector.scale[0]
    return float(np.hypot(x, y))


def _take_sample(patterns: da.Array, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some patterns as one stack, and their centres."""
    import dask

    nav_shape = patterns.shape[:-2]
    n_rows = int(np.prod(nav_shape[:-1]))
    width = min(nav_shape[-1], _N_PER_PLACE)
    flat, places = np.asarray(centers, np.float32).reshape(n_rows, nav_shape[-1], 2), []
    for k in np.unique(np.linspace(0, n_rows * nav_shape[-1] - width, _N_PLACES).astype(int)):
        row, column = divmod(int(k), nav_shape[-1])
        places.append((row, slice(min(column, nav_shape[-1] - width), None)))
    rows = patterns.reshape(n_rows, *patterns.shape[-3:])
    parts = dask.compute(*(rows[row, s][:width] for row, s in places))
    sample = to_native(np.concatenate(parts))
    return sample, np.concatenate([flat[row, s][:width] for row, s in places])


def _bin_pixels(
    sample: np.ndarray, centers: np.ndarray, detector: Detector
) -> tuple[np.ndarray, np.ndarray, Detector]:
    """Join pixels of a large detector; return patterns, their centres and its calibration."""
    n = max(detector.shape) // _ENOUGH_PIXELS
    ny, nx = (size // n if n else 0 for size in detector.shape)
    if n < 2 or min(ny, nx) < 1:
        return sample, centers, detector

    def join(pixels: np.ndarray) -> np.ndarray:
        return pixels[..., : ny * n, : nx * n].reshape(-1, ny, n, nx, n).mean(axis=(2, 4))

    mask = np.zeros(detector.shape, bool)
    if detector.mask is not None:
        mask |= np.asarray(detector.mask, bool)
    joined = np.empty((len(sample), ny, nx), np.float32)
    for k, pattern in enumerate(sample):
        seen = ~mask & (pattern > 0) & (pattern < 3e38)  # as the descriptors leave pixels out
        joined[k] = join(np.where(seen, pattern, np.float32(0)))[0]
    binned = dataclasses.replace(
        detector,
        shape=(ny, nx),
        scale=(detector.scale[0] * n, detector.scale[1] * n),
        mask=None if detector.mask is None else join(mask.astype(np.float32))[0] > 0.5,
    )
    return joined, (centers - np.float32(0.5 * (n - 1))) / np.float32(n), binned


def _expected_profile(reflections: Reflections, k: int, spec: DescriptorSpec) -> np.ndarray:
    """Return what a powder of a phase would show at each radius, shape (n_radial,)."""
    rows = slice(*reflections.bounds[k : k + 2])
    radius = np.linalg.norm(reflections.vectors[rows], axis=1)
    # a reflection meets the Ewald sphere in a share of all orientations that falls with its radius
    weights = reflections.intensities[rows] / radius
    profile, _ = np.histogram(radius, spec.n_radial, spec.radial_range, weights=weights)
    return np.sqrt(np.convolve(profile, [0.25, 0.5, 0.25], mode="same"))


def _correlate(a: np.ndarray, b: np.ndarray) -> float:
    """Return Pearson's correlation, 0 where one is constant."""
    a, b = a - a.mean(), b - b.mean()
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else 0.0
