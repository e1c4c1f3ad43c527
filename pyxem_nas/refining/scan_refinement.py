"""The patterns of a scan and what a crystal map says of each: one frame, one order.

Owns the checks that map, scan and bundle fit one another. What is made of it belongs to
`map_refinement` and `distortion_fit`, the refinement of a block to `indexing.scan_sample`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyxem_nas.bundles import ModelBundle
from pyxem_nas.diffraction import get_reflections, laue_operations, multiply_quaternions
from pyxem_nas.indexing import RefinementPlan, ScanPatterns, get_refinement_spec
from pyxem_nas.maps import NOT_INDEXED, get_geometry
from pyxem_nas.patterns import Detector, get_acquisition, get_centers, get_scale
from pyxem_nas.signals import get_bundle, get_sampler

if TYPE_CHECKING:
    from orix.crystal_map import CrystalMap


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
    found_centers, found_distortion = get_geometry(xmap)
    distortion = found_distortion if distortion is None else distortion
    if center is None and found_centers is not None:
        center = found_centers.reshape(*nav_shape, 2)
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
