"""Exhaustive matching: descriptors against all templates of a phase at all in-plane angles.

Owns the correlation and its distinct highest peaks. The templates are `match_library`'s, the
compiled loops `matching_kernel`'s; orientations finer than the grid are `refinement`'s. No
training, no peaks to detect. Plain arrays only.
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.indexing import matching_kernel as kernel
from pyxem_nas.indexing.match_library import (
    MatchingSettings,
    MatchLibrary,
    count_harmonics,
    get_match_library,
    order_harmonics,
)
from pyxem_nas.patterns import DescriptorSpec

__all__ = [
    "MatchLibrary",
    "MatchingSettings",
    "get_match_library",
    "match_descriptors",
    "match_spectra",
    "transform",
]

_DISTINCT = 6.0  # degrees within which two peaks are one
_GROUPS_PER_TASK = 8  # of patterns: the maxima of all templates fit the cache


def transform(
    descriptors: np.ndarray, spec: DescriptorSpec, *, n_harmonics: int | None = None
) -> np.ndarray:
    """Return what `match_spectra` takes: Fourier coefficients of descriptors along azimuth.

    Parameters
    ----------
    descriptors
        Of `spec`, shape (n, n_radial, n_azimuthal), float32.
    spec
        The descriptor.
    n_harmonics
        The libraries'; None: as of the default settings.

    Returns
    -------
    spectra
        In groups of four patterns, shape (n_groups, n_harmonics, 8, n_radial), float32: the real
        and the imaginary part of each; the same for all phases.
    """
    n_harmonics = n_harmonics or count_harmonics(MatchingSettings(), spec)
    n_padded = -(-spec.n_radial // 4) * 4
    padding = ((0, 0), (0, n_padded - spec.n_radial), (0, -spec.n_azimuthal % 4))
    padded = np.asarray(descriptors, np.float32)
    if any(after for _, after in padding):
        padded = np.pad(padded, padding)
    weights = np.zeros(n_padded, np.float32)
    weights[: spec.n_radial] = np.sqrt(spec.radii)
    waves = _make_waves(n_harmonics, spec.n_azimuthal)
    n_groups = -(-len(padded) // kernel.GROUP)
    spectra = np.zeros((n_groups, n_harmonics, 2 * kernel.GROUP, n_padded), np.float32)
    run_rows(kernel.transform, n_groups, np.ascontiguousarray(padded), weights, waves, spectra)
    return spectra


def match_spectra(
    spectra: np.ndarray, library: MatchLibrary, *, n_best: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct orientations of highest correlation; see `match_descriptors`.

    `spectra` are `transform`'s; there are as many rows as these hold patterns, a multiple of four.
    """
    n_threads = max(1, numba.get_num_threads())
    n = len(spectra) * kernel.GROUP
    quaternions, scores = np.zeros((n, n_best, 4)), np.zeros((n, n_best), np.float32)
    run_rows(
        kernel.match,
        len(spectra),
        spectra,
        library.bases,
        library.coefficients,
        library.ranks,
        library.references,
        library.symmetry,
        *kernel.make_tables(library.n_angles, spectra.shape[1] // 2),
        library.n_angles,
        np.cos(np.deg2rad(_DISTINCT) / 2),
        quaternions,
        scores,
        rows=min(_GROUPS_PER_TASK, max(1, -(-len(spectra) // n_threads))),
    )
    return quaternions, scores


def match_descriptors(
    descriptors: np.ndarray, library: MatchLibrary, spec: DescriptorSpec, *, n_best: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct orientations of highest correlation.

    Parameters
    ----------
    descriptors
        Of `spec`, shape (n, n_radial, n_azimuthal), float32.
    library
        Of one phase and `spec`, from `get_match_library`.
    spec
        The descriptor.
    n_best
        Number of orientations more than 6 degrees apart.

    Returns
    -------
    quaternions
        Shape (n, n_best, 4), lab2crystal, scalar first, by falling score; all-zero where there are
        fewer, as of an empty pattern.
    scores
        Shape (n, n_best), float32: the correlation of each at its point of the grid, below 1.

    Notes
    -----
    The correlation is that of the descriptor to the power 11/16 and of the template, each bin
    weighed by its area, the mean of each ring left out. Along azimuth it is a product of Fourier
    coefficients: for each harmonic one matrix product of patterns and templates over a few radial
    profiles, then an inverse transform, for a quarter turn at once, even and odd harmonics
    separately. A template's mirror image, the crystal seen from behind, is its conjugate: it costs
    additions alone. Of each template the highest correlation in each quarter turn is kept; of all
    these the 128 highest are looked at for distinct orientations.
    """
    n = len(descriptors)
    quaternions, scores = match_spectra(
        transform(descriptors, spec, n_harmonics=library.n_harmonics), library, n_best=n_best
    )
    return quaternions[:n], scores[:n]


@cache
def _make_waves(n_harmonics: int, n_azimuthal: int) -> np.ndarray:
    """Return cosine and negative sine of each harmonic, scaled as `take_harmonics` does."""
    angles = 2 * np.pi * np.outer(order_harmonics(n_harmonics), np.arange(n_azimuthal))
    angles /= n_azimuthal
    waves = np.stack([np.cos(angles), -np.sin(angles)], axis=1).reshape(2 * n_harmonics, -1)
    waves = np.pad(waves, ((0, 0), (0, -n_azimuthal % 4)))
    return (np.sqrt(2 / n_azimuthal) * waves).astype(np.float32)
