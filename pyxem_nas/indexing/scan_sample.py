"""A sample of a scan's patterns with their orientations, refined together.

Owns `ScanPatterns` and the refinement of one block of patterns. Where the orientations come from,
a map or a first indexing, belongs to whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyxem_nas.diffraction import Acquisition, Reflections
from pyxem_nas.indexing.block import KERNEL_LOCK
from pyxem_nas.indexing.candidates import with_twins
from pyxem_nas.indexing.judging import rank_candidates
from pyxem_nas.indexing.refinement import mark_unseen, refine_candidates
from pyxem_nas.indexing.tilt import correct_tilts
from pyxem_nas.patterns import (
    DescriptorSpec,
    Detector,
    PolarSampler,
    compute_descriptors,
    make_sampler,
    to_native,
)

__all__ = [
    "SCORES",
    "RefinementPlan",
    "ScanPatterns",
    "correct_scan",
    "refine_block",
    "refine_sample",
]

#: Scores of a refined position, properties of its map.
SCORES = ("correlation", "reliability", "twin_reliability")


@dataclass(frozen=True, eq=False)
class RefinementPlan:
    """All that a block needs beside its patterns, centres and orientations."""

    sampler: PolarSampler
    spec: DescriptorSpec
    reflections: Reflections
    symmetry: tuple[np.ndarray, ...]
    acquisition: Acquisition


@dataclass(frozen=True, eq=False)
class ScanPatterns:
    """Patterns, and what a map says of each of them."""

    patterns: Any  # (n, ny, nx), eager or dask
    centers: np.ndarray  # (n, 2)
    phase_id: np.ndarray  # (n,), the bundle's, -1 where there is nothing to refine
    quaternions: np.ndarray  # (n, n_best, 4), in the detector's frame
    detector: Detector
    plan: RefinementPlan = field(repr=False)


def correct_scan(scan: ScanPatterns, matrix: np.ndarray, shift: np.ndarray) -> ScanPatterns:
    """Return a scan or sample with another distortion and shifted centres."""
    old = scan.detector
    detector = Detector(old.shape, old.scale, matrix, old.flip, old.mask)
    plan = scan.plan
    plan = RefinementPlan(
        make_sampler(detector, plan.spec), plan.spec, plan.reflections, plan.symmetry,
        plan.acquisition,
    )  # fmt: skip
    centers = (scan.centers + shift).astype(np.float32)
    return ScanPatterns(scan.patterns, centers, scan.phase_id, scan.quaternions, detector, plan)


def refine_block(
    patterns: np.ndarray,
    centers: np.ndarray,
    phase_id: np.ndarray,
    quaternions: np.ndarray,
    plan: RefinementPlan,
    *,
    tilt: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return refined orientations (n, n_best, 4) and scores (n, 3) of a block of patterns.

    The scores are those of the highest correlation; with `tilt` the orientations are corrected
    after that (`tilt.correct_tilts`).
    """
    refined = quaternions.copy()
    scores = np.full((len(patterns), len(SCORES)), np.nan)
    # numba's threads are not safe to start from two threads of dask at once
    with KERNEL_LOCK:
        for k in np.unique(phase_id[phase_id >= 0]):
            rows = np.flatnonzero(phase_id == k)
            (polar,) = compute_descriptors(to_native(patterns[rows]), centers[rows], plan.sampler)
            polar = mark_unseen(polar, centers[rows], plan.sampler, plan.spec)
            optics = {
                "spec": plan.spec,
                "wavelength": plan.acquisition.wavelength,
                "precession_angle": plan.acquisition.precession_angle,
            }
            found, correlation, *_ = refine_candidates(
                polar,
                np.concatenate(
                    [quaternions[rows], with_twins(quaternions[rows, :1])[:, 1:]], axis=1
                ),
                plan.reflections,
                k,
                **optics,
            )
            refined[rows] = found[:, :-1]
            if tilt:
                refined[rows] = correct_tilts(polar, refined[rows], plan.reflections, k, **optics)
            first = np.zeros(correlation.shape)
            first[:, 0] = 1
            answers = rank_candidates(found, first, correlation, plan.symmetry[k])
            scores[rows] = np.stack([answers[name] for name in SCORES], axis=1)
    return refined, scores


def refine_sample(part: ScanPatterns) -> tuple[np.ndarray, np.ndarray]:
    """Return refined orientations (n, 1, 4) and correlations (n,) of a sample in memory."""
    refined, scores = refine_block(
        part.patterns, part.centers, part.phase_id, part.quaternions, part.plan, tilt=False
    )
    return refined, np.nan_to_num(scores[:, 0])
