"""The patterns of a scan and what a crystal map says of each: one frame, one order.

Owns `ScanPatterns` and the checks that map, scan and bundle fit one another, and the refinement of
one block of patterns. What is made of it belongs to `map_refinement` and `distortion_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import (
    Acquisition,
    Reflections,
    get_reflections,
    laue_operations,
    multiply_quaternions,
)
from pyxem_nas.indexing import (
    KERNEL_LOCK,
    get_refinement_spec,
    mark_unseen,
    rank_candidates,
    refine_candidates,
    with_twins,
)
from pyxem_nas.maps import NOT_INDEXED
from pyxem_nas.patterns import (
    DescriptorSpec,
    Detector,
    PolarSampler,
    compute_descriptors,
    get_acquisition,
    get_centers,
    get_scale,
    make_sampler,
    to_native,
)
from pyxem_nas.signals import get_bundle, get_sampler

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap

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


def open_scan(
    s, xmap, bundle, center, mask, detector_flip, scan_rotation, acquisition, distortion
) -> ScanPatterns:
    """Check what the user gave and bring it into one frame and order."""
    bundle = get_bundle(bundle)
    nav_shape = s.axes_manager._navigation_shape_in_array
    n = int(np.prod(nav_shape))
    whole = xmap.is_in_data.all()
    if xmap.is_in_data.size != n or (
        whole and n > 1 and _squeeze(xmap.shape) != _squeeze(nav_shape)
    ):
        found = xmap.shape if whole else f"{xmap.is_in_data.size} positions"
        raise ValueError(
            f"the map ({found}) and the scan {nav_shape} have different shapes; crop one with "
            "xmap[...] or s.inav[...]"
        )
    known = get_acquisition(s, bundle.acquisition) if acquisition is None else acquisition
    scale = get_scale(s, known.beam_energy)
    spec = get_refinement_spec(bundle.spec)
    sampler = get_sampler(s, scale, mask, detector_flip, distortion, (spec,))
    plan = RefinementPlan(
        sampler=sampler,
        spec=spec,
        reflections=get_reflections(bundle.phases),
        symmetry=tuple(laue_operations(p) for p in bundle.phases),
        acquisition=known,
    )
    data = s.data if s.data.ndim > 2 else s.data[None]
    quaternions = np.zeros((n, xmap.rotations_per_point, 4))
    rotations = xmap.rotations.data.reshape(-1, xmap.rotations_per_point, 4)
    quaternions[xmap.is_in_data] = multiply_quaternions(rotations, about_beam(-scan_rotation))
    return ScanPatterns(
        patterns=data,
        centers=get_centers(s, center, scale).reshape(-1, 2),
        phase_id=_match_phases(xmap, bundle),
        quaternions=quaternions,
        detector=Detector(sampler.detector_shape, scale, distortion, detector_flip, mask),
        plan=plan,
    )


def _squeeze(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without axes of length 1, which orix leaves out."""
    return tuple(n for n in shape if n > 1)


def about_beam(angle: float) -> np.ndarray:
    """Return the quaternion that takes rotations into the scan's frame, `angle` in degrees."""
    half = -np.deg2rad(angle) / 2
    return np.array([np.cos(half), 0, 0, np.sin(half)])


def _match_phases(xmap: CrystalMap, bundle: ModelBundle) -> np.ndarray:
    """Return the bundle's phase at all positions, -1 where not indexed or not in the data."""
    known = {name: k for k, name in enumerate(bundle.phase_names)}
    ids = [int(i) for i in np.unique(xmap.phase_id) if i != NOT_INDEXED]
    foreign = [xmap.phases[i].name for i in ids if xmap.phases[i].name not in known]
    if foreign:
        raise ValueError(
            f"the map has phases {foreign!r} that the bundle does not have, it has "
            f"{bundle.phase_names!r}; rename them (xmap.phases[name].name = ...) or make a bundle "
            "with ModelBundle.from_phases"
        )
    number = {i: known[xmap.phases[i].name] for i in ids}
    phase_id = np.full(xmap.is_in_data.size, NOT_INDEXED)
    phase_id[xmap.is_in_data] = [number.get(int(i), NOT_INDEXED) for i in xmap.phase_id]
    return phase_id


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
) -> tuple[np.ndarray, np.ndarray]:
    """Return refined orientations (n, n_best, 4) and scores (n, 3) of a block of patterns."""
    refined = quaternions.copy()
    scores = np.full((len(patterns), len(SCORES)), np.nan)
    # numba's threads are not safe to start from two threads of dask at once
    with KERNEL_LOCK:
        for k in np.unique(phase_id[phase_id >= 0]):
            rows = np.flatnonzero(phase_id == k)
            (polar,) = compute_descriptors(to_native(patterns[rows]), centers[rows], plan.sampler)
            polar = mark_unseen(polar, centers[rows], plan.sampler, plan.spec)
            found, correlation, _ = refine_candidates(
                polar,
                np.concatenate(
                    [quaternions[rows], with_twins(quaternions[rows, :1])[:, 1:]], axis=1
                ),
                plan.reflections,
                k,
                spec=plan.spec,
                wavelength=plan.acquisition.wavelength,
                precession_angle=plan.acquisition.precession_angle,
            )
            refined[rows] = found[:, :-1]
            first = np.zeros(correlation.shape)
            first[:, 0] = 1
            answers = rank_candidates(found, first, correlation, plan.symmetry[k])
            scores[rows] = np.stack([answers[name] for name in SCORES], axis=1)
    return refined, scores
