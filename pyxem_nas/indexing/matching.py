"""Exhaustive matching: descriptors against all templates of a phase at all in-plane angles.

Owns the correlation and its distinct highest peaks. The templates are `match_library`'s, the
compiled loops `matching_kernel`'s; orientations finer than the grid are `refinement`'s. No
training, no peaks to detect. Plain arrays only.
"""

from __future__ import annotations

import logging
from functools import cache

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.indexing import match_coefficients, matching_device
from pyxem_nas.indexing import matching_kernel as kernel
from pyxem_nas.indexing.accelerator import has_gpu
from pyxem_nas.indexing.match_library import MatchLibrary, get_match_library
from pyxem_nas.indexing.template_drawing import (
    MatchingSettings,
    count_harmonics,
    order_harmonics,
)
from pyxem_nas.patterns import DescriptorSpec

__all__ = [
    "MatchLibrary",
    "MatchingSettings",
    "get_match_library",
    "match_descriptors",
    "match_spectra",
    "score_everywhere",
    "score_spectra",
    "transform",
]

_logger = logging.getLogger(__name__)

N_CANDIDATES = 12  # distinct peaks: of 99 in 100 patterns one of them is right
DISTINCT_COSINE = float(np.cos(np.deg2rad(6.0) / 2))  # peaks nearer than 6 degrees are one
_refusals: list[str] = []  # why the GPU is not asked again in this process


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
        Shape (n, n_harmonics, 2, n_radial), float32: real and imaginary parts; the same for all
        phases.
    """
    n_harmonics = n_harmonics or count_harmonics(MatchingSettings(), spec)
    n_padded = -(-spec.n_radial // 4) * 4
    padding = ((0, 0), (0, n_padded - spec.n_radial), (0, -spec.n_azimuthal % 4))
    padded = np.asarray(descriptors, np.float32)
    if any(after for _, after in padding):
        padded = np.pad(padded, padding)
    weights = np.zeros(padded.shape[1:], np.float32)
    weights[: spec.n_radial] = np.sqrt(spec.radii)[:, None]
    waves = _make_waves(n_harmonics, spec.n_azimuthal)
    spectra = np.empty((len(padded), n_harmonics, 2, n_padded), np.float32)
    run_rows(
        match_coefficients.transform,
        len(padded),
        np.ascontiguousarray(padded),
        spec.n_azimuthal,
        weights,
        waves,
        spectra,
        rows=_share(len(padded), match_coefficients.SIDE_BY_SIDE),
    )
    return spectra


def match_spectra(
    spectra: np.ndarray, library: MatchLibrary, *, n_best: int = N_CANDIDATES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct orientations of highest correlation; see `match_descriptors`.

    `spectra` are `transform`'s. A GPU compares where TensorFlow has one, else the processor.
    """
    if has_gpu() and not _refusals:
        try:
            return matching_device.match_on_device(spectra, library, n_best, DISTINCT_COSINE)
        except Exception as error:  # of any kind: memory that another process took, a driver
            _refusals.append(str(error))
            _logger.warning("Matching on the GPU failed (%s); the processor does it", error)
    quaternions = np.zeros((len(spectra), n_best, 4))
    scores = np.zeros((len(spectra), n_best), np.float32)
    n_groups = -(-len(spectra) // kernel.GROUP)
    run_rows(
        kernel.match,
        n_groups,
        *_arguments(spectra, library),
        *kernel.make_tables(library.n_angles, library.n_harmonics // 2),
        library.n_angles,
        DISTINCT_COSINE,
        quaternions,
        scores,
        rows=min(kernel.GROUPS_PER_TASK, _share(n_groups)),
    )
    return quaternions, scores


def score_spectra(
    spectra: np.ndarray, library: MatchLibrary, quaternions: np.ndarray
) -> np.ndarray:
    """Return the correlation of orientations (n, k, 4) at the nearest points of the grid, (n, k).

    What `match_spectra` would give had it looked at these only; 0 for all-zero orientations.
    """
    quaternions = np.ascontiguousarray(quaternions, np.float64)
    scores = np.zeros(quaternions.shape[:2], np.float32)
    arguments = _arguments(spectra, library)
    run_rows(kernel.score, len(spectra), *arguments, library.n_angles, quaternions, scores)
    return scores


def score_everywhere(spectra: np.ndarray, library: MatchLibrary) -> np.ndarray:
    """Return all correlations of one pattern, shape (2, n_templates, n_angles).

    Of templates and of their mirror images, turned by whole steps of ``360 / n_angles`` degrees.
    For looking at one pattern: `match_spectra` is a thousand times as fast.
    """
    harmonics = order_harmonics(library.n_harmonics)
    pattern = spectra[0, :, 0] + 1j * spectra[0, :, 1]
    tiles = library.coefficients.reshape(len(library.coefficients), -1, 2, kernel.TILE)
    templates = (tiles[:, :, 0] + 1j * tiles[:, :, 1]).transpose(0, 2, 1)
    templates = templates.reshape(-1, templates.shape[2])[: library.n_templates]
    angles = 2 * np.pi * np.arange(library.n_angles) / library.n_angles
    waves = np.exp(1j * np.outer(harmonics, angles))
    ends = np.cumsum(library.ranks)
    products = np.empty((2, library.n_templates, len(harmonics)), complex)
    for h, (end, rank) in enumerate(zip(ends, library.ranks, strict=True)):
        projected = pattern[h] @ library.bases[h, :, :rank]
        ours = templates[:, end - rank : end]
        products[0, :, h], products[1, :, h] = ours.conj() @ projected, ours @ projected
    return (products @ waves).real


def _arguments(spectra: np.ndarray, library: MatchLibrary) -> tuple:
    """Return what the kernel's functions take first."""
    return (
        np.ascontiguousarray(spectra),
        library.bases,
        library.coefficients,
        library.ranks,
        library.references,
        library.symmetry,
    )


def match_descriptors(
    descriptors: np.ndarray,
    library: MatchLibrary,
    spec: DescriptorSpec,
    *,
    n_best: int = N_CANDIDATES,
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
    spectra = transform(descriptors, spec, n_harmonics=library.n_harmonics)
    return match_spectra(spectra, library, n_best=n_best)


@cache
def _make_waves(n_harmonics: int, n_azimuthal: int) -> np.ndarray:
    """Return cosines and negative sines (4, n_harmonics / 2, n_folded) for `transform`.

    Of even harmonics, and of odd ones, scaled as `take_harmonics` does.
    """
    n_folded = n_azimuthal if n_azimuthal % 2 else n_azimuthal // 4 + 1
    harmonics = order_harmonics(n_harmonics).reshape(2, 1, -1, 1)
    angles = 2 * np.pi * harmonics * np.arange(n_folded) / n_azimuthal
    waves = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)
    waves = waves.reshape(4, n_harmonics // 2, n_folded)
    return (np.sqrt(2 / n_azimuthal) * waves).astype(np.float32)


def _share(n: int, unit: int = 1) -> int:
    """Return a thread's share of n rows, a multiple of what is done at once."""
    return -(-n // (max(1, numba.get_num_threads()) * unit)) * unit or unit
